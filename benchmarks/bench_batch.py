"""Batches: time of one image in micro-batches of 1, 2, 4 and 8, of one set, and of 2 and 4 sets in one batch.

    python -m benchmarks.bench_batch [--weights bundled] [--form auto] [--rounds 7]

Ratios to a batch of one, from interleaved rounds: by the clock, and by the processor time of this process, which other
processes on the machine disturb less. Below 1 a batch gains something.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import OtherLoad, save

SIZES = (1, 2, 4, 8)
MIXED_SIZES = (2, 4)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="bundled", help="bundled (224 px), or tiny448: Swin-T, rank 64, random")
    parser.add_argument("--form", default="auto", help="form of residency: auto, merged, lowrank or plain")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def cases(options: argparse.Namespace) -> tuple[str, dict[str, Callable[[], object]]]:
    """Name of the form, and by case what runs it: grouped as the engine would group it."""
    import torch

    from benchmarks.sets import make_weights
    from mtlora.inference import Query, make_backend
    from mtlora.vocabulary.options import FormKind
    from mtlora.weights.adapter_file import load_adapter
    from mtlora.weights.backbone import load_backbone

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = make_weights(Path(folder), max(MIXED_SIZES), options.weights)
        backend = make_backend(load_backbone(weights.backbone), FormKind(options.form), budget_bytes=4 << 30)
        sets = [load_adapter(weights.folder / f"{name}.safetensors") for name in weights.names]
    residents = [backend.prepare(adapter) for adapter in sets]
    spec = residents[0].spec
    pixels = torch.randn(3, spec.image_size, spec.image_size)

    def run(count: int, count_of_sets: int) -> None:
        groups: dict[object, list[Query[Any]]] = {}
        for image in range(count):
            query = Query(residents[image % count_of_sets], pixels, spec.task_names)
            groups.setdefault(backend.group(query), []).append(query)
        for group in groups.values():
            backend.forward(group)

    one_set: dict[str, Callable[[], object]] = {f"{n} of one set": partial(run, n, 1) for n in SIZES}
    return backend.name, one_set | {f"{n} of {n} sets": partial(run, n, n) for n in MIXED_SIZES}


def main() -> None:
    options = parse()
    name, runs = cases(options)
    wall: dict[str, list[float]] = {case: [] for case in runs}
    processor: dict[str, list[float]] = {case: [] for case in runs}
    with OtherLoad() as load:
        for round_ in range(options.rounds + 1):  # the first warms up
            for case, run in runs.items():
                start = time.perf_counter(), time.process_time()
                run()
                images = int(case.split()[0])
                if round_:
                    wall[case].append((time.perf_counter() - start[0]) / images)
                    processor[case].append((time.process_time() - start[1]) / images)
    medians = {case: (statistics.median(wall[case]), statistics.median(processor[case])) for case in runs}
    first = next(iter(medians.values()))
    print(f"form {name}, weights {options.weights}, all tasks, {options.threads} threads")
    for case, (seconds, busy) in medians.items():
        print(f"  {case:14} {1e3 * seconds:7.0f} ms, {1e3 * busy:7.0f} ms of processors per image; "
              f"{seconds / first[0]:.2f} and {busy / first[1]:.2f} of one alone")  # fmt: skip
    if load.warning():
        print(load.warning())
    figures = {f"batch.{case.replace(' ', '_')}": busy / first[1] for case, (_, busy) in medians.items()}
    milliseconds = {case: [round(1e3 * value, 1) for value in pair] for case, pair in medians.items()}
    save("bench_batch", figures, form=name, options=vars(options), ms=milliseconds, other_load=round(load.share, 3))


if __name__ == "__main__":
    main()
