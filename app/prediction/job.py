"""Prediction jobs and their outcomes: what was asked for, and what came of it."""

import math
from dataclasses import dataclass

from app.answers.negotiation import AnswerFormat
from app.answers.plan import RenderPlan
from app.answers.render import Rendered
from app.core.errors import ServiceError
from app.core.names import AdapterRef
from app.core.stages import Stages
from app.scheduling.fair_queue import Flow
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

JSON_PLAN = RenderPlan(AnswerFormat.JSON)


@dataclass(frozen=True, slots=True)
class PredictionJob:
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
class ImageAnswer:
    """One image's answer before it is put into bytes."""

    rendered: Rendered
    stages: Stages
    batch_images: int
    batch_adapters: int
    cold: bool


Outcome = ImageAnswer | ServiceError
