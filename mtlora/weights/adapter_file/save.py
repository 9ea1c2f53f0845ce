"""Writing of an adapter file: checked first, written beside its place, moved there when it is whole on disk."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from mtlora.vocabulary.errors import AdapterFileError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file.header import ITEM_BYTES, LENGTH_BYTES, raise_if
from mtlora.weights.adapter_file.load import DTYPES, compare_shapes, expected_shapes, not_finite
from mtlora.weights.adapter_file.manifest import METADATA_KEY, AdapterManifest, ProvenanceValue, needed_version
from mtlora.weights.atomic import write_atomically

_ALIGNMENT = 8
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save_adapter(
    path: str | Path,
    spec: AdapterSpec,
    tensors: Mapping[str, Tensor],
    *,
    backbone_name: str,
    backbone_fingerprint: str,
    name: str = "",
    provenance: Mapping[str, ProvenanceValue] | None = None,
    dtype: torch.dtype = torch.float16,
) -> str:
    """Write an adapter set and return its digest; on any error what was at `path` stays as it was.

    tensors: exactly those of `adapter_shapes(spec)`, of any float type; stored as `dtype`
    """
    manifest = AdapterManifest(
        format_version=needed_version(spec),
        name=name,
        spec=spec,
        backbone_name=backbone_name,
        backbone_fingerprint=backbone_fingerprint,
        provenance=dict(provenance or {}),
    )
    return write_adapter(path, manifest, tensors, dtype)


def write_adapter(
    path: str | Path, manifest: AdapterManifest, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float16
) -> str:
    """As `save_adapter`, of a set with this manifest.

    tensors: exactly those of `adapter_shapes(manifest.spec)` and, with a policy, of `policy_shapes`
    """
    path = Path(path)
    if dtype not in _DTYPE_NAMES:
        raise AdapterFileError(f"adapter files store {', '.join(ITEM_BYTES)}, got {dtype}")
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    raise_if(compare_shapes(expected_shapes(manifest), found), f"{path.name}: wrong tensors")
    stored = {key: tensors[key].detach().to("cpu", dtype).contiguous() for key in sorted(tensors)}
    raise_if(not_finite(stored), f"{path.name}: values that are not finite as {_DTYPE_NAMES[dtype]}")
    digest = hashlib.sha256()

    def write(file: BinaryIO) -> None:
        for chunk in _chunks(manifest, stored):
            digest.update(chunk)
            file.write(chunk)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise AdapterFileError(f"cannot write {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _chunks(manifest: AdapterManifest, tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """The file's bytes, in order. The same set always gives the same bytes, so the digest names the content."""
    header: dict[str, object] = {"__metadata__": {METADATA_KEY: manifest.to_json()}}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.numel() * tensor.dtype.itemsize
        shape = list(tensor.shape)
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(LENGTH_BYTES, "little")
    yield text
    for tensor in tensors.values():
        yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
