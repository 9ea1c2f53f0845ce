"""Adapter files: one self-describing `.safetensors` per adapter set; docs/adapter-format.md is the format."""

from mtlora.adapter_file.check import check_backbone
from mtlora.adapter_file.layout import adapter_shapes, frozen_shapes, model_shapes, parameter_counts
from mtlora.adapter_file.load import AdapterSet, CheckedFiles, has_manifest, load_adapter, read_manifest
from mtlora.adapter_file.manifest import FORMAT_VERSION, AdapterManifest
from mtlora.adapter_file.save import save_adapter

__all__ = [
    "FORMAT_VERSION",
    "AdapterManifest",
    "AdapterSet",
    "CheckedFiles",
    "adapter_shapes",
    "check_backbone",
    "frozen_shapes",
    "has_manifest",
    "load_adapter",
    "model_shapes",
    "parameter_counts",
    "read_manifest",
    "save_adapter",
]
