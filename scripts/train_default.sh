#!/bin/sh
# Make the bundled weights: backbone, then the sets. Resumable: run it again after any interruption.
# usage: scripts/train_default.sh DATA UNLABELLED [OUT]   (photos-v1, a folder of more photos, default runs/bundled)
# The backbone takes six minutes on an H100 and days on a CPU; there DEVICE=cpu SHARE=0.05 makes a twentieth of its steps.
# The sets take an hour on two cores of a CPU.
set -eu
data=${1:?folder of the labelled dataset}
unlabelled=${2:?folder of unlabelled photos}
out=${3:-runs/bundled}
device=${DEVICE:-cuda}
mtlora=${MTLORA:-.venv/bin/mtlora}
export TIMM_FUSED_ATTN=2

steps() {
    awk -v steps="$1" -v share="${SHARE:-1}" 'BEGIN { n = int(steps * share); print (n < 1 ? 1 : n) }'
}

pretrain() {
    "$mtlora" pretrain --data "$data" --unlabelled "$unlabelled" --name mtlora-swin-6m --device "$device" --resume \
        --teacher live --semantic 0.5 --zoom 0.6,2.5 --jitter 0.4 --drop-path 0.1 --save-every 500 "$@"
}
pretrain --out "$out/a" --image-size 112 --batch 512 --steps "$(steps 800)" --lr 2e-3 --hold 1 --ema 0.998
pretrain --out "$out/b" --init "$out/a" --image-size 224 --batch 256 --steps "$(steps 1550)" --lr 2e-3 --final-lr 0.005 \
    --hold 0.2 --ema 0.998 --seed 1

# The float16 file is what is served, so the sets are trained on it; on a CPU, with the allocator told to keep its memory.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
adapt() {
    "$mtlora" train --recipe paper --data "$data" --backbone "$out/b/backbone.safetensors" --device cpu --resume --batch 16 \
        --decoder-channels 16,24,40,64 --label-stride 2 --drop-path 0.05 --class-balance 0.3 --jitter 0.2 \
        --loss-weights semseg=1,human_parts=1.5,saliency=2.5,normals=4 "$@"
}
adapt --name default --steps 250 --lr 1e-3 --final-lr 0.7 --ema 0.98 --out "$out/first"
finish() {
    adapt --init "$out/first" --lr 6e-4 --warmup 5 --ema 0.95 "$@"
}
finish --name default --steps 110 --out "$out/default"
finish --name people --steps 70 --out "$out/people" --tasks semseg,human_parts --semseg-classes background,person
finish --name cutout --steps 60 --out "$out/cutout" --tasks saliency --ranks 8,8,8,8

mkdir -p "$out/adapters"
cp "$out/b/backbone.safetensors" "$out/adapters/backbone.safetensors"
for name in default people cutout; do
    cp "$out/$name/adapter.safetensors" "$out/adapters/$name.safetensors"
    MTLORA_ADAPTERS=$out/adapters "$mtlora" evaluate --data "$data" --split val --adapter "$name" --json > "$out/$name.json"
done
