"""Backbones from elsewhere: timm's pretrained Swins, and files of many makes. For the command line only."""

from pathlib import Path

from torch import Tensor

from mtlora.model.backbone import Backbone, infer_spec
from mtlora.vocabulary.errors import BackboneError, ConversionError, UnsafeCheckpointError
from mtlora.vocabulary.shown import shown
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from mtlora.weights.backbone.files import load_backbone
from mtlora.weights.backbone_header import SPEC_KEY
from mtlora.weights.checkpoint.choice import Tell, choose, no_word
from mtlora.weights.checkpoint.container import Checkpoint, open_checkpoint
from mtlora.weights.checkpoint.other_methods import refuse_other_methods
from mtlora.weights.swin_layouts import in_timm_layout, layout_of, wanted_names

FILE_SUFFIXES = frozenset({".pth", ".pt", ".bin", ".ckpt", ".safetensors"})
_TOPS = 8
_ADAPTED = (".lora_shared_A", ".linear.weight")
_POSITIONS = ("absolute_pos_embed", "embeddings.position_embeddings")


def import_backbone(source: str, *, pretrained: bool = True, weights: str = "", tell: Tell = no_word) -> Backbone:
    """Backbone from `source`: a file of weights, or a timm model name. Nothing in a file is run.

    pretrained: for a timm name, download weights; otherwise fresh random ones
    weights:    which of a file's sets of weights; empty: the model's own
    tell:       gets a line where a file holds other sets too
    """
    path = Path(source)
    if path.suffix.lower() not in FILE_SUFFIXES and not path.is_file():
        return _from_timm(source, pretrained=pretrained)
    try:
        checkpoint = open_checkpoint(path)
        if SPEC_KEY in checkpoint.metadata:
            return load_backbone(path)
        return _from_checkpoint(checkpoint, weights, tell)
    except UnsafeCheckpointError as error:
        raise BackboneError(f"cannot read {shown(path)} as a plain weights file", [error.summary]) from error
    except ConversionError as error:
        raise BackboneError(error.summary, error.problems) from error


def from_state_dict(state: dict[str, Tensor], name: str) -> Backbone:
    """Backbone of a Swin's state dict, in any of the layouts."""
    layout = layout_of(state)
    names = wanted_names(layout, state)
    kept = in_timm_layout(layout, names, {key: state[key] for key in names})
    try:
        return Backbone(infer_spec(kept, name), kept)
    except BackboneError as error:
        raise BackboneError(f"{error.summary}, in the layout of {layout.name}", error.problems) from error


def _from_checkpoint(checkpoint: Checkpoint, weights: str, tell: Tell) -> Backbone:
    file = checkpoint.path.name
    if METADATA_KEY in checkpoint.metadata:
        raise BackboneError(f"{shown(file)} is an adapter set, not a backbone")
    choice = choose(checkpoint, weights, tell)
    refuse_other_methods(file, choice.taken.tensors)
    encoder = choice.taken.encoder()
    _refuse_others(file, list(encoder))
    names = wanted_names(layout_of(encoder), encoder)
    return from_state_dict(checkpoint.read({key: encoder[key] for key in names}), checkpoint.path.stem)


def _refuse_others(file: str, keys: list[str]) -> None:
    """`BackboneError` of one line for what is no plain Swin, where it can be told what it is."""
    if any(key.endswith(_ADAPTED) for key in keys):
        raise BackboneError(
            f"{shown(file)} is an MTLoRA checkpoint; `mtlora convert` makes a backbone and an adapter set of it"
        )
    if positions := [key for key in keys if key in _POSITIONS]:
        raise BackboneError(f"{shown(file)} is a Swin with absolute positions ({positions[0]}), which is not supported")
    if layout_of(keys).sign not in keys:
        tops = list(dict.fromkeys(shown(key.partition(".")[0], 40) for key in keys))
        more = ", …" if len(tops) > _TOPS else ""
        raise BackboneError(
            f"{shown(file)} holds no Swin encoder: no patch_embed.proj.weight under any prefix, "
            f"only {', '.join(tops[:_TOPS])}{more}"
        )


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
