"""An engine that computes nothing, and events that nobody counts."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from app.core.names import AdapterRef
from app.engine.engine import Engine, Outcome
from app.engine.work_item import Forwarded, Item
from app.scheduling.fair_queue import Flow
from mtlora.vocabulary.tasks import Task


class FakeEngine(Engine):
    """Answers with the item's own pixels, in the time that was expected; a hook runs first."""

    def __init__(self, hook: Callable[[Sequence[Item]], object] = lambda items: None) -> None:
        self.hook = hook
        self.seen: list[list[float]] = []

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        self.seen.append([float(item.pixels) for item in items])
        for item in items:
            item.took_s = item.chosen_us / 1e6
        self.hook(items)
        for item in items:
            if item.wanted():
                yield item, Forwarded({Task.SEMSEG: item.pixels}, 0.0, 0.0, len(items), 1)


class NoEvents:
    def batch(self, images: int, adapters: int) -> None:
        """Nobody listens."""


def item(value: float, name: str = "a", **fields: Any) -> Item:
    future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
    pixels = torch.tensor(value)
    return Item(AdapterRef(name, 1, "0"), None, (Task.SEMSEG,), pixels, future, Flow("", name), **fields)  # type: ignore[arg-type]
