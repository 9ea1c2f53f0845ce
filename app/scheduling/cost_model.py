"""The cost model of a forward pass: guessed from the set's shape, corrected by what was measured.

Each set has estimates of its own: whatever makes it slower than others of its shape, its own flow pays for it. A set
that was not measured yet starts as the others of its shape do; of a shape that nobody measured, as all others do. Of
several the lower median counts, so that a slow set makes no other one look slow.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from statistics import median_low
from typing import NamedTuple

from app.core.names import AdapterRef
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

US_PER_PIXEL = (
    3.3  # two cores of a 2.5 GHz Xeon, see docs/performance.md; only ratios matter until something is measured
)
TASK_SHARE = 0.15  # what each task adds to the pass that all tasks share
NEVER_SKIPPED = 0.13  # of a pass: patch embedding, merging, decoders; `benchmarks.bench_compute`
SMOOTHING = 0.2
SETS_KEPT = 1024  # each with some tasks of it; those measured longest ago are forgotten

_Shape = tuple[AdapterSpec, tuple[Task, ...]]


class Workload(NamedTuple):
    """What an image asks of the engine."""

    ref: AdapterRef
    spec: AdapterSpec  # of the set
    tasks: tuple[Task, ...]
    compute: float = 1.0  # share of the encoder's blocks

    @property
    def shape(self) -> _Shape:
        """What sets of one shape have in common."""
        return self.spec, self.tasks


class Costs:
    """Running estimates, by set and tasks. Lives on the event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[AdapterRef, tuple[Task, ...]], _Shape] = OrderedDict()  # measured last: last
        self._slowness: dict[_Shape, dict[AdapterRef, float]] = {}  # measured over guessed

    @property
    def known(self) -> bool:
        """Whether anything was measured, so that estimates are times of this machine."""
        return bool(self._kept)

    def estimate_us(self, work: Workload) -> int:
        """Microseconds of the engine that one image takes."""
        alike = self._slowness.get(work.shape, {})
        slowness = alike.get(work.ref) or _usual(alike.values()) or _usual(self._all()) or 1.0
        return max(1, round(guess_us(*work.shape) * relative_cost(work.compute) * slowness))

    def measured(self, work: Workload, seconds: float) -> None:
        """One image of the set took so long (of a batch: its part)."""
        shape = work.shape
        ratio = seconds * 1e6 / (guess_us(*shape) * relative_cost(work.compute))
        alike = self._slowness.setdefault(shape, {})
        last = alike.get(work.ref, ratio)
        alike[work.ref] = last + SMOOTHING * (ratio - last)
        self._kept[work.ref, work.tasks] = shape
        self._kept.move_to_end((work.ref, work.tasks))
        if len(self._kept) > SETS_KEPT:
            self._forget_oldest()

    def _all(self) -> list[float]:
        return [slowness for alike in self._slowness.values() for slowness in alike.values()]

    def _forget_oldest(self) -> None:
        (ref, _), shape = self._kept.popitem(last=False)
        del self._slowness[shape][ref]
        if not self._slowness[shape]:
            del self._slowness[shape]


def guess_us(spec: AdapterSpec, tasks: tuple[Task, ...]) -> float:
    """Microseconds by the number of input pixels and tasks alone."""
    return US_PER_PIXEL * spec.image_size**2 * (1 + TASK_SHARE * len(tasks))


def relative_cost(compute: float) -> float:
    """Time of a pass that computes this share of the encoder's blocks, over that of a whole pass."""
    return NEVER_SKIPPED + (1 - NEVER_SKIPPED) * compute


def shares(seconds: float, costs_us: Sequence[int]) -> list[float]:
    """What each image of one pass took of it: nobody can tell them apart, so in proportion to what was expected."""
    total = sum(costs_us)
    return [seconds * cost_us / total for cost_us in costs_us]


def _usual(slowness: Iterable[float]) -> float | None:
    values = list(slowness)
    return median_low(values) if values else None
