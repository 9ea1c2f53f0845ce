"""Files of AdaMTL models: one `.safetensors` with a manifest that says all; docs/adamtl.md is the format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mtlora.adamtl.shapes import adamtl_shapes
from mtlora.adamtl.spec import AdaSpec
from mtlora.vocabulary.errors import AdapterFileError, SpecError
from mtlora.vocabulary.spec import WHOLE, Spec
from mtlora.weights.adapter_file.announced import opened, read_header
from mtlora.weights.adapter_file.header import Header, invalid_manifest, manifest_text, raise_if
from mtlora.weights.adapter_file.load import compare_shapes, header_shapes, not_finite
from mtlora.weights.adapter_file.manifest import MAX_PROVENANCE_ENTRIES, NAME_PATTERN, Provenance
from mtlora.weights.atomic import write_atomically

METADATA_KEY = "mtlora_adamtl"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class AdaManifest(Spec):
    """What the file of an AdaMTL model says about itself."""

    kind: Literal["adamtl"] = "adamtl"
    format_version: Annotated[Literal[1], WHOLE] = 1
    name: str = Field(default="", pattern=rf"{NAME_PATTERN}|^$", description="the model's own name; empty: none")
    spec: AdaSpec
    provenance: Provenance = Field(default_factory=dict, max_length=MAX_PROVENANCE_ENTRIES)


@dataclass(frozen=True, slots=True, eq=False)
class AdaFile:
    """A checked file: every tensor that its spec calls for, well shaped and finite, as float32."""

    manifest: AdaManifest
    tensors: dict[str, Tensor]


def save_ada_file(
    path: str | Path, manifest: AdaManifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> None:
    """Write a model; on any error what was at `path` stays as it was.

    tensors: exactly those of `adamtl_shapes(manifest.spec)`, of any float type; stored as `dtype`
    """
    path = Path(path)
    if dtype not in _DTYPES:
        raise AdapterFileError(f"a model's file holds float32, float16 or bfloat16, not {dtype}")
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    raise_if(compare_shapes(adamtl_shapes(manifest.spec), found), f"{path.name}: wrong tensors")
    stored = {name: tensors[name].detach().to("cpu", dtype).contiguous() for name in sorted(tensors)}
    raise_if(not_finite(stored), f"{path.name}: values that are not finite as {dtype}")
    blob = save(stored, metadata={METADATA_KEY: manifest.to_json()})
    try:
        write_atomically(path, lambda file: file.write(blob))
    except OSError as error:
        raise AdapterFileError(f"cannot write {path}: {error.strerror or error}") from error


def has_ada_manifest(path: str | Path) -> bool:
    """Whether a safetensors file says it is an AdaMTL model; `AdapterFileError` if its header cannot be read."""
    return METADATA_KEY in _header(Path(path)).metadata


def load_ada_file(path: str | Path) -> AdaFile:
    """Read and check a model's file; `AdapterFileError.problems` lists everything that is wrong."""
    path = Path(path)
    header = _header(path)
    if METADATA_KEY not in header.metadata:
        raise AdapterFileError(f"{path.name} is not the file of an AdaMTL model: its metadata has no {METADATA_KEY!r}")
    try:
        manifest = AdaManifest.from_json(manifest_text(header, METADATA_KEY, path.name))
    except SpecError as error:
        raise invalid_manifest(path.name, error) from error
    raise_if(compare_shapes(adamtl_shapes(manifest.spec), header_shapes(header)), f"{path.name}: wrong tensors")
    try:
        tensors = {name: tensor.to(torch.float32) for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise AdapterFileError(f"cannot read {path}: {error}") from error
    raise_if(not_finite(tensors), f"{path.name}: values that are not finite")
    return AdaFile(manifest, tensors)


def _header(path: Path) -> Header:
    with opened(path) as file:
        return read_header(file, path.name)
