"""Defaults of `mtlora train` against runs tuned by hand, on three small datasets: scores, processor and wall time.

python -m benchmarks.bench_training photos-v1 --out runs/small          # what is measured already is not run again

A run keeps the weights that were best on `val`; the table has the scores of `test`, which no run has seen.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import busy_seconds
from benchmarks.small_sets import SETS, SmallSet, Source, write_sets

DEFAULTS = "defaults"
STEPS = {"people-20": 100, "sky-60": 150, "birds-200": 250}
"""What the defaults choose; the alternatives are told in multiples of it."""

_HALF = ("--image-side", "112")
_COMMAND = (sys.executable, "-c", "from mtlora.cli.main import main; main()")


def alternatives(small: SmallSet) -> dict[str, list[str]]:
    """Options by the name of a variant."""
    steps = STEPS[small.name]
    return {
        DEFAULTS: [],
        "twice as long": ["--steps", f"{2 * steps}"],
        "twice the rate, no class balance": ["--lr", "2e-3", "--class-balance", "0"],
        "half the side, half the rate": [*_HALF, "--steps", f"{2 * steps}", "--lr", "5e-4"],
        "half the side, twice the rate": [*_HALF, "--steps", f"{2 * steps}", "--lr", "2e-3"],
        "half the side, no class balance": [*_HALF, "--steps", f"{2 * steps}", "--class-balance", "0"],
        "half the side, four times as long": [*_HALF, "--steps", f"{4 * steps}"],
    }


def measure(small: SmallSet, data: Path, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Train and score one variant."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = folder / "run"
    common = ["--data", str(data), "--tasks", "semseg", "--semseg-classes", ",".join(small.classes)]
    train = ["train", *common, "--out", str(run), "--cache", str(folder.parent / "cache"), "--device", "cpu", *options]
    spent = _call(train, folder / "train.log")
    adapter = str(run / "adapter.safetensors")
    evaluate = ["evaluate", "--data", str(data), "--split", "test", "--adapter", adapter, "--json"]
    _call(evaluate, folder / "evaluate.json")
    scores = json.loads((folder / "evaluate.json").read_text())["tasks"]["semseg"]
    recipe = json.loads((run / "run.json").read_text())["recipe"]["values"]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"options": list(options), "scores": scores, **spent, "recipe": recipe, "at": at}


def _call(arguments: Sequence[str], out: Path) -> dict[str, float]:
    """Run `mtlora`; its output goes to a file. Processor seconds are those of all its processes."""
    start, before, others = time.perf_counter(), os.times(), busy_seconds()
    with out.open("w") as file, out.with_suffix(".err").open("w") as errors:
        ended = subprocess.run([*_COMMAND, *arguments], stdout=file, stderr=errors, check=False)
    if ended.returncode:
        raise SystemExit(f"mtlora {' '.join(arguments)} ended with {ended.returncode}: see {out.with_suffix('.err')}")
    wall, after = time.perf_counter() - start, os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall, "cpu_s": own, "others_cores": (busy_seconds() - others - own) / wall}


def table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Markdown: a row per run; the share is that of the best run by hand."""
    lines = [
        "| set | run | steps | mIoU | of the best by hand | CPU minutes | wall minutes | cores others took |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        by_hand = [run["scores"]["miou"] for variant, run in runs.items() if variant != DEFAULTS]
        for variant, run in runs.items():
            score = run["scores"]["miou"]
            share = f"{score / max(by_hand):.1%}" if by_hand else ""
            minutes = f"{run['cpu_s'] / 60:.1f} | {run['wall_s'] / 60:.1f} | {run['others_cores']:.2f}"
            options = f" `{' '.join(run['options'])}`" if run["options"] else ""
            lines.append(
                f"| {name} | {variant}{options} | {run['recipe']['steps']} | {score:.3f} | {share} | {minutes} |"
            )
    return "\n".join(lines)


def read_results(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What is measured by now."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for small in SETS:
        for variant in alternatives(small):
            path = _folder(out, small, variant) / "result.json"
            if path.is_file():
                found.setdefault(small.name, {})[variant] = json.loads(path.read_text())
    return found


def _folder(out: Path, small: SmallSet, variant: str) -> Path:
    return out / small.name / variant.replace(",", "").replace(" ", "-")


def run_all(source: Source, out: Path, sets: Iterable[str], variants: Sequence[str]) -> None:
    """Measure what is missing, the defaults of all sets first, and print the table after every run."""
    data = write_sets(source, out / "data", sets)
    chosen = [small for small in SETS if small.name in data]
    for variant in variants:
        for small in chosen:
            folder = _folder(out, small, variant)
            if (folder / "result.json").is_file():
                continue
            result = measure(small, data[small.name], folder, alternatives(small)[variant])
            (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
            print(table(read_results(out)), flush=True)


def main() -> None:
    """Measure, or only print what is measured."""
    variants = list(alternatives(SETS[0]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="dataset that the small ones are made of: see small_sets")
    parser.add_argument("--out", type=Path, default=Path("runs/small"))
    parser.add_argument("--sets", nargs="*", default=[], choices=[small.name for small in SETS])
    parser.add_argument("--variants", nargs="*", default=variants, choices=variants)
    parser.add_argument("--table", action="store_true", help="print what is measured, run nothing")
    given = parser.parse_args()
    if not given.table:
        run_all(Source(given.source), given.out, given.sets, given.variants)
    print(table(read_results(given.out)))


if __name__ == "__main__":
    main()
