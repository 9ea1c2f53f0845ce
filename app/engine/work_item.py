"""One image on its way through the engine."""

import asyncio
import math
import threading
import time
from dataclasses import dataclass, field

import torch

from app.core.compute import WHOLE, Budget
from app.core.names import AdapterRef
from app.residency.loader import AdaptedSet
from app.scheduling.cost_model import relative_cost
from app.scheduling.fair_queue import Flow
from mtlora.model.gates import Gates
from mtlora.vocabulary.tasks import Task


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What the engine gives back for one image."""

    logits: dict[Task, torch.Tensor]  # float32 [K, S/8, S/8] each, only the tasks asked for
    queue_s: float
    forward_s: float  # of the whole group this image ran in
    batch_images: int
    batch_adapters: int
    share: float = 1.0  # of the encoder's blocks that was computed
    gates: Gates | None = None  # what of it; None: everything
    tiles: tuple["Forwarded", ...] = ()  # the passes that this was put together from, where it was


@dataclass(slots=True, eq=False)
class Item:
    """An image that waits for the engine. Its adapter set is in memory and leased by the request that made it."""

    ref: AdapterRef
    adapted: AdaptedSet
    tasks: tuple[Task, ...]
    pixels: torch.Tensor  # float32 [3, S, S], normalised
    future: asyncio.Future[Forwarded]
    flow: Flow
    whole_us: int = 1  # of the engine for a whole pass, estimated; at least 1
    budget: Budget = WHOLE
    compute: float = 1.0  # chosen from the budget when its turn comes
    forward_bytes: int = 0  # what it adds to a forward pass, estimated
    deadline: float = math.inf  # on the clock of time.monotonic
    enqueued: float = field(default_factory=time.monotonic)
    dropped: threading.Event = field(default_factory=threading.Event)  # nobody waits for the answer any more
    took_s: float = 0.0  # its part of the pass that it ran in, failed or not; 0: it did not run

    @property
    def cost_us(self) -> int:
        """What it is expected to cost at least: what its flow pays beforehand."""
        return max(1, round(self.whole_us * relative_cost(self.budget.lowest)))

    @property
    def chosen_us(self) -> int:
        """What it is expected to cost as it was chosen to be computed."""
        return max(1, round(self.whole_us * relative_cost(self.compute)))

    def wanted(self) -> bool:
        """Whether an answer would still be of use."""
        return not self.dropped.is_set() and time.monotonic() < self.deadline
