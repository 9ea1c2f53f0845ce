"""The runs of a comparison: one folder each; a finished one is never run again."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlora.data.layout import open_dataset
from mtlora.evaluation.evaluate import evaluate
from mtlora.metrics import HEADLINE
from mtlora.prediction.adapted import build_adapted
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.adapters.methods import Method, spec_for, unfreeze_for
from mtlora.training.adapters.train import ADAPTER_FILE, BACKBONE_FILE, train
from mtlora.training.run.console import ConsoleReport
from mtlora.training.run.record import RECORD_FILE
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task, parse_task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone

SCORES_FILE = "scores.json"
CELLS_FOLDER = "cells"
_RANKED = (Method.LORA, Method.MTLORA, Method.MTLORA_PLUS)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a method at a rank (0: it has none) with a seed; `single` has one run per task."""

    method: Method
    rank: int
    seed: int
    task: Task | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [self.method.value.replace("+", "-plus"), f"r{self.rank}" if self.rank else "", self.task or ""]
        return "-".join([*filter(None, parts), f"s{self.seed}"])


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished cell has: headline scores, and parameters as `group_counts` gives them."""

    cell: Cell
    scores: dict[Task, float]
    parameters: dict[str, int]
    seconds: float


def plan(methods: Sequence[Method], ranks: Sequence[int], seeds: Sequence[int], tasks: Sequence[Task]) -> list[Cell]:
    """All cells, seed by seed, so that a comparison that is stopped has whole tables."""
    if not methods or not seeds or not tasks or (not ranks and any(m in _RANKED for m in methods)):
        raise TrainingError(f"nothing to compare: methods {methods}, ranks {ranks}, seeds {seeds}, tasks {tasks}")
    cells = []
    for seed in seeds:
        for method in methods:
            if method is Method.SINGLE:
                cells += [Cell(method, 0, seed, task) for task in tasks]
            else:
                cells += [Cell(method, rank, seed) for rank in (ranks if method in _RANKED else (0,))]
    return cells


def config_of(cell: Cell, base: TrainConfig, folder: Path) -> TrainConfig:
    """The settings of a cell: those of `base`, the method's spec, its rank and seed."""
    tasks = tuple(t for t in base.spec.tasks if cell.task in (None, t.task))
    rank = cell.rank or base.spec.ranks[0]
    shape = base.spec.model_copy(update={"tasks": tasks, "ranks": (rank,) * 4})
    return replace(
        base,
        spec=spec_for(cell.method, shape),
        method=cell.method.value,
        unfreeze=unfreeze_for(cell.method),
        loop=replace(base.loop, seed=cell.seed),
        name=cell.name,
        out=folder / CELLS_FOLDER / cell.name,
    )


def run_cells(
    cells: Sequence[Cell],
    base: TrainConfig,
    folder: Path,
    *,
    val_split: str,
    val_photos: int,
    say: Callable[[str], None],
) -> None:
    """Train and score what is not finished yet; each cell goes on from its own checkpoint."""
    for number, cell in enumerate(cells, start=1):
        config = config_of(cell, base, folder)
        if (config.out / SCORES_FILE).is_file():
            say(f"{number}/{len(cells)} {cell.name}: done before")
            continue
        started = time.monotonic()
        train(config, ConsoleReport(cell.name), resume=True)
        _score(cell, config, val_split, val_photos, time.monotonic() - started)
        say(f"{number}/{len(cells)} {cell.name}: {_in_words(read_result(cell, folder))}")


def _score(cell: Cell, config: TrainConfig, split: str, photos: int, seconds: float) -> None:
    """Score the written files as the service would run them; the file is written last, so it means `finished`."""
    own = config.out / BACKBONE_FILE
    backbone = load_backbone(own if own.is_file() else config.backbone).to(config.loop.device)
    model = build_adapted(backbone, load_adapter(config.out / ADAPTER_FILE))
    dataset = open_dataset(config.data, split, config.spec.task_names).spread(photos)
    reports = evaluate(model, dataset, config.spec.task_names)
    parameters = json.loads((config.out / RECORD_FILE).read_text(encoding="utf-8"))["parameters"]
    content: dict[str, Any] = {
        "method": cell.method.value,
        "rank": cell.rank,
        "seed": cell.seed,
        "photos": len(dataset),
        "seconds": round(seconds, 1),
        "parameters": parameters,
        "tasks": {task.value: report.to_plain() for task, report in reports.items()},
    }
    (config.out / SCORES_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_result(cell: Cell, folder: Path) -> Result | None:
    """The result of a cell, if it is finished."""
    path = folder / CELLS_FOLDER / cell.name / SCORES_FILE
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    scores = {parse_task(name): float(s[HEADLINE[parse_task(name)]]) for name, s in content["tasks"].items()}
    return Result(cell, scores, content["parameters"], content["seconds"])


def _in_words(result: Result | None) -> str:
    if result is None:
        return "no result"
    return ", ".join(f"{task.value} {HEADLINE[task]} {score:.4g}" for task, score in result.scores.items())
