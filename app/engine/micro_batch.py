"""The choice of a micro-batch: its size, and how long to wait for more. Pure functions of the queue and the time."""

import math
from dataclasses import dataclass

from app.engine.work_item import Item
from app.scheduling.fair_queue import FairQueue


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one micro-batch."""

    images: int = 1
    nbytes: float = math.inf  # of estimated memory; one image that needs more runs alone
    wait_s: float = 0.0  # for more images, counted from the arrival of the first
    calm_s: float = 0.5  # how long images may wait before less of them is computed, where that is allowed


def patience(queue: FairQueue[Item], limits: BatchLimits, now: float) -> float:
    """Seconds for which more images may still be waited for; 0 if what is there should run now."""
    if not limits.wait_s or len(queue) >= limits.images:
        return 0.0
    if sum(item.forward_bytes for item in queue) >= limits.nbytes:
        return 0.0
    first = min(item.enqueued for item in queue)
    return max(0.0, first + limits.wait_s - now)


def take_batch(queue: FairQueue[Item], limits: BatchLimits) -> list[Item]:
    """The next images in fair order, at least one, as many as the limits allow.

    It ends at the first that does not fit: skipping it would let small images keep a large one waiting for ever.
    """
    batch = [queue.pop()]
    nbytes = batch[0].forward_bytes
    while len(queue) and len(batch) < limits.images:
        nbytes += queue.peek().forward_bytes
        if nbytes > limits.nbytes:
            break
        batch.append(queue.pop())
    return batch
