"""Backbone files: one `.safetensors` with timm's tensor names and the spec in the metadata. Never a pickle."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mtlora.model.backbone import Backbone, infer_spec
from mtlora.vocabulary.errors import BackboneError, SpecError
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.weights.atomic import write_atomically
from mtlora.weights.backbone_header import CLASSIFIER, SPEC_KEY, check_suffix, refuse_other_layouts

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def load_backbone(path: str | Path) -> Backbone:
    """Backbone of a `.safetensors` file: ours, or timm's own for a Swin (its classifier is left out)."""
    path = Path(path)
    check_suffix(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"cannot read backbone file {path}", [str(error)]) from error
    kept = {name: t for name, t in tensors.items() if not name.startswith(CLASSIFIER) and t.is_floating_point()}
    if SPEC_KEY not in metadata:
        refuse_other_layouts(path, kept)
        return Backbone(infer_spec(kept, path.stem), kept)
    try:
        spec = BackboneSpec.from_json(metadata[SPEC_KEY])
    except SpecError as error:
        raise BackboneError(f"backbone file {path} describes itself wrongly", [str(error)]) from error
    return Backbone(spec, kept)


def save_backbone(backbone: Backbone, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a backbone atomically. A narrower `dtype` changes values, so adapter sets must be trained on the file."""
    if dtype not in _DTYPES:
        raise BackboneError(f"a backbone file holds float32, float16 or bfloat16, not {dtype}")
    path = Path(path)
    tensors = {name: tensor.to(dtype) for name, tensor in backbone.tensors.items()}
    overflowed = [f"{name} does not fit {dtype}" for name, t in tensors.items() if not bool(torch.isfinite(t).all())]
    if overflowed:
        raise BackboneError(f"cannot save {path}", overflowed)
    blob = save(tensors, metadata={SPEC_KEY: backbone.spec.to_json()})
    try:
        write_atomically(path, lambda file: file.write(blob))
    except OSError as error:
        raise BackboneError(f"cannot write {path}: {error.strerror or error}") from error
