"""Runs one micro-batch; the only caller of the model, always from the worker's thread.

The form of residency decides which items may share a forward pass; an answer does not depend on what else is in it.
"""

import logging
import time
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from app.batching.request import Forwarded, Item
from app.errors import InferenceError
from app.residency.loader import AdaptedSet
from mtlora.inference import Form, Query
from mtlora.tasks import Task

log = logging.getLogger(__name__)

Outcome = Forwarded | InferenceError


class Engine:
    """Forward passes over micro-batches."""

    def __init__(self, form: Form[Any]) -> None:
        self._form = form

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order. A failing item leaves the others' answers as they are."""
        start = time.perf_counter()
        adapters = len({item.ref for item in items})
        outcomes: dict[int, Outcome] = {}
        for positions in self._groups(items):
            group = [items[p] for p in positions]
            began = time.perf_counter()
            for position, result in zip(positions, self._run_group(group), strict=True):
                if isinstance(result, InferenceError):
                    outcomes[position] = result
                    continue
                outcomes[position] = Forwarded(
                    logits=result,
                    queue_s=start - items[position].enqueued,
                    forward_s=time.perf_counter() - began,
                    batch_images=len(items),
                    batch_adapters=adapters,
                )
        return [outcomes[p] for p in range(len(items))]

    def warm(self, adapted: AdaptedSet) -> None:
        """One forward of a black image, so that the first request does not pay for lazy initialisation."""
        size = adapted.spec.image_size
        self._form.forward([Query(adapted.resident, torch.zeros(3, size, size), adapted.spec.task_names)])

    def _run_group(self, group: Sequence[Item]) -> list[dict[Task, torch.Tensor] | InferenceError]:
        """All at once; if that fails, one by one, so that only what fails alone is answered with an error."""
        try:
            return [*self._form.forward([_query(item) for item in group])]
        except Exception as error:  # the worker must outlive whatever one item provokes
            log.exception("forward failed", extra={"adapter": str(group[0].ref), "images": len(group)})
            if len(group) == 1:
                return [InferenceError(f"the model failed on this image: {type(error).__name__}")]
            return [result for item in group for result in self._run_group([item])]

    def _groups(self, items: Sequence[Item]) -> list[list[int]]:
        """Positions of items that one forward pass can answer."""
        groups: dict[Hashable, list[int]] = {}
        for position, item in enumerate(items):
            groups.setdefault(self._form.group(_query(item)), []).append(position)
        return list(groups.values())


def _query(item: Item) -> Query[Any]:
    return Query(item.adapted.resident, item.pixels, item.tasks)
