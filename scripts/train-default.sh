#!/usr/bin/env bash
# The bundled weights, from photos to adapters/: what adapters/*.md say, in one go and resumable (run it again).
#   scripts/train-default.sh DATA UNLABELLED
# DATA: a dataset as docs/dataset-format.md describes it; UNLABELLED: a folder of photos, for distillation only.
set -euo pipefail
DATA=${1:?folder of the labelled dataset}
UNLABELLED=${2:?folder of unlabelled photos}
RUNS=${RUNS:-runs/default-weights}
MTLORA=${MTLORA:-.venv/bin/mtlora}
# One thread per process, and memory kept between operations: docs/training.md says why.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

pretrain() {
    "$MTLORA" pretrain --data "$DATA" --unlabelled "$UNLABELLED" --name mtlora-swin-6m --processes 2 --device cpu --resume "$@"
}
train() {
    "$MTLORA" train --data "$DATA" --backbone "$RUNS/d/backbone.safetensors" --init "$RUNS/d" \
        --decoder-channels 16,24,40,64 --batch 8 --label-stride 2 --drop-path 0.05 --lr 5e-4 --warmup 5 --ema 0.95 \
        --class-balance 0.3 --jitter 0.2 --loss-weights semseg=1,human_parts=1.5,saliency=2.5,normals=4 \
        --device cpu --resume "$@"
}

pretrain --out "$RUNS/a" --image-size 112 --batch 32 --steps 900 --lr 1.5e-3 --final-lr 0 --warmup 100 --hold 1 --ema 0.998
pretrain --out "$RUNS/b" --init "$RUNS/a" --image-size 112 --batch 32 --steps 250 --lr 1.5e-3 --final-lr 0.1 --warmup 10 --ema 0.99
pretrain --out "$RUNS/c" --init "$RUNS/b" --image-size 112 --batch 32 --steps 360 --lr 1e-3 --final-lr 0.1 --warmup 10 --ema 0.99 --seed 1
pretrain --out "$RUNS/d" --init "$RUNS/c" --image-size 224 --batch 16 --steps 90 --lr 6e-4 --final-lr 0.0333 --warmup 5 --ema 0.96
train --out "$RUNS/default" --name default --steps 75
train --out "$RUNS/people" --name people --steps 100 --tasks semseg,human_parts --semseg-classes background,person

# A backbone and the sets trained on it belong together: all three or none.
cp "$RUNS/d/backbone.safetensors" adapters/backbone.safetensors
cp "$RUNS/default/adapter.safetensors" adapters/default.safetensors
cp "$RUNS/people/adapter.safetensors" adapters/people.safetensors
