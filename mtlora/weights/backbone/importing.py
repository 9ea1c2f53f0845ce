"""Backbones from elsewhere: timm's pretrained Swins and the official Swin checkpoints. For the command line only."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlora.model.backbone import Backbone, infer_spec
from mtlora.vocabulary.errors import BackboneError
from mtlora.weights.backbone.files import load_backbone

_DROPPED = re.compile(r"^(norm|head)\.|\.attn_mask$|\.relative_position_index$")
_MERGING = re.compile(r"^layers\.(\d+)\.downsample\.")


def import_backbone(source: str, *, pretrained: bool = True) -> Backbone:
    """Backbone from `source`: a `.safetensors` file, an official Swin `.pth`, or a timm model name.

    pretrained: for a timm name, download weights; otherwise fresh random ones
    """
    path = Path(source)
    if path.suffix == ".safetensors":
        return load_backbone(path)
    if path.suffix in {".pth", ".pt", ".bin"}:
        return _from_official(path)
    return _from_timm(source, pretrained=pretrained)


def from_state_dict(state: dict[str, Tensor], name: str) -> Backbone:
    """Backbone of a Swin classifier's state dict, in timm's layout or the official one (merging a stage earlier)."""
    kept = {key: tensor for key, tensor in state.items() if not _DROPPED.search(key)}
    if any(key.startswith("layers.0.downsample.") for key in kept):
        kept = {_MERGING.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", key): t for key, t in kept.items()}
    return Backbone(infer_spec(kept, name), kept)


def _from_official(path: Path) -> Backbone:
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean the same to the user
        raise BackboneError(f"cannot read {path} as a plain weights file", [str(error).splitlines()[0]]) from error
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise BackboneError(f"{path} holds no state dict, neither at the top nor under 'model'")
    return from_state_dict(state, path.stem)


def _from_timm(name: str, *, pretrained: bool) -> Backbone:
    import timm

    if not name.startswith("swin_") or not timm.is_model(name):
        known = ", ".join(timm.list_models("swin_*"))
        raise BackboneError(f"{name!r} is neither a file nor a Swin that timm knows; timm knows {known}")
    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # network, hub and cache errors of several libraries
        raise BackboneError(f"timm could not provide weights for {name!r}", [str(error).splitlines()[0]]) from error
    return from_state_dict(model.state_dict(), name)
