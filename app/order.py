"""What the path of a prediction is about: what was asked for, what came of it, and how long each stage took."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from app.batching.policy import Flow
from app.errors import ServiceError
from app.imaging.plan import RenderPlan
from app.imaging.render import Rendered
from app.intake.formats import AnswerFormat
from app.residency.names import AdapterRef
from mtlora.spec import AdapterSpec
from mtlora.tasks import Task

JSON_PLAN = RenderPlan(AnswerFormat.JSON)
STAGES = ("decode", "load", "queue", "forward", "encode")  # in this order


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked for, resolved: nothing in it changes while the request runs."""

    ref: AdapterRef
    spec: AdapterSpec
    tasks: tuple[Task, ...]
    plan: RenderPlan = JSON_PLAN
    caller: str = ""  # label of the key; empty where no keys are set
    deadline: float = math.inf  # on the clock of time.monotonic

    @property
    def flow(self) -> Flow:
        """Whose turn its images take."""
        return Flow(self.caller, self.ref.name)


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


@dataclass(slots=True)
class ImageAnswer:
    """One image's answer before it is put into bytes."""

    rendered: Rendered
    stages: Stages
    batch_images: int
    batch_adapters: int
    cold: bool


Outcome = ImageAnswer | ServiceError
