"""The stages of a prediction, and how long an image spent in each."""

from collections.abc import Iterator
from dataclasses import dataclass

STAGES = ("decode", "load", "queue", "forward", "encode")  # in this order


@dataclass(slots=True)
class Stages:
    """Seconds one image spent in each stage, waiting for its turn there included."""

    decode: float = 0.0
    queue: float = 0.0
    load: float = 0.0
    forward: float = 0.0
    encode: float = 0.0
    began: float = 0.0  # on the clock of time.perf_counter
    ended: float = 0.0

    def intervals(self) -> Iterator[tuple[str, float, float]]:
        """Name, beginning and end of each stage: one after the other, the last up to the image's end."""
        began = self.began
        for name in STAGES[:-1]:
            yield name, began, began + getattr(self, name)
            began += getattr(self, name)
        yield STAGES[-1], self.ended - self.encode, self.ended

    def milliseconds(self) -> dict[str, float]:
        """By stage, in ms."""
        return {name: round(getattr(self, name) * 1000, 2) for name in STAGES}
