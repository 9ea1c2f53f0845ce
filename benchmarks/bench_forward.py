"""Forward pass of an adapted Swin: ms per image by number of tasks, beside the published way and a matrix product.

    python -m benchmarks.bench_forward [--quick] [--task-rank 64] [--table]

The baseline is MTLoRA written out plainly (benchmarks/baselines): a loop over tasks, unmerged pairs, everything
upsampled, always all tasks. All cases take turns in one process with one allocator; a figure is the median of the
rounds' ratios, so that load which comes and goes hits both sides alike.
`--table` measures instead how the cost grows with backbone, side, tasks and sets.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.baselines import plain_mtlora
from benchmarks.forward_table import table
from benchmarks.harness import OtherLoad, interleaved, median_ms, save
from benchmarks.sets import FOUR_TASKS, paper_spec, random_set
from benchmarks.work import useful_gflop
from mtlora.inference import Backend, Query, make_backend
from mtlora.kernels import status
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.backbone import Backbone, import_backbone

MATRIX_SIDE = 2048
ROOFLINE_GFLOP = 38.0  # of Swin-T, 448 px, four tasks: the least that was counted on; `benchmarks.work` counts more
SETS_IN_A_BATCH = 8

Run = Callable[[], Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="swin_tiny_patch4_window7_224", help="timm name; random weights")
    parser.add_argument("--size", type=int, default=448, help="input side in pixels")
    parser.add_argument("--rank", type=int, default=64, help="rank of the shared pairs")
    parser.add_argument("--task-rank", type=int, default=4, help="rank of the tasks' pairs; the paper has 4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round: shows that it works, not how fast")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="backbones x sides x tasks x sets instead")
    return parser.parse_args()


@contextmanager
def without_native() -> Iterator[None]:
    """Plain torch, as where nothing could be compiled."""
    before = os.environ.get("MTLORA_NATIVE")
    os.environ["MTLORA_NATIVE"] = "0"
    try:
        yield
    finally:
        os.environ.pop("MTLORA_NATIVE") if before is None else os.environ.update(MTLORA_NATIVE=before)


def runner(backend: Backend[Any], sets: Sequence[AdapterSet], images: torch.Tensor, tasks: Sequence[Task]) -> Run:
    """One image for each set, grouped as the service groups them."""
    prepared = {id(adapter): backend.prepare(adapter) for adapter in sets}
    queries = [Query(prepared[id(s)], pixels, tuple(tasks)) for s, pixels in zip(sets, images, strict=True)]
    groups: dict[Any, list[Query[Any]]] = {}
    for query in queries:
        groups.setdefault(backend.group(query), []).append(query)
    return lambda: [backend.forward(group) for group in groups.values()]


def forward_cases(backbone: Backbone, options: argparse.Namespace) -> dict[str, Run]:
    """Everything that takes a turn, by name."""
    spec = paper_spec(backbone, options.size, options.rank, options.task_rank)
    adapters = [random_set(backbone, spec, seed) for seed in range(SETS_IN_A_BATCH)]
    images = torch.randn(SETS_IN_A_BATCH, 3, options.size, options.size)
    state = {f"backbone.{name}": t for name, t in backbone.tensors.items()} | adapters[0].tensors
    plain = plain_mtlora(spec, state)
    merged, apart = (make_backend(backbone, kind) for kind in (FormKind.MERGED, FormKind.LOWRANK))
    a, b = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE).unbind()
    cases: dict[str, Run] = {"plain, 4 tasks": lambda: plain(images[:1]), "matmul 2048": lambda: a @ b}
    for count in (1, 2, 4):
        cases[f"{count} task{'s' * (count > 1)}"] = runner(merged, adapters[:1], images[:1], FOUR_TASKS[:count])
    integers = make_backend(backbone, FormKind.MERGED, precision=Precision.INT8)
    cases["4 tasks, int8"] = runner(integers, adapters[:1], images[:1], FOUR_TASKS)
    cases["4 tasks, low-rank form"] = runner(apart, adapters[:1], images[:1], FOUR_TASKS)
    cases["8 images, one set"] = runner(merged, adapters[:1] * SETS_IN_A_BATCH, images, FOUR_TASKS)
    cases["8 images, 8 sets"] = runner(merged, adapters, images, FOUR_TASKS)
    with without_native():
        torch_only = runner(make_backend(backbone, FormKind.MERGED), adapters[:1], images[:1], FOUR_TASKS)

    def run_torch_only() -> None:
        with without_native():
            torch_only()

    return cases | {"4 tasks, no native code": run_torch_only}


def figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The ratios that are quoted; every one is better the larger, but for mixed8."""

    def ratio(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))

    product_gflop = 2 * MATRIX_SIDE**3 / 1e9
    return {
        "forward.four_tasks": ratio("plain, 4 tasks", "4 tasks"),
        "forward.four_tasks_torch": ratio("plain, 4 tasks", "4 tasks, no native code"),
        "forward.one_task": ratio("plain, 4 tasks", "1 task"),
        "forward.int8": ratio("plain, 4 tasks", "4 tasks, int8"),
        "forward.roofline": ROOFLINE_GFLOP / product_gflop * ratio("matmul 2048", "4 tasks"),
        "forward.mixed8": ratio("8 images, 8 sets", "8 images, one set"),
    }


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, native: {status().reason}, "
          f"allocator {os.environ.get('MALLOC_TOP_PAD_', 'default')}")  # fmt: skip
    if options.table:
        table(quick=options.quick)
        return
    backbone = import_backbone(options.backbone, pretrained=False)
    cases = forward_cases(backbone, options)
    with torch.inference_mode(), OtherLoad() as load:
        seconds = interleaved(cases, rounds=1 if options.quick else options.rounds)
    medians = {name: median_ms(values) for name, values in seconds.items()}
    spec = paper_spec(backbone, options.size, options.rank, options.task_rank)
    print(f"{options.backbone}, {options.size} px, rank {options.rank}, task rank {options.task_rank}; "
          f"four tasks need {useful_gflop(spec, FOUR_TASKS):.1f} GFLOP")  # fmt: skip
    for name, value in medians.items():
        print(f"  {name:24} {value:8.1f} ms   ({1e3 * min(seconds[name]):.1f} to {1e3 * max(seconds[name]):.1f})")
    if load.warning():
        print(load.warning())
    name = "bench_forward" + ("" if options.task_rank == 4 else f"_task_rank_{options.task_rank}")
    save(
        f"{name}_quick" if options.quick else name,
        figures(seconds),
        options=vars(options),
        native=status().reason,
        median_ms=medians,
        other_load=round(load.share, 3),
    )


if __name__ == "__main__":
    main()
