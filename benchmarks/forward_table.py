"""How the cost of a forward pass grows: backbone, input side, tasks, sets that take turns; time and memory."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.harness import OtherLoad, interleaved, median_ms, save
from benchmarks.sets import FOUR_TASKS, paper_spec, random_set
from mtlora.inference import Backend, Query, make_backend
from mtlora.vocabulary.options import FormKind
from mtlora.weights.backbone import Backbone, import_backbone

BACKBONES = {"tiny": "swin_tiny_patch4_window7_224", "small": "swin_small_patch4_window7_224",
             "base": "swin_base_patch4_window7_224"}  # fmt: skip
SIDES, TASKS, SETS = (224, 448), (1, 2, 4), (1, 16, 64)
ROUNDS = 5
ROTATING = 4  # sets that take turns: their weights exceed the caches already, more would cost the same
RANK, TASK_RANK = 64, 4


def table(*, quick: bool = False) -> None:
    """Print a Markdown table, one row a backbone, side and number of tasks, and save what is in it.

    Time of many sets is that of sets taking turns, each with its weights to be fetched from main memory; memory is what
    that many sets take on the device beyond the backbone, by formula, which tests hold equal to what is allocated.
    """
    rows: dict[str, float] = {}
    with torch.inference_mode(), OtherLoad() as load:
        for name, timm_name in BACKBONES.items():
            backbone = import_backbone(timm_name, pretrained=False)
            for side in SIDES[: 1 if quick else None]:
                rows |= _rows(name, backbone, side, 1 if quick else ROUNDS)
    print(load.warning())
    columns = [
        "one set, ms",
        "sets in turn, ms",
        *(f"{n} merged, MB" for n in SETS),
        *(f"{n} low-rank, MB" for n in SETS),
    ]
    print("| backbone | px | tasks | " + " | ".join(columns) + " |")
    print("|" + "---|" * (3 + len(columns)))
    for name, side, count in itertools.product(BACKBONES, SIDES[: 1 if quick else None], TASKS):
        values = [rows[f"{name} {side} {count} {column}"] for column in columns]
        print(f"| {name} | {side} | {count} | " + " | ".join(f"{value:,.0f}" for value in values) + " |")
    save("forward_table_quick" if quick else "forward_table", {}, rows=rows, other_load=round(load.share, 3))


def _rows(name: str, backbone: Backbone, side: int, rounds: int) -> dict[str, float]:
    rows: dict[str, float] = {}
    for count in TASKS:
        spec = paper_spec(backbone, side, RANK, TASK_RANK, count)
        forms = {str(kind): make_backend(backbone, kind) for kind in (FormKind.MERGED, FormKind.LOWRANK)}
        sets = [forms["merged"].prepare(random_set(backbone, spec, seed)) for seed in range(ROTATING)]
        x = torch.randn(3, side, side)
        cases = {
            "one set, ms": partial(_forward, forms["merged"], itertools.repeat(sets[0]), x, count),
            "sets in turn, ms": partial(_forward, forms["merged"], itertools.cycle(sets), x, count),
        }
        for column, seconds in interleaved(cases, rounds=rounds).items():
            rows[f"{name} {side} {count} {column}"] = round(median_ms(seconds), 1)
        for many, kind in itertools.product(SETS, (FormKind.MERGED, FormKind.LOWRANK)):
            label = "merged" if kind is FormKind.MERGED else "low-rank"
            rows[f"{name} {side} {count} {many} {label}, MB"] = round(many * forms[kind].device_bytes(spec) / 1e6, 1)
    return rows


def _forward(backend: Backend[Any], turns: Iterator[Any], x: torch.Tensor, tasks: int) -> None:
    backend.forward([Query(next(turns), x, FOUR_TASKS[:tasks])])
