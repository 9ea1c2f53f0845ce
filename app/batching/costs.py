"""What the forward pass of an image costs: guessed from the set's shape, corrected by what was measured."""

from collections import OrderedDict

from mtlora.spec import AdapterSpec
from mtlora.tasks import Task

US_PER_PIXEL = (
    3.3  # two cores of a 2.5 GHz Xeon, see docs/performance.md; only ratios matter until something is measured
)
TASK_SHARE = 0.15  # what each task adds to the pass that all tasks share
SMOOTHING = 0.2
SHAPES_KEPT = 256

Shape = tuple[AdapterSpec, tuple[Task, ...]]


class Costs:
    """Running estimates, by shape of set and tasks. Lives on the event loop."""

    def __init__(self) -> None:
        self._measured_us: OrderedDict[Shape, float] = OrderedDict()
        self._speed = 1.0  # measured over guessed, for shapes that were never seen

    @property
    def known(self) -> bool:
        """Whether anything was measured, so that estimates are times of this machine."""
        return bool(self._measured_us)

    def estimate_us(self, spec: AdapterSpec, tasks: tuple[Task, ...]) -> int:
        """Microseconds of the engine that one image takes."""
        seen = self._measured_us.get((spec, tasks))
        return max(1, round(guess_us(spec, tasks) * self._speed if seen is None else seen))

    def measured(self, spec: AdapterSpec, tasks: tuple[Task, ...], seconds: float) -> None:
        """One image of that shape took so long (of a batch: its part)."""
        us = seconds * 1e6
        ratio = us / guess_us(spec, tasks)
        self._speed = self._speed + SMOOTHING * (ratio - self._speed) if self.known else ratio
        shape = (spec, tasks)
        last = self._measured_us.pop(shape, us)
        self._measured_us[shape] = last + SMOOTHING * (us - last)
        if len(self._measured_us) > SHAPES_KEPT:
            self._measured_us.popitem(last=False)


def guess_us(spec: AdapterSpec, tasks: tuple[Task, ...]) -> float:
    """Microseconds by the number of input pixels and tasks alone."""
    return US_PER_PIXEL * spec.image_size**2 * (1 + TASK_SHARE * len(tasks))
