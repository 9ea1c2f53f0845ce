"""The header of a backbone file, and what it says: read within bounds, and without torch.

Whatever is refused here `load_backbone` refuses too, after torch is imported and the tensors are read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtlora.vocabulary.encoder_shapes import shape_problems, spec_of_shapes
from mtlora.vocabulary.errors import AdapterFileError, BackboneError, SpecError
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.weights.adapter_file.announced import header_text
from mtlora.weights.adapter_file.header import LENGTH_BYTES, clip, parse_json
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from mtlora.weights.plain_files import open_plain
from mtlora.weights.swin_layouts import other_layout

SPEC_KEY = "mtlora.weights.backbone"
SUFFIX = ".safetensors"
CLASSIFIER = ("norm.", "head.")
"""Beginnings of the names that a classifier has and an encoder has not."""

_FLOATS = ("F", "BF")
Shapes = dict[str, tuple[int, ...]]


def check_suffix(path: Path) -> None:
    """`BackboneError` unless the file is called what a backbone file must be called."""
    if path.suffix != SUFFIX:
        raise BackboneError(f"{path} is not a {SUFFIX} file; `mtlora backbone` makes one from timm or a .pth")


def refuse_other_layouts(path: Path, names: Iterable[str]) -> None:
    """`BackboneError` if a file that does not describe itself has other names than timm's."""
    if layout := other_layout(names):
        raise BackboneError(
            f"{path} has the tensors of a Swin in the layout of {layout}; "
            f"`mtlora backbone {path} --out FILE{SUFFIX}` makes a backbone file of it"
        )


def read_backbone_spec(path: Path) -> BackboneSpec:
    """Shape of the encoder in a file; `BackboneError` if the header does not announce one. No tensor is read."""
    check_suffix(path)
    try:
        with open_plain(path) as file:
            text, size = header_text(file, path.name)
        raw = parse_json(text, path.name)
    except IsADirectoryError:
        raise BackboneError(f"{path} is a folder") from None
    except OSError as error:
        raise BackboneError(f"cannot read backbone file {path}", [error.strerror or str(error)]) from error
    except AdapterFileError as error:
        raise BackboneError(f"{path} is not a whole safetensors file", [error.summary]) from error
    metadata = raw.pop("__metadata__", None)
    metadata = metadata if isinstance(metadata, dict) else {}
    shapes = _shapes(raw, size - LENGTH_BYTES - len(text), path)
    if METADATA_KEY in metadata:
        raise BackboneError(f"{path} is an adapter set, not a backbone")
    return _spec(metadata, shapes, path)


def _shapes(raw: Mapping[str, Any], data_bytes: int, path: Path) -> Shapes:
    """{name: shape} of the encoder's tensors, once the file is known to hold what its header announces."""
    shapes: Shapes = {}
    end = 0
    for name, entry in raw.items():
        try:
            shape, last = tuple(int(side) for side in entry["shape"]), int(entry["data_offsets"][1])
            is_float = entry["dtype"].startswith(_FLOATS)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise BackboneError(
                f"{path} is not a whole safetensors file", [f"tensor {clip(name)}: no valid entry"]
            ) from None
        end = max(end, last)
        if is_float and not name.startswith(CLASSIFIER):
            shapes[name] = shape
    if end != data_bytes:
        raise BackboneError(
            f"{path} is not a whole safetensors file", [f"its tensors take {end} bytes, {data_bytes} are there"]
        )
    return shapes


def _spec(metadata: Mapping[str, Any], shapes: Shapes, path: Path) -> BackboneSpec:
    if SPEC_KEY not in metadata:
        refuse_other_layouts(path, shapes)
        spec = spec_of_shapes(shapes, path.stem)
    else:
        try:
            spec = BackboneSpec.from_json(str(metadata[SPEC_KEY]))
        except SpecError as error:
            raise BackboneError(f"backbone file {path} describes itself wrongly", [str(error)]) from error
    if problems := shape_problems(spec, shapes):
        raise BackboneError(f"these are not the weights of backbone {spec.name!r}", problems)
    return spec
