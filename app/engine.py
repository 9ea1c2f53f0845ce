"""Runs one micro-batch; the only caller of the model, always from the worker's thread.

Items are grouped by adapter set and tasks, and each group is one forward pass of that set's model, so an answer does
not depend on what else is in the batch. Running several sets in one pass can replace `_groups` behind this interface.
"""

import logging
import time
from collections.abc import Sequence

import torch

from app.batching.request import Forwarded, Item
from app.errors import InferenceError
from app.residency.loader import AdaptedSet
from app.residency.names import AdapterRef
from mtlora.tasks import Task

log = logging.getLogger(__name__)

Outcome = Forwarded | InferenceError


class Engine:
    """Forward passes over micro-batches."""

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order. A failing item leaves the others' answers as they are."""
        start = time.perf_counter()
        adapters = len({item.ref for item in items})
        outcomes: dict[int, Outcome] = {}
        for positions in _groups(items):
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
        self._forward(adapted, torch.zeros(1, 3, size, size), adapted.spec.task_names)

    def _run_group(self, group: Sequence[Item]) -> list[dict[Task, torch.Tensor] | InferenceError]:
        """All at once; if that fails, one by one, so that only what fails alone is answered with an error."""
        try:
            batch = torch.stack([item.pixels for item in group])
            logits = self._forward(group[0].adapted, batch, group[0].tasks)
        except Exception as error:  # the worker must outlive whatever one item provokes
            log.exception("forward failed", extra={"adapter": str(group[0].ref), "images": len(group)})
            if len(group) == 1:
                return [InferenceError(f"the model failed on this image: {type(error).__name__}")]
            return [result for item in group for result in self._run_group([item])]
        return [{task: maps[i] for task, maps in logits.items()} for i in range(len(group))]

    def _forward(self, adapted: AdaptedSet, batch: torch.Tensor, tasks: Sequence[Task]) -> dict[Task, torch.Tensor]:
        """batch: float32 [B, 3, S, S]; returns float32 [B, K, S, S] for each task asked for."""
        with torch.inference_mode():
            logits = adapted.model(batch.to(adapted.device), tuple(tasks))
            return {task: scores.float().cpu() for task, scores in logits.items()}


def _groups(items: Sequence[Item]) -> list[list[int]]:
    """Positions of items that one forward pass can answer: same revision, same tasks."""
    groups: dict[tuple[AdapterRef, tuple[Task, ...]], list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault((item.ref, item.tasks), []).append(position)
    return list(groups.values())
