"""One image on its way through the engine."""

import asyncio
import threading
import time
from dataclasses import dataclass, field

import torch

from app.residency.loader import AdaptedSet
from app.residency.names import AdapterRef
from mtlora.tasks import Task


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What the engine gives back for one image."""

    logits: dict[Task, torch.Tensor]  # float32 [K, S/8, S/8] each, only the tasks asked for
    queue_s: float
    forward_s: float  # of the whole group this image ran in
    batch_images: int
    batch_adapters: int


@dataclass(slots=True, eq=False)
class Item:
    """An image that waits for the engine. Its adapter set is in memory and leased by the request that made it."""

    ref: AdapterRef
    adapted: AdaptedSet
    tasks: tuple[Task, ...]
    pixels: torch.Tensor  # float32 [3, S, S], normalised
    future: asyncio.Future[Forwarded]
    enqueued: float = field(default_factory=time.perf_counter)
    dropped: threading.Event = field(default_factory=threading.Event)  # client gone or deadline passed

    def drop(self) -> None:
        """Take the item out of every batch that has not started."""
        self.dropped.set()
