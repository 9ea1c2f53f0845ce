"""The shared part of backends with folded sets: preparing a set, and its cost beforehand."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from cachetools import LRUCache
from torch import Tensor

from mtlora.inference.backends.backend import Query, Resident
from mtlora.inference.forward.decoders import Head, fold_head
from mtlora.inference.forward.gating import StageGating, batch_gating, check_gates
from mtlora.inference.forward.stage import Plan
from mtlora.inference.forward.windows import raster_gather, stage_shapes
from mtlora.inference.prepare.layers import tensors_of
from mtlora.inference.prepare.planner import ComputePlan, Planner
from mtlora.ops.denormals import denormals_are_zero
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import PolicyKind
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet, adapter_shapes, check_backbone
from mtlora.weights.backbone import Backbone

S = TypeVar("S", bound=Resident)
T = TypeVar("T")

SHAPES_KEPT = 64


class Folding(ABC, Generic[S]):
    """Prepares sets by folding their tensors on the backbone's device."""

    def __init__(self, backbone: Backbone, *, merge: bool) -> None:
        self.name = "merged" if merge else "lowrank"
        self._backbone = backbone
        self._merge = merge
        self._made: dict[tuple[str, int], Any] = {}  # of frozen weights, shared by all sets
        self._lock = threading.Lock()  # of what was made, held while making
        self._costs: LRUCache[AdapterSpec, int] = LRUCache(SHAPES_KEPT)
        self._shapes_lock = threading.Lock()  # of everything kept by shape

    def prepare(self, adapter: AdapterSet) -> S:
        """Fold a set; `AdapterMismatchError` if it was trained on another backbone."""
        check_backbone(adapter.manifest, self._backbone)
        with torch.inference_mode(), denormals_are_zero():
            folded = self._fold(self._backbone.tensors, adapter.manifest.spec, adapter.tensors)
        return folded if adapter.manifest.policy is None else self._with_planner(folded, planner_of(adapter))

    def device_bytes(self, spec: AdapterSpec) -> int:
        """Exactly what `prepare` will cost: a set of this shape folded without values."""
        return self._of_shape(self._costs, spec, self._cost)

    def plan(self, query: Query[S], compute: float) -> ComputePlan:
        """See `Backend.plan`. The patch embedding, some thousandths of a pass, is computed for it and once more."""
        check_queries([query])
        resident, device = query.resident, self._backbone.device
        layout = plan_of(resident.spec, query.tasks, device)
        first = layout.stages[0]
        with torch.inference_mode(), denormals_are_zero():
            patches = self._embedded(resident, query.pixels[None].to(device), layout)
            rows = patches[0].index_select(0, raster_gather(first.side, first.window, 0, device))
            return planned(resident.planner, rows.view(first.side, first.side, -1), query.tasks, compute)

    @abstractmethod
    def _embedded(self, resident: S, images: Tensor, layout: Plan) -> Tensor:
        """The patch embedding: float32 [n, 3, S, S] -> float [n, L, C], window by window."""

    @abstractmethod
    def _with_planner(self, folded: S, planner: Planner | None) -> S:
        """The same set that plans."""

    @abstractmethod
    def _fold(self, frozen: Mapping[str, Tensor], spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> S:
        """A set from the backbone's tensors and its own, as in its file (or on the meta device: shapes only)."""

    def _copies(self, tensors: Mapping[str, Tensor], without: frozenset[str] = frozenset()) -> dict[str, Tensor]:
        """A set's tensors as float32 on the backbone's device; copies, because a view would keep the whole file."""
        device = self._backbone.device
        return {
            name: t if t.is_meta else t.to(device, torch.float32, copy=True)
            for name, t in tensors.items()
            if name not in without
        }

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

    def _of_shape(self, known: LRUCache[AdapterSpec, T], spec: AdapterSpec, make: Callable[[AdapterSpec], T]) -> T:
        """What is the same for all sets of a shape: made once, kept for the shapes seen last."""
        with self._shapes_lock:
            made = known.get(spec)
        if made is None:
            made = make(spec)
            with self._shapes_lock:
                known[spec] = made
        return made

    def _cost(self, spec: AdapterSpec) -> int:
        tensors = {name: torch.empty(shape, device="meta") for name, shape in adapter_shapes(spec).items()}
        frozen = {name: torch.empty(t.shape, device="meta") for name, t in self._backbone.tensors.items()}
        return self._fold(frozen, spec, tensors).cost_bytes


def planner_of(adapter: AdapterSet) -> Planner | None:
    """What decides beforehand for a set; None: it has no policy, or one that decides while the encoder runs."""
    policy = adapter.manifest.policy
    if policy is None or policy.kind is not PolicyKind.POOLED:
        return None
    return Planner(adapter.manifest.spec, policy.shape, adapter.policy_tensors)


def planned(planner: Planner | None, patches: Tensor, tasks: Sequence[Task], compute: float) -> ComputePlan:
    """As `Planner.plan`; `MTLoRAError` if there is none."""
    if planner is None:
        raise MTLoRAError(f"the set has no policy that decides beforehand, so compute must be 1, got {compute:g}")
    return planner.plan(patches, tasks, compute)


def heads_of(spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> dict[Task, Head]:
    """A set's folded decoders, in its order of tasks."""
    own: dict[str, dict[str, Tensor]] = {task.task: {} for task in spec.tasks}
    for name, tensor in tensors.items():
        if name.startswith("decoders."):
            _, task, part = name.split(".", 2)
            own[task][part] = tensor
    return {task.task: fold_head(task.decoder, spec.decoder_channels, own[task.task]) for task in spec.tasks}


def plan_of(spec: AdapterSpec, tasks: Sequence[Task], device: torch.device) -> Plan:
    """What a pass of these tasks needs to know besides tensors."""
    wanted = None
    if tuple(tasks) != spec.task_names:
        wanted = torch.tensor([spec.task_names.index(task) for task in tasks], device=device)
    return Plan(stage_shapes(spec), spec.backbone.num_heads, wanted, spec.mode is SharedMode.ADDITION)


def check_queries(queries: Sequence[Query[Any]]) -> None:
    """`MTLoRAError` unless each image has its set's size, and gates of its set's shape if any."""
    for query in queries:
        spec = query.resident.spec
        size = spec.image_size
        if tuple(query.pixels.shape) != (3, size, size):
            raise MTLoRAError(f"input must be [3, {size}, {size}], got {list(query.pixels.shape)}")
        if query.gates is not None:
            check_gates(query.gates, spec, stage_shapes(spec))


def gating_of(queries: Sequence[Query[Any]], plan: Plan, device: torch.device) -> tuple[StageGating, ...] | None:
    """The images' gates for one pass; None: everything is computed."""
    return batch_gating([query.gates for query in queries], queries[0].tasks, plan.stages, device)
