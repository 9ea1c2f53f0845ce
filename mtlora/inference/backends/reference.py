"""The reference backend: the training model as it is, so the slowest. The other backends are tested against it."""

import copy
import math
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache
from torch import Tensor

from mtlora.inference.backends.backend import Query
from mtlora.inference.backends.cuda import exact_convolutions
from mtlora.inference.backends.folded_sets import check_queries, planned, planner_of
from mtlora.inference.prepare.planner import ComputePlan, Planner
from mtlora.model.gates import Gates, all_open, stacked_gates
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.ops.denormals import denormals_are_zero
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet, adapter_shapes, check_backbone
from mtlora.weights.backbone import Backbone

TEMPLATES_KEPT = 4
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PlainSet:
    """A model of its own whose frozen tensors are the backbone's memory."""

    model: MTLoRAModel
    spec: AdapterSpec
    cost_bytes: int
    planner: Planner | None = None


class ReferenceBackend:
    """Sets as adapted models; each query group is one forward pass of one model."""

    name = "plain"

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._templates: LRUCache[AdapterSpec, MTLoRAModel] = LRUCache(TEMPLATES_KEPT)
        self._lock = threading.Lock()

    def prepare(self, adapter: AdapterSet) -> PlainSet:
        """A twin of the shape's template with this set's tensors."""
        spec = adapter.manifest.spec
        check_backbone(adapter.manifest, self._backbone)
        model = twin(self._template(spec))
        model.load_adapter_tensors(adapter.tensors)
        return PlainSet(model, spec, self.device_bytes(spec), planner_of(adapter))

    def device_bytes(self, spec: AdapterSpec) -> int:
        """The set's tensors as float32."""
        return _FLOAT32_BYTES * sum(math.prod(shape) for shape in adapter_shapes(spec).values())

    def group(self, query: Query[PlainSet]) -> Hashable:
        """Same set, same tasks."""
        return id(query.resident), query.tasks

    def warm(self, resident: PlainSet, images: int) -> None:  # noqa: ARG002
        """One image: more would be no news."""
        size = resident.spec.image_size
        self.forward([Query(resident, torch.zeros(3, size, size), resident.spec.task_names)])

    def plan(self, query: Query[PlainSet], compute: float) -> ComputePlan:
        """See `Backend.plan`."""
        check_queries([query])
        resident = query.resident
        with torch.inference_mode(), exact_convolutions(), denormals_are_zero():
            patches = resident.model.backbone.patch_embed(query.pixels[None].to(self._backbone.device))
            return planned(resident.planner, patches[0], query.tasks, compute)

    def forward(self, queries: Sequence[Query[PlainSet]]) -> list[dict[Task, Tensor]]:
        """One pass over all images."""
        model, tasks = queries[0].resident.model, queries[0].tasks
        with torch.inference_mode(), exact_convolutions(), denormals_are_zero():
            images = torch.stack([query.pixels for query in queries]).to(self._backbone.device)
            logits = {
                task: scores.float().cpu()
                for task, scores in model.coarse_logits(images, tasks, gates=_gates(queries)).items()
            }
        return [{task: scores[i] for task, scores in logits.items()} for i in range(len(queries))]

    def _template(self, spec: AdapterSpec) -> MTLoRAModel:
        """A model of this shape, kept: sets usually share a few shapes, and building costs ten times copying."""
        with self._lock:
            if spec not in self._templates:
                self._templates[spec] = build_model(self._backbone, spec).eval().requires_grad_(False)
            return self._templates[spec]


def _gates(queries: Sequence[Query[PlainSet]]) -> Gates | None:
    """Those of all images, put together; None: everything is computed."""
    if all(query.gates is None for query in queries):
        return None
    spec = queries[0].resident.spec
    each = [query.gates or all_open(spec) for query in queries]
    first, second, third, fourth = (stacked_gates([own[stage] for own in each]) for stage in range(4))
    return first, second, third, fourth


def twin(model: MTLoRAModel) -> MTLoRAModel:
    """A copy with adapter tensors of its own; every other tensor is the same memory."""
    own = model.adapter_tensors().keys()
    named = [*model.named_parameters(), *model.named_buffers()]
    shared = {id(tensor): tensor for name, tensor in named if name not in own}
    return copy.deepcopy(model, shared)
