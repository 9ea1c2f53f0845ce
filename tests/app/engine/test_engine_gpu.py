"""The engine on a GPU that is really out of memory: batches are split, every image is answered as on a CPU."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from app.core.names import AdapterRef
from app.engine.engine import Engine
from app.engine.work_item import Forwarded, Item
from app.residency.loader import AdaptedSet
from app.scheduling.fair_queue import Flow
from mtlora.inference import Backend, Query, ReferenceBackend, make_backend
from mtlora.vocabulary.options import FormKind
from testing.equality import assert_same, images, make_set, run
from testing.factories import adapter_spec, backbone_spec, make_backbone

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")

BATCH = 64
ROOM = 0.6  # of what the whole batch takes


@pytest.fixture(autouse=True)
def _whole_device() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("kind", [FormKind.LOWRANK, FormKind.PLAIN])
def test_a_batch_too_large_for_the_gpu_is_split_and_every_image_answered(kind: FormKind) -> None:
    shape = backbone_spec(embed_dim=32, num_heads=(1, 2, 2, 4))
    backbone, spec = make_backbone(shape, image_size=512), adapter_spec(shape, image_size=512)
    adapter, x = make_set(backbone, spec), images(spec, BATCH)
    backend = make_backend(backbone.to("cuda"), kind)
    resident = backend.prepare(adapter)
    items = [_item(resident, pixels) for pixels in x]
    tasks = spec.task_names

    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    backend.forward([Query(resident, pixels, tasks) for pixels in x])
    whole = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    ballast = torch.empty(torch.cuda.mem_get_info()[0] - int(ROOM * whole), dtype=torch.uint8, device="cuda")
    passes = _Counting(backend)
    outcomes = dict(Engine(passes).run(items))
    del ballast
    assert passes.failed > 0, "there was no shortage"
    answers = [outcomes[item] for item in items]
    assert all(isinstance(answer, Forwarded) for answer in answers)
    expected = run(ReferenceBackend(backbone), [adapter] * BATCH, x, tasks)
    assert_same([answer.logits for answer in answers if isinstance(answer, Forwarded)], expected)


class _Counting:
    """A form that counts the passes that fail."""

    def __init__(self, backend: Backend[Any]) -> None:
        self._backend, self.failed = backend, 0
        self.name, self.group, self.warm = backend.name, backend.group, backend.warm
        self.prepare, self.device_bytes, self.plan = backend.prepare, backend.device_bytes, backend.plan

    def forward(self, queries: Any) -> Any:
        try:
            return self._backend.forward(queries)
        except torch.OutOfMemoryError:
            self.failed += 1
            raise


def _item(resident: Any, pixels: torch.Tensor) -> Item:
    ref = AdapterRef("set", 1, "1")
    future: asyncio.Future[Forwarded] = asyncio.Future(loop=asyncio.new_event_loop())
    return Item(ref, AdaptedSet(ref, resident), resident.spec.task_names, pixels, future, Flow("", "set"))
