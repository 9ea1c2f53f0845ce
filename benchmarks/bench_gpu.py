"""Forward pass of an adapted Swin-T on a GPU: images a second by batch, beside the published way and a matrix product.

    python -m benchmarks.bench_gpu [--quick] [--rounds 15]

The baseline is MTLoRA written out plainly (benchmarks/baselines), its logits left on the GPU; ours end on the CPU, as
the service wants them. All cases take turns in one process; a figure is the median of the rounds' ratios.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.baselines import plain_mtlora
from benchmarks.bench_forward import Run, runner
from benchmarks.harness import interleaved, median_ms, save
from benchmarks.sets import FOUR_TASKS, paper_spec, random_set
from benchmarks.work import useful_gflop
from mtlora.inference import Backend, make_backend
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.backbone import import_backbone

BACKBONE = "swin_tiny_patch4_window7_224"
SIZE, RANK, TASK_RANK = 448, 64, 4
BATCHES = (1, 4, 16, 32)
MATRIX_SIDE = 8192
PRECISIONS = (Precision.FLOAT32, Precision.BFLOAT16)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one round: shows that it works, not how fast")
    return parser.parse_args()


def plain(spec: AdapterSpec, adapter: AdapterSet, backbone: Any, images: torch.Tensor, *, half: bool) -> Run:
    """The baseline on the GPU, float32 or in mixed precision; images come from the CPU."""
    state = {f"backbone.{name}": t for name, t in backbone.tensors.items()} | adapter.tensors
    model = plain_mtlora(spec, {name: t.to("cuda") for name, t in state.items()})

    def run() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            model(images.to("cuda"))
        torch.cuda.synchronize()

    return run


def product(dtype: torch.dtype) -> Run:
    """A matrix product that fills the GPU."""
    a, b = torch.randn(2, MATRIX_SIDE, MATRIX_SIDE, device="cuda").to(dtype).unbind()

    def run() -> None:
        a @ b
        torch.cuda.synchronize()

    return run


def cases(backbone: Any, spec: AdapterSpec) -> dict[str, Run]:
    """Everything that takes a turn, by name."""
    sets = [random_set(backbone, spec, seed) for seed in range(max(BATCHES))]
    images = torch.randn(max(BATCHES), 3, spec.image_size, spec.image_size).pin_memory()
    found: dict[str, Run] = {}
    for precision in PRECISIONS:
        half = precision is Precision.BFLOAT16
        found[f"{precision} matmul"] = product(torch.bfloat16 if half else torch.float32)
        backend = make_backend(backbone.to("cuda"), FormKind.LOWRANK, precision=precision)
        for count in BATCHES:
            x = images[:count]
            found[f"{precision} plain, {count}"] = plain(spec, sets[0], backbone, x, half=half)
            found[f"{precision} one set, {count}"] = runner(backend, sets[:1] * count, x, FOUR_TASKS)
            if count > 1:
                found[f"{precision} all different, {count}"] = runner(backend, sets[:count], x, FOUR_TASKS)
        merged = make_backend(backbone.to("cuda"), FormKind.MERGED, precision=precision)
        found[f"{precision} merged, 1"] = runner(merged, sets[:1], images[:1], FOUR_TASKS)
        found[f"{precision} merged, 16"] = runner(merged, sets[:1] * 16, images[:16], FOUR_TASKS)
        found[f"{precision} merged all different, 16"] = runner(merged, sets[:16], images[:16], FOUR_TASKS)
    return found


def figures(seconds: dict[str, list[float]], gflop: float) -> dict[str, float]:
    """The ratios that are quoted."""

    def ratio(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))

    found: dict[str, float] = {}
    for precision in PRECISIONS:
        work = 16 * gflop / (2 * MATRIX_SIDE**3 / 1e9)
        found |= {
            f"gpu.{precision}.four_tasks": ratio(f"{precision} plain, 1", f"{precision} one set, 1"),
            f"gpu.{precision}.four_tasks16": ratio(f"{precision} plain, 16", f"{precision} one set, 16"),
            f"gpu.{precision}.mixed16": ratio(f"{precision} all different, 16", f"{precision} one set, 16"),
            f"gpu.{precision}.roofline16": work * ratio(f"{precision} matmul", f"{precision} one set, 16"),
        }
    return found


def cold_ms(backend: Backend[Any], adapter: AdapterSet, rounds: int) -> float:
    """Time to bring a set from host memory to the device."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        backend.prepare(adapter)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median_ms(times)


def main() -> None:
    options = parse()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    backbone = import_backbone(BACKBONE, pretrained=False)
    spec = paper_spec(backbone, SIZE, RANK, TASK_RANK)
    gflop = useful_gflop(spec, FOUR_TASKS)
    with torch.inference_mode():
        seconds = interleaved(cases(backbone, spec), rounds=1 if options.quick else options.rounds, warmup=3)
    for name, values in seconds.items():
        size = name.rpartition(", ")[2]
        count = int(size) if size.isdigit() else 0
        rate = f"{count / statistics.median(values):8.0f} images/s" if count else ""
        print(f"  {name:36} {median_ms(values):8.2f} ms   ({1e3 * min(values):.2f} to {1e3 * max(values):.2f}) {rate}")
    facts = {}
    for precision in PRECISIONS:
        backend = make_backend(backbone.to("cuda"), FormKind.LOWRANK, precision=precision)
        facts[f"gpu.{precision}.set_mb"] = backend.device_bytes(spec) / 1e6
        facts[f"gpu.{precision}.cold_ms"] = cold_ms(backend, random_set(backbone, spec, 1), 5)
    save("bench_gpu_quick" if options.quick else "bench_gpu", figures(seconds, gflop) | facts, options=vars(options))


if __name__ == "__main__":
    main()
