#!/bin/sh
# Make the bundled weights: backbone, then the sets. Resumable: run it again after any interruption.
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
pretrain --out "$out/e" --init "$out/d" --image-size 224 --batch 16 --steps 500 --lr 1e-3 --final-lr 0.863 --hold 0.733 --warmup 20 --ema 0.99 --seed 2
pretrain --out "$out/f" --init "$out/e" --image-size 224 --batch 16 --steps 250 --lr 6e-4 --final-lr 0.02 --warmup 10 --ema 0.97 --seed 3

# The float16 file is what is served, so the sets are trained on it.
adapt() {
    "$mtlora" train --data "$data" --backbone "$out/f/backbone.safetensors" --init "$out/f" --device cpu --resume \
        --decoder-channels 16,24,40,64 --batch 8 --label-stride 2 --drop-path 0.05 --lr 5e-4 --warmup 5 --ema 0.95 \
        --class-balance 0.3 --jitter 0.2 --loss-weights semseg=1,human_parts=1.5,saliency=2.5,normals=4 "$@"
}
adapt --name default --steps 130 --out "$out/default"
adapt --name people --steps 90 --out "$out/people" --tasks semseg,human_parts --semseg-classes background,person
adapt --name cutout --steps 60 --out "$out/cutout" --tasks saliency --ranks 8,8,8,8

mkdir -p "$out/adapters"
cp "$out/f/backbone.safetensors" "$out/adapters/backbone.safetensors"
cp "$out/default/adapter.safetensors" "$out/adapters/default.safetensors"
cp "$out/people/adapter.safetensors" "$out/adapters/people.safetensors"
cp "$out/cutout/adapter.safetensors" "$out/adapters/cutout.safetensors"
for name in default people cutout; do
    MTLORA_ADAPTERS=$out/adapters "$mtlora" evaluate --data "$data" --split val --adapter "$name" --json > "$out/$name.json"
done
