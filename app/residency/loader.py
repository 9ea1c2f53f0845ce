"""From an adapter file to a model that runs: in a loader thread, never on the event loop or in the engine."""

import copy
import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from app.errors import AdapterLoadError
from app.residency.names import AdapterRef
from mtlora.adapter_file import check_backbone, load_adapter
from mtlora.backbone import Backbone
from mtlora.errors import MTLoRAError
from mtlora.model import MTLoRAModel, build_model
from mtlora.spec import AdapterSpec

TEMPLATES_KEPT = 4


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedSet:
    """A set in memory: a model of its own whose frozen tensors are the backbone's memory."""

    ref: AdapterRef
    model: MTLoRAModel
    spec: AdapterSpec
    cost_bytes: int  # tensors of this set alone

    @property
    def device(self) -> torch.device:
        """Where the set runs."""
        return next(self.model.parameters()).device


class AdapterLoader:
    """Builds adapted models on one shared backbone."""

    def __init__(self, backbone: Backbone, locate: Callable[[AdapterRef], Path]) -> None:
        self._backbone = backbone
        self._locate = locate
        self._templates: OrderedDict[AdapterSpec, MTLoRAModel] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, ref: AdapterRef) -> AdaptedSet:
        """Read, check and build one revision; `AdapterLoadError` says why it cannot be."""
        try:
            adapter = load_adapter(self._locate(ref))
            if adapter.digest != ref.digest:
                raise AdapterLoadError(f"the file of {ref} has digest {adapter.digest}, expected {ref.digest}")
            check_backbone(adapter.manifest, self._backbone)
            model = twin(self._template(adapter.manifest.spec))
            model.load_adapter_tensors(adapter.tensors)
        except (MTLoRAError, OSError) as error:
            raise AdapterLoadError(f"adapter set {ref} cannot be loaded: {error}") from error
        _spare_the_collector()
        cost = sum(t.numel() * t.element_size() for t in model.adapter_tensors().values())
        return AdaptedSet(ref, model, adapter.manifest.spec, cost)

    def _template(self, spec: AdapterSpec) -> MTLoRAModel:
        """A model of this shape, kept: sets usually share a few shapes, and building costs ten times copying."""
        with self._lock:
            if spec not in self._templates:
                self._templates[spec] = build_model(self._backbone, spec).eval().requires_grad_(False)
                while len(self._templates) > TEMPLATES_KEPT:
                    self._templates.popitem(last=False)
            self._templates.move_to_end(spec)
            return self._templates[spec]


def _spare_the_collector() -> None:
    """Take what is in memory now out of the garbage collector's sight.

    A set is some 6,000 objects: with hundreds of them every full collection would stop all threads for seconds.
    They hold no cycles, so eviction still frees them at once; cycles that exist now are collected first.
    """
    gc.collect()
    gc.freeze()


def twin(model: MTLoRAModel) -> MTLoRAModel:
    """A copy with adapter tensors of its own; every other tensor is the same memory."""
    own = model.adapter_tensors().keys()
    named = [*model.named_parameters(), *model.named_buffers()]
    shared = {id(tensor): tensor for name, tensor in named if name not in own}
    return copy.deepcopy(model, shared)
