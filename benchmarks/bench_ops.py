"""Operations of the inference engine: native kernels beside plain torch, on the shapes of Swin-T at 448 px, four tasks.

    python -m benchmarks.bench_ops [--threads 2] [--rounds 9] [--only NAME]

Both sides run interleaved in one process; medians. Native code must have been built (see docs/performance.md).
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import OtherLoad, interleaved, median_ms, save
from mtlora.kernels import status
from mtlora.ops import ops, torch_ops

SIDES, WIDTHS, HEADS, WINDOW, TASKS = (112, 56, 28, 14), (96, 192, 384, 768), (3, 6, 12, 24), 7, 4

Pair = tuple[Callable[[], Any], Callable[[], Any]]


def attention(stage: int) -> Pair:
    """Shifted windows: a mask that differs between the windows at the border and all others."""
    windows, tokens, heads = (SIDES[stage] // WINDOW) ** 2, WINDOW**2, HEADS[stage]
    qkv = torch.randn(windows, tokens, 3 * WIDTHS[stage])
    bias = torch.randn(windows, heads, tokens, tokens)
    scale = (WIDTHS[stage] // heads) ** -0.5
    q_shape = windows, tokens, 3, heads, -1

    def fused() -> Tensor:
        q, k, v = qkv.view(q_shape).permute(2, 0, 3, 1, 4).unbind(0)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        return out.transpose(1, 2).flatten(2)

    return lambda: ops.window_attention(qkv, bias, heads, scale), fused


def gelu(stage: int) -> Pair:
    x, bias = torch.randn(SIDES[stage] ** 2, 4 * WIDTHS[stage]), torch.randn(4 * WIDTHS[stage])
    return lambda: ops.gelu_(x, bias), lambda: torch_ops.gelu_(x, bias)


def task_mlp(stage: int, rank: int) -> Pair:
    tokens, hidden = SIDES[stage] ** 2, 4 * WIDTHS[stage]
    frozen, u = torch.randn(tokens, hidden), torch.randn(TASKS, tokens, rank)
    b1, a2 = torch.randn(TASKS, rank, hidden).mT, torch.randn(TASKS, rank, hidden)
    return lambda: ops.task_mlp(frozen, u, b1, a2), lambda: torch_ops.task_mlp(frozen, u, b1, a2)


def lowrank_add(stage: int, rank: int) -> Pair:
    tokens, width = SIDES[stage] ** 2, WIDTHS[stage]
    base, residual, u = torch.randn(tokens, width), torch.randn(tokens, width), torch.randn(TASKS, tokens, rank)
    b = torch.randn(TASKS, rank, width).mT
    return lambda: ops.lowrank_add(base, residual, u, b), lambda: torch_ops.lowrank_add(base, residual, u, b)


def layer_norm_tasks(stage: int, rank: int) -> Pair:
    width = WIDTHS[stage]
    x, a = torch.randn(TASKS, SIDES[stage] ** 2, width), torch.randn(TASKS, rank, width)
    arguments = x, torch.randn(width), torch.randn(width), 1e-5, a
    return lambda: ops.layer_norm_tasks(*arguments), lambda: torch_ops.layer_norm_tasks(*arguments)


def merged_projection(stage: int) -> Pair:
    width, tokens = WIDTHS[stage], SIDES[stage] ** 2
    streams, gather = torch.randn(TASKS, tokens, width), torch.randperm(tokens)
    projection = torch.randn(TASKS, 4 * width, 18 << stage).mT
    arguments = streams, gather, torch.randn(4 * width), torch.randn(4 * width), 1e-5, projection
    return lambda: ops.merged_projection(*arguments), lambda: torch_ops.merged_projection(*arguments)


def mix_head(outputs: int) -> Pair:
    """The decoder hrnet, its two coarsest maps side by side."""
    channels, hidden = (18, 36, 216), 1080
    maps = [torch.randn(1, side, side, width) for side, width in zip(SIDES[1:], channels, strict=True)]
    mix = [torch.randn(width, hidden).T for width in channels]
    arguments = maps, mix, torch.randn(hidden), torch.randn(outputs, hidden), torch.randn(outputs)
    return lambda: ops.mix_head(*arguments), lambda: torch_ops.mix_head(*arguments)


def cases() -> dict[str, Pair]:
    """Native and plain, by name."""
    found = {f"mix_head {outputs} outputs": mix_head(outputs) for outputs in (1, 7, 21)}
    found |= {f"merged_projection stage {stage}": merged_projection(stage) for stage in range(3)}
    for stage in range(4):
        found[f"window_attention stage {stage}"] = attention(stage)
        found[f"gelu stage {stage}"] = gelu(stage)
        for rank in (4, 16, 64):
            found[f"task_mlp stage {stage} rank {rank}"] = task_mlp(stage, rank)
            found[f"lowrank_add stage {stage} rank {rank}"] = lowrank_add(stage, rank)
            found[f"layer_norm_tasks stage {stage} rank {rank}"] = layer_norm_tasks(stage, rank)
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="part of a case's name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{status().reason}; {options.threads} threads, torch {torch.__version__}")
    chosen = {name: pair for name, pair in cases().items() if options.only in name}
    figures, medians = {}, {}
    with torch.inference_mode(), OtherLoad() as load:
        for name, (native, plain) in chosen.items():
            seconds = interleaved({"native": native, "torch": plain}, rounds=options.rounds)
            ours, theirs = median_ms(seconds["native"]), median_ms(seconds["torch"])
            medians[name] = {"native": ours, "torch": theirs}
            figures[f"ops.{name.replace(' ', '_')}"] = theirs / ours
            print(f"  {name:36} torch {theirs:8.2f} ms   native {ours:8.2f} ms   {theirs / ours:5.2f} x")
    if load.warning():
        print(load.warning())
    if not options.only:
        save("bench_ops", figures, options=vars(options), median_ms=medians, other_load=round(load.share, 3))


if __name__ == "__main__":
    main()
