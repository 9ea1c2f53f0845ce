"""The engine on real tiny models: an answer does not depend on the company it was computed in."""

import asyncio
import itertools
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from app.core.errors import DeviceMemoryError, InferenceError
from app.core.names import AdapterRef
from app.engine.engine import Engine, Outcome, is_memory_shortage
from app.engine.work_item import Forwarded, Item
from app.residency.loader import AdaptedSet
from app.scheduling.fair_queue import Flow
from mtlora.inference import Backend, Query
from mtlora.inference.backends.reference import PlainSet, ReferenceBackend
from mtlora.maps.postprocessing import decode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone
from testing.factories import adapter_spec, make_backbone, make_model

PASCAL = (Task.SEMSEG, Task.NORMALS, Task.SALIENCY, Task.HUMAN_PARTS)
MAX_DEGREES = 0.1


@pytest.fixture(scope="module")
def sets() -> list[AdaptedSet]:
    backbone: Backbone = make_backbone()
    spec = adapter_spec()
    models = [make_model(backbone, spec, seed=i).requires_grad_(False) for i in range(3)]
    return [AdaptedSet(AdapterRef(f"set{i}", 1, str(i)), PlainSet(m, spec, 1)) for i, m in enumerate(models)]


def make_item(adapted: AdaptedSet, tasks: tuple[Task, ...], seed: int) -> Item:
    pixels = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(seed))
    future: asyncio.Future[Forwarded] = asyncio.Future(loop=asyncio.new_event_loop())
    return Item(adapted.ref, adapted, tasks, pixels, future, Flow("", adapted.ref.name))


def run(items: list[Item], backend: Backend[Any] | None = None) -> list[Outcome]:
    outcomes = dict(Engine(backend or ReferenceBackend(make_backbone())).run(items))
    return [outcomes[item] for item in items]


def answers(items: list[Item]) -> list[Forwarded]:
    outcomes = run(items)
    assert all(isinstance(outcome, Forwarded) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Forwarded)]


def test_alone_or_in_a_mixed_batch(sets: list[AdaptedSet]) -> None:
    wanted = [PASCAL, (Task.SEMSEG,), (Task.NORMALS, Task.SALIENCY)]
    cases = [*enumerate(itertools.product(sets, wanted))] * 2
    items = [make_item(adapted, tasks, seed) for seed, (adapted, tasks) in cases]
    together = answers(items)
    for item, mixed in zip(items, together, strict=True):
        (alone,) = answers([item])
        assert tuple(mixed.logits) == tuple(alone.logits) == item.tasks
        for task in item.tasks:
            here, there = decode(task, mixed.logits[task]), decode(task, alone.logits[task])
            if here.dtype is torch.uint8:
                np.testing.assert_array_equal(here, there)
            elif task is Task.NORMALS:
                cosine = (here.double() * there.double()).sum(0).clamp(-1, 1)
                assert float(cosine.acos().rad2deg().max()) < MAX_DEGREES
            else:
                torch.testing.assert_close(here, there)
    assert {(f.batch_images, f.batch_adapters) for f in together} == {(18, 3)}


def test_sets_give_different_answers(sets: list[AdaptedSet]) -> None:
    items = [make_item(adapted, (Task.SEMSEG,), 0) for adapted in sets]
    first, second, third = (answer.logits[Task.SEMSEG] for answer in answers(items))
    assert not torch.equal(first, second) and not torch.equal(second, third)


def test_an_item_that_fails_fails_alone(sets: list[AdaptedSet]) -> None:
    items = [make_item(sets[0], PASCAL, seed) for seed in range(3)]
    items[1].pixels = torch.zeros(3, 32, 32)
    first, second, third = run(items)
    assert isinstance(second, InferenceError)
    assert isinstance(first, Forwarded) and isinstance(third, Forwarded)
    (alone,) = answers([items[0]])
    torch.testing.assert_close(first.logits[Task.SEMSEG], alone.logits[Task.SEMSEG], rtol=0, atol=0)


def test_what_a_pass_took_is_shared_out_by_what_was_expected(sets: list[AdaptedSet]) -> None:
    items = [make_item(sets[0], (Task.SEMSEG,), seed) for seed in range(3)]
    items[1].whole_us, items[2].whole_us = 3, 4
    took = {answer.forward_s for answer in answers(items)}
    assert len(took) == 1  # one pass
    assert [item.took_s for item in items] == pytest.approx(
        [took_s * part / 8 for took_s in took for part in (1, 3, 4)]
    )


