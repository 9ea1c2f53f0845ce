"""Where the time of a forward pass goes: the merged form, four tasks, Swin-T at 448 px, batch 1; medians by call.

python -m benchmarks.forward_parts [--threads 2] [--rounds 9]
"""

import argparse
import functools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.bench_forward import runner
from benchmarks.sets import FOUR_TASKS, paper_spec, random_set
from mtlora.inference.backends import cpu
from mtlora.inference.backends.choose import make_backend
from mtlora.inference.forward import encoder, stage
from mtlora.vocabulary.options import FormKind
from mtlora.weights.backbone import import_backbone

SIZE, RANK, TASK_RANK = 448, 64, 4
PARTS = (
    (encoder, ("_patches", "_merge", "_merged_map", "_last_map")),
    (stage, ("_run_fused",)),
    (cpu, ("encode", "_decode")),
)


def timed(
    module: Any, name: str, seconds: dict[str, list[float]], clock: Callable[[], float] = time.perf_counter
) -> None:
    """Put a clock around a function of a module."""
    function = getattr(module, name)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        begin = clock()
        result = function(*arguments)
        seconds[name].append(clock() - begin)
        return result

    setattr(module, name, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = import_backbone("swin_tiny_patch4_window7_224", pretrained=False)
    adapter = random_set(backbone, paper_spec(backbone, SIZE, RANK, TASK_RANK), 0)
    run = runner(make_backend(backbone, FormKind.MERGED), [adapter], torch.randn(1, 3, SIZE, SIZE), FOUR_TASKS)
    seconds: dict[str, list[float]] = defaultdict(list)
    for module, names in PARTS:
        for name in names:
            timed(module, name, seconds)
    with torch.inference_mode():
        for _ in range(3):
            run()
        seconds.clear()
        for _ in range(options.rounds):
            begin = time.perf_counter()
            run()
            seconds["all"].append(time.perf_counter() - begin)
    for name, values in seconds.items():
        calls = len(values) // options.rounds
        medians = [1e3 * statistics.median(values[call::calls]) for call in range(calls)]
        print(f"  {name:12} {sum(medians):7.1f} ms  {', '.join(f'{ms:.1f}' for ms in medians) if calls > 1 else ''}")


if __name__ == "__main__":
    main()
