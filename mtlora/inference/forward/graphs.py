"""Recorded forward passes with inputs at fixed places: a CUDA graph on a GPU, replayed from then on.

A pass is hundreds of kernels, and to launch each from Python takes longer than most of them run; beside busy threads of
the same process, each launch waits for the interpreter as well. Shapes repeat, all the more as batches are filled up to
a few sizes: a pass that comes a second time is recorded. All of it happens in the one thread that calls `run`.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor

log = logging.getLogger(__name__)

KEPT = 64  # recordings
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)  # of batches; larger ones: multiples of 16
SPARE = 2  # a pass is recorded where this many times its memory is free: running out while recording cannot be undone

Compute = Callable[[Tensor, Tensor], Tensor]
"""From flats [1 or n, size] and images float32 [n, 3, S, S] to logits float32 [n, K, h, w]."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a recording reads and writes must stay where it is."""

    graph: torch.cuda.CUDAGraph
    flats: Tensor
    images: Tensor
    logits: Tensor


class Passes:
    """Runs passes; see the module. It keeps the inputs of a batch on the device, and once for all its activations."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._records = device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._records else None
        self._inputs: dict[Hashable, Tensor] = {}
        self._known: LRUCache[Hashable, _Recorded | int] = LRUCache(KEPT)  # bytes of a pass that is not recorded

    def run(self, key: Hashable, compute: Compute, flats: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
        """Logits on the device; overwritten by the next call.

        key:    says all that `compute` depends on besides what is in flats and images and how many there are
        flats:  of one set, or one for each image; on the device
        images: float32 [3, S, S] each, anywhere
        """
        try:
            return self._run(key, compute, flats, images)[: len(images)]
        except torch.OutOfMemoryError:
            self._forget()
            raise

    def _run(self, key: Hashable, compute: Compute, flats: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
        size = filled_up(len(images))
        key = key, size, len(flats) == 1
        known = self._known.get(key)
        if isinstance(known, _Recorded):
            places = known.flats, known.images
        else:
            places = self._place(flats, 1 if len(flats) == 1 else size), self._place(images, size)
        for place, values in zip(places, (flats, images), strict=True):
            torch._foreach_copy_(list(place[: len(values)].unbind()), list(values), non_blocking=True)
        if self._records and isinstance(known, int):
            known = self._record(compute, *places, known)
        if isinstance(known, _Recorded):
            known.graph.replay()
            logits = known.logits
        else:
            logits, known = self._measured(compute, *places)
        self._known[key] = known
        return logits

    def _place(self, values: Sequence[Tensor], count: int) -> Tensor:
        """Room for so many side by side: the front of what all passes with inputs of this shape share."""
        name = values[0].shape, values[0].dtype
        room = self._inputs.get(name)
        if room is None or len(room) < count:
            room = self._inputs[name] = torch.zeros(count, *name[0], dtype=name[1], device=self._device)
        return room[:count]

    def _measured(self, compute: Compute, flats: Tensor, images: Tensor) -> tuple[Tensor, int]:
        """Logits, and how many bytes the pass took beside its inputs (of a GPU)."""
        if not self._records:
            return compute(flats, images), 0
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        logits = compute(flats, images)
        return logits, torch.cuda.max_memory_allocated(self._device) - before

    def _record(self, compute: Compute, flats: Tensor, images: Tensor, nbytes: int) -> _Recorded | int:
        torch.cuda.empty_cache()
        if torch.cuda.mem_get_info(self._device)[0] < SPARE * nbytes:
            return nbytes
        try:
            graph, logits = _capture(lambda: compute(flats, images), self._device, self._pool)
        except RuntimeError as error:
            log.warning("a pass cannot be recorded: all run unrecorded now", extra={"reason": str(error)[:200]})
            self._records = False
            _capture(images.clone, self._device, None)  # one that ends well tells torch that none is under way
            return nbytes
        return _Recorded(graph, flats, images, logits)

    def _forget(self) -> None:
        """Give back what recordings hold: the activations of the largest batch."""
        self._known.clear()
        self._inputs.clear()
        self._pool = torch.cuda.graph_pool_handle() if self._records else None


def filled_up(images: int) -> int:
    """How many images run where so many are given: few sizes, so that each comes again soon."""
    return next((size for size in SIZES if size >= images), -(-images // SIZES[-1]) * SIZES[-1])


def sizes_up_to(images: int) -> list[int]:
    """All sizes of batches of up to so many images."""
    return sorted({filled_up(count) for count in range(1, images + 1)})


def _capture(work: Callable[[], Tensor], device: torch.device, pool: Any) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        # other threads go on loading sets meanwhile: their calls must not count as part of this
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            result = work()
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(side)
    return graph, result
