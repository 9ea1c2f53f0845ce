"""The table of a comparison, as the paper has it, from finished runs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtlora.comparison.cells import Result
from mtlora.metrics import delta_m
from mtlora.metrics.delta import LOWER_IS_BETTER
from mtlora.training.adapters.methods import Method
from mtlora.vocabulary.tasks import Task

TITLES = {
    Method.SINGLE: "single task",
    Method.DECODERS: "decoders only",
    Method.FULL: "full fine-tuning",
    Method.BITFIT: "BitFit",
    Method.LORA: "LoRA (TA only)",
    Method.MTLORA: "MTLoRA",
    Method.MTLORA_PLUS: "MTLoRA+",
}
_UNITS = {
    Task.SEMSEG: "semseg mIoU",
    Task.HUMAN_PARTS: "human parts mIoU",
    Task.SALIENCY: "saliency IoU",
    Task.NORMALS: "normals °",
    Task.EDGE: "edge F",
    Task.DEPTH: "depth RMSE m",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A method at a rank.

    scores: one number per seed; deltas: delta_m in percent, one per seed; empty without single-task runs
    trained: parameters that were trained, for all tasks together
    """

    method: Method
    rank: int
    scores: dict[Task, list[float]]
    deltas: list[float]
    trained: int

    @property
    def title(self) -> str:
        """Method and rank."""
        return f"{TITLES[self.method]} r={self.rank}" if self.rank else TITLES[self.method]


def make_rows(results: Sequence[Result], tasks: Sequence[Task]) -> list[Row]:
    """A row per method and rank, in the order of `TITLES`; only seeds with scores of all tasks count."""
    found: dict[tuple[Method, int], dict[int, list[Result]]] = {}
    for result in results:
        key = (result.cell.method, result.cell.rank)
        found.setdefault(key, {}).setdefault(result.cell.seed, []).append(result)
    singles = _scores(found.get((Method.SINGLE, 0), {}), tasks)
    baseline = {task: statistics.fmean(values) for task, values in singles.items() if values}
    rows = []
    for method, rank in sorted(found, key=lambda key: (list(TITLES).index(key[0]), key[1])):
        seeds = found[method, rank]
        scores = _scores(seeds, tasks)
        count = min(len(values) for values in scores.values())
        if not count:
            continue
        each = [{task: values[i] for task, values in scores.items()} for i in range(count)]
        deltas = [_delta(one, baseline) for one in each] if len(baseline) == len(tasks) else []
        trained = sum(result.parameters["trained"] for result in next(iter(seeds.values())))
        rows.append(Row(method, rank, scores, [d for d in deltas if d is not None], trained))
    return rows


def _scores(seeds: Mapping[int, Sequence[Result]], tasks: Sequence[Task]) -> dict[Task, list[float]]:
    merged = [
        {task: score for result in results for task, score in result.scores.items()} for results in seeds.values()
    ]
    whole = [one for one in merged if all(task in one for task in tasks)]
    return {task: [one[task] for one in whole] for task in tasks}


def _delta(scores: Mapping[Task, float], baseline: Mapping[Task, float]) -> float | None:
    return delta_m(scores, baseline) if all(baseline.values()) else None


def markdown(rows: Sequence[Row], tasks: Sequence[Task]) -> str:
    """The table; with several seeds: mean and standard deviation."""
    arrows = {task: "↓" if task in LOWER_IS_BETTER else "↑" for task in tasks}
    header = ["method", *(f"{_UNITS[task]} {arrows[task]}" for task in tasks), "Δm %", "trained", "of full fine-tuning"]
    full = next((row.trained for row in rows if row.method is Method.FULL), None)
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows:
        share = f"{row.trained / full:.1%}" if full else ""
        cells = [
            row.title,
            *(_spread(row.scores[task], 2 if task is Task.NORMALS else 4) for task in tasks),
            _spread(row.deltas, 1, sign=True),
            f"{row.trained / 1e6:.3f} M",
            share,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int, *, sign: bool = False) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):{'+' if sign else ''}z.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def order_found(rows: Sequence[Row]) -> str:
    """Whether the paper's order appears: MTLoRA above LoRA of the same rank, and above decoders only."""
    mean = {(row.method, row.rank): statistics.fmean(row.deltas) for row in rows if row.deltas}
    pairs = []
    for (method, rank), value in mean.items():
        if method is Method.MTLORA:
            others = [other for other in ((Method.LORA, rank), (Method.DECODERS, 0)) if other in mean]
            pairs += [(rank, TITLES[other[0]], value - mean[other]) for other in others]
    if not pairs:
        return "No pair of runs to compare yet."
    held = sum(gap > 0 for _, _, gap in pairs)
    told = "; ".join(f"r={rank} against {other}: {gap:+.1f}" for rank, other, gap in pairs)
    return f"MTLoRA is ahead in {held} of {len(pairs)} comparisons (difference of Δm in points: {told})."
