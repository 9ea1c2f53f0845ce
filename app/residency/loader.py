"""From an adapter file to a model that runs: in a loader thread, never on the event loop or in the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import AdapterLoadError
from app.residency.names import AdapterRef
from mtlora.adapted import build_adapted
from mtlora.adapter_file import load_adapter
from mtlora.backbone import Backbone
from mtlora.errors import MTLoRAError
from mtlora.model import MTLoRAModel
from mtlora.spec import AdapterSpec


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedSet:
    """A set in memory: a model of its own whose frozen tensors are the backbone's memory."""

    ref: AdapterRef
    model: MTLoRAModel
    spec: AdapterSpec
    cost_bytes: int  # tensors of this set alone


class AdapterLoader:
    """Builds adapted models on one shared backbone."""

    def __init__(self, backbone: Backbone, locate: Callable[[AdapterRef], Path]) -> None:
        self._backbone = backbone
        self._locate = locate

    def __call__(self, ref: AdapterRef) -> AdaptedSet:
        """Read, check and build one revision; `AdapterLoadError` says why it cannot be."""
        try:
            adapter = load_adapter(self._locate(ref))
            if adapter.digest != ref.digest:
                raise AdapterLoadError(f"the file of {ref} has digest {adapter.digest}, expected {ref.digest}")
            model = build_adapted(self._backbone, adapter)
        except (MTLoRAError, OSError) as error:
            raise AdapterLoadError(f"adapter set {ref} cannot be loaded: {error}") from error
        cost = sum(t.numel() * t.element_size() for t in model.adapter_tensors().values())
        return AdaptedSet(ref, model, adapter.manifest.spec, cost)
