"""MTLoRA on frozen Swin encoders: many small adapter sets, several dense tasks each, one backbone.

Names below are imported when first used, so that `import mtlora` and the command line start without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlora.version import __version__

if TYPE_CHECKING:
    from mtlora.model.mtlora import MTLoRAModel, build_model, parameter_counts
    from mtlora.prediction.adapted import build_adapted
    from mtlora.prediction.predict import predict
    from mtlora.vocabulary.errors import MTLoRAError
    from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, TaskSpec
    from mtlora.vocabulary.tasks import Task
    from mtlora.weights.adapter_file import load_adapter, read_manifest, save_adapter
    from mtlora.weights.backbone import Backbone, import_backbone, load_backbone, save_backbone

_HOMES = {
    "AdapterSpec": "vocabulary.spec",
    "Backbone": "weights.backbone",
    "BackboneSpec": "vocabulary.spec",
    "MTLoRAError": "vocabulary.errors",
    "MTLoRAModel": "model.mtlora",
    "Task": "vocabulary.tasks",
    "TaskSpec": "vocabulary.spec",
    "build_adapted": "prediction.adapted",
    "build_model": "model.mtlora",
    "import_backbone": "weights.backbone",
    "load_adapter": "weights.adapter_file",
    "load_backbone": "weights.backbone",
    "parameter_counts": "model.mtlora",
    "predict": "prediction.predict",
    "read_manifest": "weights.adapter_file",
    "save_adapter": "weights.adapter_file",
    "save_backbone": "weights.backbone",
}

__all__ = [
    "AdapterSpec",
    "Backbone",
    "BackboneSpec",
    "MTLoRAError",
    "MTLoRAModel",
    "Task",
    "TaskSpec",
    "__version__",
    "build_adapted",
    "build_model",
    "import_backbone",
    "load_adapter",
    "load_backbone",
    "parameter_counts",
    "predict",
    "read_manifest",
    "save_adapter",
    "save_backbone",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
