"""Forward pass of an adapted Swin: ms per image for 1 to 4 tasks, beside the machine's own 2048³ matrix product.

    python -m benchmarks.bench_forward [--backbone swin_tiny_patch4_window7_224] [--size 448] [--rank 64] [--rounds 7]

The baseline is MTLoRA written out plainly (benchmarks/baselines): a loop over tasks, unmerged pairs, everything
upsampled, always all tasks. Weights are random, of the size that training gives them: with large ones attention is so
sharp that denormal numbers slow everything down.
"""

import argparse
import os

from benchmarks.harness import OtherLoad, interleaved, median_ms, save

MATRIX_SIDE = 2048


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="swin_tiny_patch4_window7_224", help="timm name; random weights")
    parser.add_argument("--size", type=int, default=448, help="input side in pixels")
    parser.add_argument("--rank", type=int, default=64, help="rank of all pairs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round: shows that it works, not how fast")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def main() -> None:
    options = parse()
    import torch

    from mtlora.backbone import import_backbone
    from mtlora.spec import AdapterSpec, TaskSpec
    from tests.factories import PASCAL_TASKS, make_model, oracle_of

    torch.set_num_threads(options.threads)
    backbone = import_backbone(options.backbone, pretrained=False)
    ranks = (options.rank,) * 4
    tasks = tuple(TaskSpec.make(task, ranks=ranks) for task in PASCAL_TASKS)
    spec = AdapterSpec(backbone=backbone.spec, image_size=options.size, tasks=tasks, ranks=ranks)
    model = make_model(backbone, spec)
    plain = oracle_of(model)
    x = torch.randn(1, 3, options.size, options.size)
    a, b = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE).unbind()

    cases = {f"{n} task{'s' * (n > 1)}": (lambda n=n: model(x, PASCAL_TASKS[:n])) for n in range(1, 5)}
    cases |= {"plain, 4 tasks": lambda: plain(x), "matmul 2048": lambda: a @ b}
    with torch.inference_mode(), OtherLoad() as load:
        seconds = interleaved(cases, rounds=1 if options.quick else options.rounds)
    medians = {name: median_ms(values) for name, values in seconds.items()}

    rate = 2 * MATRIX_SIDE**3 / medians["matmul 2048"] / 1e6
    print(f"{options.backbone}, {options.size} px, rank {options.rank}, batch 1, {options.threads} threads, "
          f"torch {torch.__version__}, allocator {os.environ.get('MALLOC_TOP_PAD_', 'default')}")  # fmt: skip
    print(f"2048³ product: {medians['matmul 2048']:.1f} ms, {rate:.0f} GFLOP/s")
    for name, value in medians.items():
        low, high = 1e3 * min(seconds[name]), 1e3 * max(seconds[name])
        print(f"  {name:16} {value:8.1f} ms   ({low:.1f} to {high:.1f})")
    if load.warning():
        print(load.warning())
    baseline = medians["plain, 4 tasks"]
    save(
        "bench_forward_quick" if options.quick else "bench_forward",
        {
            "forward.one_task": baseline / medians["1 task"],
            "forward.four_tasks": baseline / medians["4 tasks"],
            "forward.four_tasks_over_matmul": medians["4 tasks"] / medians["matmul 2048"],
        },
        options=vars(options),
        median_ms=medians,
        other_load=round(load.share, 3),
    )


if __name__ == "__main__":
    main()
