"""Prediction jobs and their outcomes: what was asked for, and what came of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from app.answers.form import AnswerFormat
from app.answers.plan import RenderPlan
from app.answers.render import Made
from app.core.compute import WHOLE, Budget
from app.core.errors import ServiceError
from app.core.names import AdapterRef
from app.core.stages import Stages
from app.scheduling.cost_model import Workload
from app.scheduling.fair_queue import Flow
from mtlora.images.tiles import UNTILED, Grid, Tiling
from mtlora.images.tiles import WHOLE as ONE_TILE
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

JSON_PLAN = RenderPlan(AnswerFormat.JSON)


class Choice(NamedTuple):
    """What of a set's maps a client wants to see, and how."""

    tasks: tuple[Task, ...]
    plan: RenderPlan
    compute: str | None = None  # as asked for; None: nothing was said
    explain: bool = False  # say what was computed
    tiles: str | None = None  # as asked for


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, as far as it is known: before the body is read, and with it.

    choose: among what a set has; refuses what it has not, and forms that cannot be given
    """

    adapter: str | None  # None: the server's default, if this is final
    deadline_ms: int | None
    final: bool  # the body has been read, or can say no more than its one image
    choose: Callable[[AdapterRef, AdapterSpec], Choice]
    images: tuple[bytes, ...] = ()  # none: the body has not been read


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """What a client asked for, resolved: nothing in it changes while the request runs."""

    ref: AdapterRef
    spec: AdapterSpec
    tasks: tuple[Task, ...]
    plan: RenderPlan = JSON_PLAN
    images: tuple[bytes, ...] = ()  # encoded, as sent
    caller: str = ""  # label of the key; empty where no keys are set
    deadline: float = math.inf  # on the clock of time.monotonic
    budget: Budget = WHOLE
    explain: bool = False
    tells_share: bool = False  # the answer says how much was computed
    tiling: Tiling = UNTILED

    @property
    def flow(self) -> Flow:
        """Whose turn its images take."""
        return Flow(self.caller, self.ref.name)

    @property
    def workload(self) -> Workload:
        """What each of its images asks of the engine at least."""
        return Workload(self.ref, self.spec, self.tasks, self.budget.lowest)


@dataclass(slots=True)
class ImageAnswer:
    """One image's answer."""

    made: Made
    stages: Stages
    batch_images: int
    batch_adapters: int
    cold: bool
    share: float = 1.0  # of the encoder's blocks that was computed
    computed_png: bytes = b""  # where that was, if it was asked for
    grid: Grid = ONE_TILE  # that the photo was cut in


Outcome = ImageAnswer | ServiceError
