"""How much runs at once, and how long to wait for more."""

import asyncio

import torch

from app.core.names import AdapterRef
from app.engine.micro_batch import BatchLimits, patience, take_batch
from app.engine.work_item import Forwarded, Item
from app.scheduling.fair_queue import FairQueue, Flow
from mtlora.vocabulary.tasks import Task


def waiting(*nbytes: int, names: str = "aaaaaaaa") -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue(burst=1)
    for number, (size, name) in enumerate(zip(nbytes, names, strict=False)):
        future: asyncio.Future[Forwarded] = asyncio.Future(loop=asyncio.new_event_loop())
        flow = Flow("", name)
        item = Item(
            AdapterRef(name, 1, "0"), None, (Task.SEMSEG,), torch.tensor(float(number)), future, flow,  # type: ignore[arg-type]
            forward_bytes=size, enqueued=100.0 + number,
        )  # fmt: skip
        queue.push(flow, item, 1)
    return queue


def taken(queue: FairQueue[Item], limits: BatchLimits) -> list[int]:
    return [int(item.pixels) for item in take_batch(queue, limits)]


def test_as_many_as_the_limit_of_images_allows() -> None:
    queue = waiting(1, 1, 1, 1, 1)
    assert [taken(queue, BatchLimits(images=2)) for _ in range(3)] == [[0, 1], [2, 3], [4]]


def test_as_many_as_the_limit_of_bytes_allows_and_always_one() -> None:
    queue = waiting(4, 4, 4, 50, 1)
    limits = BatchLimits(images=8, nbytes=10)
    assert [taken(queue, limits) for _ in range(4)] == [[0, 1], [2], [3], [4]]


def test_a_batch_takes_the_sets_in_turn() -> None:
    assert taken(waiting(*[1] * 6, names="aaaabc"), BatchLimits(images=4)) == [0, 4, 5, 1]


def test_patience_ends_a_fixed_time_after_the_first_arrival() -> None:
    limits = BatchLimits(images=8, wait_s=3.0)
    queue = waiting(1, 1)
    assert patience(queue, limits, now=101.0) == 2.0
    assert patience(queue, limits, now=104.0) == 0.0


def test_there_is_no_patience_for_what_is_full_or_unless_asked_for() -> None:
    queue = waiting(4, 4)
    assert patience(queue, BatchLimits(images=8), now=100.0) == 0.0
    assert patience(queue, BatchLimits(images=2, wait_s=3.0), now=100.0) == 0.0
    assert patience(queue, BatchLimits(images=8, nbytes=8, wait_s=3.0), now=100.0) == 0.0
