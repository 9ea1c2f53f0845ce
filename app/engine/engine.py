"""The runner of micro-batches; the only caller of the model, always from the worker's thread.

The form of residency decides which items may share a forward pass; an answer does not depend on what else is in it.
"""

import logging
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from app.core.errors import DeviceMemoryError, InferenceError, ServiceError
from app.engine.work_item import Forwarded, Item
from app.residency.loader import AdaptedSet
from app.scheduling.cost_model import shares
from mtlora.inference import Backend, ComputePlan, Query
from mtlora.model.gates import Gates
from mtlora.vocabulary.tasks import Task

log = logging.getLogger(__name__)

Outcome = Forwarded | ServiceError
Logits = dict[Task, torch.Tensor]
_Result = tuple[Logits, ComputePlan | None]

_CPU_ALLOCATOR_SAYS = ("not enough memory", "DefaultCPUAllocator", "can't allocate memory")


class Engine:
    """Forward passes over micro-batches."""

    def __init__(self, backend: Backend[Any]) -> None:
        self._backend = backend

    @property
    def backend(self) -> str:
        """Name of the form of residency that runs."""
        return self._backend.name

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        """Every item with its outcome, group by group; those that are no longer wanted when their turn comes are
        left out. A failing item leaves the others' answers as they are. What an item took is noted in it.
        """
        adapters = len({item.ref for item in items})
        for group in self._groups(items):
            wanted = [item for item in group if item.wanted()]
            began = time.monotonic()
            results = self._run_group(wanted)
            forward_s = time.monotonic() - began
            took_s = shares(forward_s, [item.chosen_us for item in wanted])
            for item, result, own_s in zip(wanted, results, took_s, strict=True):
                item.took_s = own_s
                if isinstance(result, ServiceError):
                    yield item, result
                    continue
                logits, plan = result
                yield (
                    item,
                    Forwarded(
                        logits=logits,
                        queue_s=began - item.enqueued,
                        forward_s=forward_s,
                        batch_images=len(items),
                        batch_adapters=adapters,
                        share=1.0 if plan is None else plan.share,
                        gates=None if plan is None else plan.gates,
                    ),
                )

    def warm(self, adapted: AdaptedSet, images: int) -> None:
        """Passes over black images, in batches of up to so many, so that the first requests do not pay for them."""
        self._backend.warm(adapted.resident, images)

    def _run_group(self, group: Sequence[Item]) -> list[_Result | ServiceError]:
        """All at once; what fails is halved and tried again: only what fails alone is answered with an error."""
        if not group:
            return []
        try:
            plans = [self._plan(item) for item in group]
            queries = [_query(item, plan and plan.gates) for item, plan in zip(group, plans, strict=True)]
            return [*zip(self._backend.forward(queries), plans, strict=True)]
        except Exception as error:  # the worker must outlive whatever one item provokes
            failure = _explain(error, group)
        # Not in the handler: there the traceback would keep the tensors of the failed pass in memory.
        if len(group) == 1:
            return [failure]
        middle = len(group) // 2
        return self._run_group(group[:middle]) + self._run_group(group[middle:])

    def _plan(self, item: Item) -> ComputePlan | None:
        """What of the item is computed; None: everything."""
        return None if item.compute == 1 else self._backend.plan(_query(item), item.compute)

    def _groups(self, items: Sequence[Item]) -> list[list[Item]]:
        """Items that one forward pass can answer together, in the order in which their first ones came."""
        groups: dict[Hashable, list[Item]] = {}
        for item in items:
            groups.setdefault(self._backend.group(_query(item)), []).append(item)
        return list(groups.values())


def _explain(error: Exception, group: Sequence[Item]) -> ServiceError:
    """What to tell the client of an item that failed alone; the log gets it in any case."""
    facts = {"adapter": str(group[0].ref), "images": len(group)}
    if is_memory_shortage(error):
        log.warning("out of memory in a forward pass", extra={**facts, "reason": str(error)[:200]})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return DeviceMemoryError("the device has no memory left for this image; try again later", retry_after_s=5)
    log.error("forward failed", exc_info=error, extra=facts)
    return InferenceError(f"the model failed on this image: {type(error).__name__}")


def is_memory_shortage(error: BaseException) -> bool:
    """Whether a pass failed for want of memory, on a GPU, in torch's CPU allocator, or in Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_ALLOCATOR_SAYS)


def _query(item: Item, gates: Gates | None = None) -> Query[Any]:
    return Query(item.adapted.resident, item.pixels, item.tasks, gates)
