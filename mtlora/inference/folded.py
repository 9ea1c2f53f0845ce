"""Forms whose sets are folded layers: pairs merged into weights, or kept apart beside frozen weights that sets share.

Merged is the fastest form on a CPU, at the price of a copy of the adapted weights for every set. Apart costs a set only
what it trained, and images of different sets can share a pass: the form for a GPU, or for many sets.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from mtlora.adapter_file import AdapterSet, adapter_shapes, check_backbone
from mtlora.backbone import Backbone
from mtlora.errors import MTLoRAError
from mtlora.inference.encode import Plan, encode
from mtlora.inference.fold import fold_encoder
from mtlora.inference.form import Query
from mtlora.inference.fused import FusedBlock, fuse, packer
from mtlora.inference.heads import Head, fold_head
from mtlora.inference.integers import integer_weight
from mtlora.inference.layers import Block, Encoder, own_bytes, tensors_of
from mtlora.inference.windows import stage_shapes
from mtlora.native import kernels
from mtlora.options import Precision
from mtlora.spec import AdapterSpec, SharedMode
from mtlora.tasks import Task

T = TypeVar("T")

_COSTS_KEPT = 64


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class FoldedSet:
    """A set's layers, on the device."""

    spec: AdapterSpec
    encoder: Encoder
    heads: dict[Task, Head]
    signature: Hashable  # sets with equal ones can share a pass
    cost_bytes: int


class FoldedForm:
    """Sets as folded layers; see the module."""

    def __init__(self, backbone: Backbone, *, merge: bool, precision: Precision = Precision.FLOAT32) -> None:
        self.name = "merged" if merge else "lowrank"
        self._backbone = backbone
        self._merge = merge
        self._precision = precision
        self._kernels = kernels() if backbone.device.type == "cpu" else None
        self._made: dict[tuple[str, int], Any] = {}  # of frozen weights, shared by all sets
        self._costs: dict[AdapterSpec, int] = {}
        self._lock = threading.Lock()

    def prepare(self, adapter: AdapterSet) -> FoldedSet:
        """Fold a set; `AdapterMismatchError` if it was trained on another backbone."""
        check_backbone(adapter.manifest, self._backbone)
        device = self._backbone.device
        with torch.inference_mode():
            # copies: a view would keep the whole file in memory
            tensors = {name: t.to(device, torch.float32, copy=True) for name, t in adapter.tensors.items()}
            return self._fold(self._backbone.tensors, adapter.manifest.spec, tensors)

    def device_bytes(self, spec: AdapterSpec) -> int:
        """Exactly what `prepare` will cost: a set of this shape folded without values."""
        with self._lock:
            if spec in self._costs:
                return self._costs[spec]
        cost = self._cost(spec)
        with self._lock:
            self._costs = dict([*self._costs.items(), (spec, cost)][-_COSTS_KEPT:])
        return cost

    def group(self, query: Query[FoldedSet]) -> Hashable:
        """Merged: the same set. Apart: sets of equal shape. Either way the same tasks."""
        resident = query.resident
        return (id(resident) if self._merge else resident.signature), query.tasks

    def forward(self, queries: Sequence[Query[FoldedSet]]) -> list[dict[Task, Tensor]]:
        """One pass of the encoder over all images, then each image's decoders."""
        tasks, sets = queries[0].tasks, [query.resident for query in queries]
        spec, device = sets[0].spec, self._backbone.device
        size = spec.image_size
        for query in queries:
            if tuple(query.pixels.shape) != (3, size, size):
                raise MTLoRAError(f"input must be [3, {size}, {size}], got {list(query.pixels.shape)}")
        with torch.inference_mode():
            images = torch.stack([query.pixels for query in queries]).to(device)
            maps = encode([s.encoder for s in sets], images, _plan(spec, tasks, device))
            return [_decode(s, tasks, [level[i] for level in maps]) for i, s in enumerate(sets)]

    def _fold(self, frozen: Mapping[str, Tensor], spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> FoldedSet:
        encoder = fold_encoder(frozen, spec, tensors, merge=self._merge)
        shared = list(frozen.values())
        stages = tuple(
            replace(stage, blocks=tuple(self._ready(block, heads, shared) for block in stage.blocks))
            for stage, heads in zip(encoder.stages, spec.backbone.num_heads, strict=True)
        )
        encoder = replace(encoder, stages=stages)
        heads = {}
        for task in spec.tasks:
            prefix = f"decoders.{task.task}."
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            heads[task.task] = fold_head(task.decoder, spec.decoder_channels, own)
        signature = (spec.image_size, spec.mode, tuple(tuple(t.shape) for t in tensors_of(encoder)))
        cost = own_bytes((encoder, *heads.values()), shared)
        return FoldedSet(spec, encoder, heads, signature, cost)

    def _ready(self, block: Block, heads: int, shared: list[Tensor]) -> Block | FusedBlock:
        """In this precision, for the kernels where they know its kind; what is made of frozen weights is `shared`."""
        ready: Block | FusedBlock = block
        if self._kernels is not None:
            pack = packer(self._kernels, self._precision)
            ready = fuse(block, heads, self._kernels, pack, self._once("packed", pack, shared))
        if isinstance(ready, FusedBlock) or self._precision is Precision.FLOAT32:
            return ready
        once = self._once("integers", integer_weight, shared)
        return ready.with_weights(lambda weight: (once if weight.ndim == 2 else integer_weight)(weight))

    def _once(self, name: str, make: Callable[[Tensor], T], shared: list[Tensor]) -> Callable[[Tensor], T]:
        """`make` for frozen weights: every set gets the same result, kept as long as this form."""

        def made(weight: Tensor) -> T:
            if weight.device.type == "meta":
                result = make(weight)
            else:
                with self._lock:
                    key = (name, id(weight))
                    result = self._made[key] if key in self._made else self._made.setdefault(key, make(weight))
            shared.extend(tensors_of(result))
            return result

        return made

    def _cost(self, spec: AdapterSpec) -> int:
        tensors = {name: torch.empty(shape, device="meta") for name, shape in adapter_shapes(spec).items()}
        frozen = {name: torch.empty(t.shape, device="meta") for name, t in self._backbone.tensors.items()}
        return self._fold(frozen, spec, tensors).cost_bytes


def _plan(spec: AdapterSpec, tasks: Sequence[Task], device: torch.device) -> Plan:
    wanted = None
    if tuple(tasks) != spec.task_names:
        wanted = torch.tensor([spec.task_names.index(task) for task in tasks], device=device)
    return Plan(stage_shapes(spec), spec.backbone.num_heads, wanted, spec.mode is SharedMode.ADDITION)


def _decode(resident: FoldedSet, tasks: Sequence[Task], maps: Sequence[Tensor]) -> dict[Task, Tensor]:
    """Logits of one image: maps are float [T, h, w, c]."""
    logits = {}
    for index, task in enumerate(tasks):
        scores = resident.heads[task]([level[index : index + 1] for level in maps])
        logits[task] = scores[0].float().contiguous().cpu()
    return logits
