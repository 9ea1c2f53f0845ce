"""The CPU backend: folded layers, pairs merged into weights or kept apart beside frozen weights that sets share.

Merged is the fastest form on a CPU, at the price of a copy of the adapted weights for every set. Apart costs a set only
what it trained, and images of different sets can share a pass: the form for a GPU, or for many sets.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from cachetools import LRUCache
from torch import Tensor

from mtlora.inference.backends.backend import Query
from mtlora.inference.backends.folded_sets import SHAPES_KEPT, Folding, check_queries, gating_of, heads_of, plan_of
from mtlora.inference.forward.decoders import Head
from mtlora.inference.forward.encoder import embed, encode
from mtlora.inference.forward.fused_blocks import FusedBlock, fuse, packer
from mtlora.inference.forward.stage import Plan
from mtlora.inference.prepare.fold import fold_encoder
from mtlora.inference.prepare.int8 import integer_weight
from mtlora.inference.prepare.layers import Block, Encoder, own_bytes, tensors_of
from mtlora.inference.prepare.packing_plan import PackingPlan, make_packing_plan
from mtlora.inference.prepare.planner import Planner
from mtlora.kernels import Kernels, kernels
from mtlora.ops.denormals import denormals_are_zero
from mtlora.vocabulary.options import Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class FoldedSet:
    """A set's layers, on the device."""

    spec: AdapterSpec
    encoder: Encoder
    heads: dict[Task, Head]
    signature: Hashable  # sets with equal ones can share a pass
    cost_bytes: int
    planner: Planner | None = None


class CpuBackend(Folding[FoldedSet]):
    """Sets as folded layers; see the module."""

    def __init__(self, backbone: Backbone, *, merge: bool, precision: Precision = Precision.FLOAT32) -> None:
        super().__init__(backbone, merge=merge)
        self._precision = precision
        self._kernels = kernels() if backbone.device.type == "cpu" else None
        self._packing_plans: LRUCache[AdapterSpec, PackingPlan] = LRUCache(SHAPES_KEPT)
        self._facts: LRUCache[AdapterSpec, tuple[Hashable, int]] = LRUCache(SHAPES_KEPT)  # signature and cost

    def group(self, query: Query[FoldedSet]) -> Hashable:
        """Merged: the same set. Apart: sets of equal shape. Either way the same tasks."""
        resident = query.resident
        return (id(resident) if self._merge else resident.signature), query.tasks

    def warm(self, resident: FoldedSet, images: int) -> None:  # noqa: ARG002
        """One image: more would be no news."""
        size = resident.spec.image_size
        self.forward([Query(resident, torch.zeros(3, size, size), resident.spec.task_names)])

    def forward(self, queries: Sequence[Query[FoldedSet]]) -> list[dict[Task, Tensor]]:
        """One pass of the encoder over all images, then each image's decoders."""
        tasks, sets = queries[0].tasks, [query.resident for query in queries]
        spec, device = sets[0].spec, self._backbone.device
        check_queries(queries)
        with torch.inference_mode(), denormals_are_zero():
            images = torch.stack([query.pixels for query in queries]).to(device)
            plan = plan_of(spec, tasks, device)
            maps = encode([s.encoder for s in sets], images, plan, gating_of(queries, plan, device))
            return [_decode(s, tasks, [level[i] for level in maps]) for i, s in enumerate(sets)]

    def _embedded(self, resident: FoldedSet, images: Tensor, layout: Plan) -> Tensor:
        return embed([resident.encoder], images, layout)

    def _with_planner(self, folded: FoldedSet, planner: Planner | None) -> FoldedSet:
        return replace(folded, planner=planner)

    def _fold(self, frozen: Mapping[str, Tensor], spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> FoldedSet:
        shared = list(frozen.values())
        if self._kernels is not None and self._precision is Precision.FLOAT32:
            packing_plan = self._of_shape(self._packing_plans, spec, partial(self._packing_plan, self._kernels))
            shared += packing_plan.shared
            own = self._copies(tensors, packing_plan.taken)
            encoder = fold_encoder(frozen, spec, own, merge=self._merge, blocks=packing_plan.blocks(tensors))
        else:
            own = self._copies(tensors)
            encoder = self._lowered(fold_encoder(frozen, spec, own, merge=self._merge), spec, shared)
        heads = heads_of(spec, own)

        def facts(spec: AdapterSpec) -> tuple[Hashable, int]:
            shapes = tuple(tuple(t.shape) for t in tensors_of(encoder))
            signature = (spec.image_size, spec.mode, spec.task_names, shapes)
            return signature, own_bytes((encoder, *heads.values()), shared)

        return FoldedSet(spec, encoder, heads, *self._of_shape(self._facts, spec, facts))

    def _packing_plan(self, native: Kernels, spec: AdapterSpec) -> PackingPlan:
        """For the blocks of a shape in float32."""
        pack = self._once("packed", packer(native), [])
        return make_packing_plan(
            self._backbone.tensors, spec, native, lambda weight: pack(weight)[0], merge=self._merge
        )

    def _lowered(self, encoder: Encoder, spec: AdapterSpec, shared: list[Tensor]) -> Encoder:
        """The encoder in this precision; what is made of frozen weights is `shared`."""
        if self._precision is Precision.FLOAT32:
            return encoder
        stages = tuple(
            replace(stage, blocks=tuple(self._ready(block, heads, shared) for block in stage.blocks))
            for stage, heads in zip(encoder.stages, spec.backbone.num_heads, strict=True)
        )
        return replace(encoder, stages=stages)

    def _ready(self, block: Block, heads: int, shared: list[Tensor]) -> Block | FusedBlock:
        """In integers, for the kernels where they know the block's kind."""
        if self._kernels is not None:
            pack = packer(self._kernels, self._precision)
            ready = fuse(block, heads, self._kernels, pack, self._once("packed", pack, shared))
            if isinstance(ready, FusedBlock):
                return ready
        rounded = self._once("integers", integer_weight, shared)
        return block.with_weights(lambda weight: (rounded if weight.ndim == 2 else integer_weight)(weight))


def _decode(resident: FoldedSet, tasks: Sequence[Task], maps: Sequence[Tensor]) -> dict[Task, Tensor]:
    """Logits of one image: maps are float [T, h, w, c]."""
    logits = {}
    for index, task in enumerate(tasks):
        scores = resident.heads[task]([level[index : index + 1] for level in maps])
        logits[task] = scores[0].float().contiguous().cpu()
    return logits
