"""The GPU backend: folded layers; images of sets of equal shape share one pass, all in batched products.

The frozen weights are shared; what a set brings along lies in one piece of memory, so a mixed batch begins with one
copy of each set. The same code runs on a CPU, where tests hold it equal to the other forms.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.inference.backends.backend import Query
from mtlora.inference.backends.folded_sets import Folding, check_queries, gating_of, heads_of, plan_of
from mtlora.inference.forward.encoder import embed, encode
from mtlora.inference.forward.gating import StageGating
from mtlora.inference.forward.graphs import Passes, sizes_up_to
from mtlora.inference.forward.stage import Plan
from mtlora.inference.prepare.flat_buffer import Layout, Place, flatten
from mtlora.inference.prepare.fold import fold_encoder
from mtlora.inference.prepare.layers import Encoder, mapped
from mtlora.inference.prepare.planner import Planner
from mtlora.vocabulary.options import Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone

TIMES_TO_RECORD = 2
ATTENTION_ALIGNED = 8  # columns: what the attention kernels want of a bias, and would copy it for

DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class FlatSet:
    """A set's tensors, on the device."""

    spec: AdapterSpec
    flat: Tensor
    layout: Layout
    signature: Hashable  # sets with equal ones can share a pass
    planner: Planner | None = None

    @property
    def cost_bytes(self) -> int:
        """Of the one tensor that holds all."""
        return self.flat.nbytes


class CudaBackend(Folding[FlatSet]):
    """Sets as folded layers; see the module."""

    def __init__(self, backbone: Backbone, *, merge: bool, precision: Precision = Precision.FLOAT32) -> None:
        super().__init__(backbone, merge=merge)
        self._dtype = DTYPES[precision]
        self._passes = Passes(backbone.device)

    def group(self, query: Query[FlatSet]) -> Hashable:
        """Sets of equal shape, the same tasks."""
        return query.resident.signature, query.tasks

    def forward(self, queries: Sequence[Query[FlatSet]]) -> list[dict[Task, Tensor]]:
        """One pass over all images, encoder and decoders, and one copy of the logits to the CPU."""
        tasks, first = queries[0].tasks, queries[0].resident
        check_queries(queries)
        flats = [query.resident.flat for query in queries]
        if all(flat is flats[0] for flat in flats):
            flats = flats[:1]
        gating = gating_of(queries, _kept_plan(first.spec, tasks, self._backbone.device), self._backbone.device)
        logits = self._run(first, tasks, flats, [query.pixels for query in queries], gating)
        outputs = [first.spec.task(task).outputs for task in tasks]
        return [dict(zip(tasks, scores.split(outputs), strict=True)) for scores in logits]

    def warm(self, resident: FlatSet, images: int) -> None:
        """Record the passes of all tasks for batches of up to so many images, of one set and of several."""
        spec = resident.spec
        black = torch.zeros(3, spec.image_size, spec.image_size)
        for size in sizes_up_to(images):
            for sets in sorted({1, size}):
                for _ in range(TIMES_TO_RECORD):
                    self._run(resident, spec.task_names, [resident.flat] * sets, [black] * size)

    def _run(
        self,
        first: FlatSet,
        tasks: tuple[Task, ...],
        flats: list[Tensor],
        images: list[Tensor],
        gating: Sequence[StageGating] | None = None,
    ) -> Tensor:
        """Logits on the CPU, float32 [n, outputs of all tasks, h, w]."""
        plan = _kept_plan(first.spec, tasks, self._backbone.device)
        compute = partial(_compute, first.layout, first.spec, tasks, plan, gating)
        with torch.inference_mode(), exact_convolutions():
            if gating is not None:  # what is launched depends on the gates, so no recording would come again
                return _on_host(compute(*(torch.stack(own).to(self._backbone.device) for own in (flats, images))))
            return _on_host(self._passes.run((first.signature, tasks), compute, flats, images))

    def _embedded(self, resident: FlatSet, images: Tensor, layout: Plan) -> Tensor:
        encoder, _ = resident.layout.of(resident.flat[None])
        return embed([encoder], images.to(self._dtype), layout)

    def _with_planner(self, folded: FlatSet, planner: Planner | None) -> FlatSet:
        return replace(folded, planner=planner)

    def _fold(self, frozen: Mapping[str, Tensor], spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> FlatSet:
        tensors = self._copies(tensors)
        encoder = _padded(fold_encoder(frozen, spec, tensors, merge=self._merge))
        shared = list(frozen.values())
        known = {id(tensor) for tensor in shared}
        cast = self._once("cast", lambda weight: weight.to(self._dtype), shared)
        encoder = mapped(encoder, lambda tensor: cast(tensor) if id(tensor) in known else tensor)
        heads = tuple(mapped(head, lambda tensor: tensor[None]) for head in heads_of(spec, tensors).values())
        flat, layout = flatten((encoder, heads), shared, self._dtype)
        leaves: list[object] = []
        mapped(layout.template, lambda leaf: leaves.append(leaf if isinstance(leaf, Place) else id(leaf)),
               (Place, Tensor))  # fmt: skip
        decoders = tuple(task.decoder for task in spec.tasks)
        signature = (spec.image_size, spec.mode, spec.task_names, decoders, tuple(leaves))
        return FlatSet(spec, flat, layout, signature)


def exact_convolutions() -> AbstractContextManager[None]:
    """Convolutions of float32 in float32: left alone, a GPU rounds their inputs to TF32, an error of 1e-3."""
    flags: Callable[..., AbstractContextManager[None]] = torch.backends.cudnn.flags
    return flags(enabled=True, allow_tf32=False)


def _compute(
    layout: Layout,
    spec: AdapterSpec,
    tasks: Sequence[Task],
    plan: Plan,
    gating: Sequence[StageGating] | None,
    flats: Tensor,
    images: Tensor,
) -> Tensor:
    """float [1 or n, size] and float32 [n, 3, S, S] -> float32 [n, outputs of all tasks, h, w]."""
    encoder, heads = layout.of(flats)
    maps = encode([encoder], images.to(flats.dtype), plan, gating)
    scores = [
        heads[spec.task_names.index(task)].at_once([level[:, index].contiguous() for level in maps])
        for index, task in enumerate(tasks)
    ]
    return torch.cat(scores, dim=1).float()


def _on_host(logits: Tensor) -> Tensor:
    """In page-locked memory, which a GPU copies to four times as fast; torch keeps it for the next batch."""
    if logits.device.type == "cpu":
        return logits
    host = torch.empty(logits.shape, pin_memory=True)
    host.copy_(logits, non_blocking=True)
    torch.cuda.current_stream(logits.device).synchronize()
    return host


def _padded(encoder: Encoder) -> Encoder:
    """With position biases whose rows are as long as attention kernels want them."""
    stages = tuple(
        replace(
            stage,
            blocks=tuple(
                replace(block, position=F.pad(block.position, (0, -block.position.shape[-1] % ATTENTION_ALIGNED)))
                for block in stage.blocks
            ),
        )
        for stage in encoder.stages
    )
    return replace(encoder, stages=stages)


@lru_cache(maxsize=64)
def _kept_plan(spec: AdapterSpec, tasks: tuple[Task, ...], device: torch.device) -> Plan:
    return plan_of(spec, tasks, device)