def test_an_image_that_fails_took_its_time_and_one_that_nobody_wants_none(sets: list[AdaptedSet]) -> None:
    broken, dropped = (make_item(sets[0], (Task.SEMSEG,), seed) for seed in range(2))
    broken.pixels = torch.zeros(3, 32, 32)
    dropped.dropped.set()
    ((item, outcome),) = Engine(ReferenceBackend(make_backbone())).run([broken, dropped])
    assert item is broken and isinstance(outcome, InferenceError)
    assert broken.took_s > 0 == dropped.took_s


class SmallDevice(ReferenceBackend):
    """Has room for few images at a time; one of the images is too much even alone."""

    def __init__(self, room: int, error: Exception, monster: torch.Tensor | None = None) -> None:
        super().__init__(make_backbone())
        self.room = room
        self.error = error
        self.monster = monster
        self.passes: list[int] = []

    def forward(self, queries: Sequence[Query[PlainSet]]) -> list[dict[Task, torch.Tensor]]:
        if len(queries) > self.room or any(query.pixels is self.monster for query in queries):
            raise self.error
        self.passes.append(len(queries))
        return super().forward(queries)


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory"),
    MemoryError("no memory"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
def test_a_batch_too_large_for_the_memory_is_split_and_every_image_answered(
    sets: list[AdaptedSet], error: Exception
) -> None:
    items = [make_item(sets[0], PASCAL, seed) for seed in range(8)]
    backend = SmallDevice(2, error)
    outcomes = run(items, backend)
    assert backend.passes == [2, 2, 2, 2]
    for item, outcome in zip(items, outcomes, strict=True):
        assert isinstance(outcome, Forwarded)
        torch.testing.assert_close(outcome.logits, answers([item])[0].logits)


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
def test_an_image_that_cannot_run_even_alone_is_told_to_come_back(sets: list[AdaptedSet], error: Exception) -> None:
    items = [make_item(sets[0], PASCAL, seed) for seed in range(4)]
    backend = SmallDevice(4, error, monster=items[2].pixels)
    *_, monster, last = outcomes = run(items, backend)
    assert isinstance(monster, DeviceMemoryError) and monster.retry_after_s > 0
    assert isinstance(last, Forwarded)
    assert sum(isinstance(outcome, Forwarded) for outcome in outcomes) == 3


def test_the_failed_pass_is_forgotten_before_the_next_try(sets: list[AdaptedSet]) -> None:
    """A traceback keeps every tensor of the pass alive: retried inside the handler, the second try would fail too."""
    held: list[Any] = []

    class Heavy:
        """Stands for the activations of a pass."""

    class Watchful(ReferenceBackend):
        def forward(self, queries: Sequence[Query[PlainSet]]) -> list[dict[Task, torch.Tensor]]:
            assert not any(reference() for reference in held), "the last pass is still in memory"
            activations = Heavy()
            held.append(weakref.ref(activations))
            if len(queries) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(queries)

    outcomes = run([make_item(sets[0], PASCAL, seed) for seed in range(2)], Watchful(make_backbone()))
    assert [type(outcome) for outcome in outcomes] == [Forwarded, Forwarded]


def test_other_errors_are_no_shortage_of_memory() -> None:
    assert not is_memory_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_memory_shortage(ValueError("not enough memory"))


def test_what_nobody_wants_any_more_is_left_out(sets: list[AdaptedSet]) -> None:
    backend = SmallDevice(8, MemoryError("unused"))
    late, left, wanted = items = [make_item(sets[0], PASCAL, seed) for seed in range(3)]
    late.deadline = time.monotonic() - 1
    left.dropped.set()
    assert [item for item, _ in Engine(backend).run(items)] == [wanted]
    assert backend.passes == [1]


def test_outcomes_come_group_by_group(sets: list[AdaptedSet]) -> None:
    """An answer does not wait for the passes that come after its own."""
    backend = SmallDevice(8, MemoryError("unused"))
    items = [make_item(adapted, (Task.SEMSEG,), seed) for seed, adapted in enumerate(sets)]
    outcomes = Engine(backend).run(items)
    for done, expected in enumerate(items, start=1):
        item, _ = next(outcomes)
        assert item is expected
        assert len(backend.passes) == done
