"""What each revision of a set has answered since the process started, as Triton's clients ask for it.

Lives on the event loop.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.core.names import AdapterRef
from app.core.stages import Stages

NS = 1_000_000_000


@dataclass(slots=True)
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """So many times more, so long together."""
        self.count += count
        self.ns += round(seconds * NS)


@dataclass(slots=True)
class RevisionStatistics:
    """Of one revision. Requests are counted by `success` and `fail`, images by the others."""

    last_inference_ms: int = 0  # since the epoch; 0: never
    images: int = 0
    executions: float = 0.0  # forward passes: an image is a share of its own
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)  # decoding, and waiting for the set to be loaded
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


class Ran(NamedTuple):
    """An image that was answered."""

    stages: Stages
    batch_images: int  # in its forward pass


class ModelStatistics:
    """Statistics by revision."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, RevisionStatistics]] = {}

    def of(self, name: str, revision: int) -> RevisionStatistics:
        """Of a revision of the set of this full name; zeros where it has answered nothing."""
        return self._known.get(name, {}).get(revision) or RevisionStatistics()

    def succeeded(self, ref: AdapterRef, seconds: float, images: Sequence[Ran]) -> None:
        """A request was answered, in so many seconds."""
        one = self._of(ref)
        one.success.add(seconds)
        one.last_inference_ms = round(time.time() * 1000)
        for stages, batch_images in images:
            one.images += 1
            one.executions += 1 / batch_images
            one.queue.add(stages.queue)
            one.compute_input.add(stages.decode + stages.load)
            one.compute_infer.add(stages.forward)
            one.compute_output.add(stages.encode)

    def failed(self, ref: AdapterRef, seconds: float) -> None:
        """A request for this revision was refused or failed."""
        self._of(ref).fail.add(seconds)

    def forget(self, name: str) -> None:
        """The set of this full name was deleted."""
        self._known.pop(name, None)

    def _of(self, ref: AdapterRef) -> RevisionStatistics:
        return self._known.setdefault(ref.name, {}).setdefault(ref.revision, RevisionStatistics())
