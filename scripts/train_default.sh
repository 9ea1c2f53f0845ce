#!/bin/sh
# Make the bundled weights: backbone, then both sets. Resumable: run it again after any interruption.
# usage: scripts/train_default.sh DATA UNLABELLED [OUT]   (photos-v1, a folder of more photos, default runs/bundled)
set -eu
data=${1:?folder of the labelled dataset}
unlabelled=${2:?folder of unlabelled photos}
out=${3:-runs/bundled}
mtlora=${MTLORA:-.venv/bin/mtlora}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

pretrain() {
    "$mtlora" pretrain --data "$data" --unlabelled "$unlabelled" --name mtlora-swin-6m --processes 2 --device cpu --resume "$@"
}
pretrain --out "$out/a" --image-size 112 --batch 32 --steps 900 --lr 1.5e-3 --final-lr 0 --warmup 100 --hold 1 --ema 0.998
pretrain --out "$out/b" --init "$out/a" --image-size 112 --batch 32 --steps 250 --lr 1.5e-3 --final-lr 0.1 --warmup 10 --ema 0.99
pretrain --out "$out/c" --init "$out/b" --image-size 112 --batch 32 --steps 360 --lr 1e-3 --final-lr 0.1 --warmup 10 --ema 0.99 --seed 1
pretrain --out "$out/d" --init "$out/c" --image-size 224 --batch 16 --steps 90 --lr 6e-4 --final-lr 0.0333 --warmup 5 --ema 0.96

# The float16 file is what is served, so the sets are trained on it.
adapt() {
    "$mtlora" train --data "$data" --backbone "$out/d/backbone.safetensors" --init "$out/d" --device cpu --resume \
        --decoder-channels 16,24,40,64 --batch 8 --label-stride 2 --drop-path 0.05 --lr 5e-4 --warmup 5 --ema 0.95 \
        --class-balance 0.3 --jitter 0.2 --loss-weights semseg=1,human_parts=1.5,saliency=2.5,normals=4 "$@"
}
adapt --name default --steps 75 --out "$out/default"
adapt --name people --steps 100 --out "$out/people" --tasks semseg,human_parts --semseg-classes background,person

mkdir -p "$out/adapters"
cp "$out/d/backbone.safetensors" "$out/adapters/backbone.safetensors"
cp "$out/default/adapter.safetensors" "$out/adapters/default.safetensors"
cp "$out/people/adapter.safetensors" "$out/adapters/people.safetensors"
for name in default people; do
    MTLORA_ADAPTERS=$out/adapters "$mtlora" evaluate --data "$data" --split val --adapter "$name" --json > "$out/$name.json"
done
