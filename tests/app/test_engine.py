"""The engine on real tiny models: an answer does not depend on the company it was computed in."""

import asyncio
import itertools

import numpy as np
import pytest
import torch

from app.batching.request import Forwarded, Item
from app.engine import Engine
from app.errors import InferenceError
from app.residency.loader import AdaptedSet
from app.residency.names import AdapterRef
from mtlora.backbone import Backbone
from mtlora.inference.plain import PlainForm, PlainSet
from mtlora.outputs import decode
from mtlora.tasks import Task
from tests.factories import adapter_spec, make_backbone, make_model

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
    return Item(adapted.ref, adapted, tasks, pixels, future)


def answers(items: list[Item]) -> list[Forwarded]:
    outcomes = Engine(PlainForm(make_backbone())).run(items)
    assert all(isinstance(outcome, Forwarded) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Forwarded)]


def test_alone_or_in_a_mixed_batch(sets: list[AdaptedSet]) -> None:
    wanted = [PASCAL, (Task.SEMSEG,), (Task.NORMALS, Task.SALIENCY)]
    items = [make_item(a, t, seed) for seed, (a, t) in enumerate(itertools.product(sets, wanted))] * 2
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
    first, second, third = Engine(PlainForm(make_backbone())).run(items)
    assert isinstance(second, InferenceError)
    assert isinstance(first, Forwarded) and isinstance(third, Forwarded)
    (alone,) = answers([items[0]])
    torch.testing.assert_close(first.logits[Task.SEMSEG], alone.logits[Task.SEMSEG], rtol=0, atol=0)
