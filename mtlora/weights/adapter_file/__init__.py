"""Adapter files: one self-describing `.safetensors` per adapter set; docs/adapter-format.md is the format.

What needs torch is imported when first used: a header can be read and checked without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtlora.vocabulary.model_shapes import adapter_shapes, frozen_shapes, model_shapes, parameter_counts
from mtlora.weights.adapter_file.announced import has_manifest, read_manifest
from mtlora.weights.adapter_file.check import check_backbone, check_shape
from mtlora.weights.adapter_file.manifest import FORMAT_VERSION, AdapterManifest, needed_version

if TYPE_CHECKING:
    from mtlora.weights.adapter_file.load import AdapterSet, CheckedFiles, load_adapter
    from mtlora.weights.adapter_file.save import save_adapter, write_adapter

_HOMES = {
    "AdapterSet": "load",
    "CheckedFiles": "load",
    "load_adapter": "load",
    "save_adapter": "save",
    "write_adapter": "save",
}

__all__ = [
    "FORMAT_VERSION",
    "AdapterManifest",
    "AdapterSet",
    "CheckedFiles",
    "adapter_shapes",
    "check_backbone",
    "check_shape",
    "frozen_shapes",
    "has_manifest",
    "load_adapter",
    "model_shapes",
    "needed_version",
    "parameter_counts",
    "read_manifest",
    "save_adapter",
    "write_adapter",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
