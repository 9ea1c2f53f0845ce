"""A published `.pth`: its pickle as inert data, its tensors on demand. Zip container and the older one."""

import io
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mtlora.vocabulary.errors import AdapterFileError, ConversionError
from mtlora.vocabulary.shown import shown
from mtlora.weights.adapter_file.announced import header_text
from mtlora.weights.adapter_file.header import LENGTH_BYTES, parse_json
from mtlora.weights.checkpoint.globals_allowed import ITEM_BYTES, StorageRef, TensorRef, plain_tensor
from mtlora.weights.checkpoint.inert_pickle import MAX_PICKLE_BYTES, read_pickle
from mtlora.weights.plain_files import open_plain

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_MAGIC = b"PK\x03\x04"
_COUNT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Where a storage's bytes lie in the file."""

    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint: `document` is what was saved, with `TensorRef`s for tensors.

    metadata: texts in the header of a `.safetensors` file
    """

    path: Path
    document: Any
    blocks: Mapping[str, Block]
    big_endian: bool
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, tensors: Mapping[str, TensorRef]) -> dict[str, Tensor]:
        """The values of some tensors as float32, contiguous.

        Together they may not be larger than the file: many tensors over one storage would be a memory bomb.
        """
        total, size = sum(ref.span for ref in tensors.values()), self.path.stat().st_size
        if total > size:
            raise ConversionError(f"the tensors claim {total} bytes, the file has {size}")
        with self.path.open("rb") as file:
            return {name: self._read_one(file, name, ref) for name, ref in tensors.items()}

    def _read_one(self, file: BinaryIO, name: str, ref: TensorRef) -> Tensor:
        block, item = self.blocks.get(ref.storage.key), ITEM_BYTES[ref.storage.dtype]
        if block is None or block.nbytes != ref.storage.count * item:
            raise ConversionError(f"{name}: the file does not hold the {ref.storage.count} numbers of its storage")
        if not ref.span:
            return torch.zeros(ref.shape)
        file.seek(block.start + ref.offset * item)
        content = bytearray(file.read(ref.span))
        if len(content) != ref.span:
            raise ConversionError(f"{name}: the file ends within this tensor")
        if self.big_endian and item > 1:
            content = bytearray(b"".join(content[i : i + item][::-1] for i in range(0, len(content), item)))
        flat = torch.frombuffer(content, dtype=getattr(torch, ref.storage.dtype))
        return flat.as_strided(ref.shape, ref.stride).to(torch.float32).contiguous()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a `.pth` or `.safetensors` without running anything in it.

    `UnsafeCheckpointError` if it asks for more than data.
    """
    path = Path(path)
    try:
        with open_plain(path) as file:
            magic = file.read(LENGTH_BYTES + 1)
            file.seek(0)
            if magic.startswith(_ZIP_MAGIC):
                return _open_zip(path, file)
            # A header of JSON follows the length; no pickle of torch's has a brace there.
            if path.suffix == ".safetensors" or magic[LENGTH_BYTES:] == b"{":
                return _open_safetensors(path, file)
            return _open_legacy(path, file)
    except AdapterFileError as error:
        raise ConversionError(f"{path.name} is no whole .safetensors file", [error.summary, *error.problems]) from error
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror or error}") from error
    # NotImplementedError is what zipfile raises for a compression that it does not know.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, ValueError) as error:
        raise ConversionError(f"{path.name} is not a PyTorch checkpoint: {error}") from error


def _open_zip(path: Path, file: BinaryIO) -> Checkpoint:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ConversionError(f"{path.name} is a zip file with {len(pickles)} data.pkl, a checkpoint has one")
        prefix = pickles[0].removesuffix("data.pkl")
        _check_stored(entries.values(), path)
        if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise ConversionError(f"the pickle in {path.name} is larger than {MAX_PICKLE_BYTES} bytes")
        order = archive.read(f"{prefix}byteorder") if f"{prefix}byteorder" in entries else b"little"
        document = read_pickle(io.BytesIO(archive.read(pickles[0])))
        data = f"{prefix}data/"
        blocks = {
            name.removeprefix(data): Block(_data_start(file, entry), entry.file_size)
            for name, entry in entries.items()
            if name.startswith(data)
        }
    return Checkpoint(path, document, blocks, big_endian=order == b"big")


def _open_safetensors(path: Path, file: BufferedReader) -> Checkpoint:
    """Tensors by name, each a storage of its own."""
    text, size = header_text(file, path.name)
    raw, data_start = parse_json(text, path.name), LENGTH_BYTES + len(text)
    metadata = raw.pop("__metadata__", {})
    document, blocks = {}, {}
    for name, entry in raw.items():
        try:
            begin, end = (data_start + int(offset) for offset in entry["data_offsets"])
            document[name] = plain_tensor(entry["dtype"], name, entry["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConversionError(f"{path.name}: tensor {shown(name, 120)} has no valid entry: {error}") from None
        if not data_start <= begin <= end <= size:
            raise ConversionError(f"{path.name}: tensor {shown(name, 120)} lies beyond the file's {size} bytes")
        blocks[name] = Block(begin, end - begin)
    texts = {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    return Checkpoint(path, document, blocks, big_endian=False, metadata=texts)


def _check_stored(entries: Iterable[zipfile.ZipInfo], path: Path) -> None:
    """torch never compresses and never encrypts; so neither do we unpack."""
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise ConversionError(f"{path.name}: {entry.filename[:100]!r} is compressed or encrypted, torch never does")


def _data_start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: behind its local header of 30 bytes, name and padding."""
    file.seek(entry.header_offset)
    local = file.read(30)
    if len(local) != 30 or not local.startswith(_ZIP_MAGIC):
        raise ConversionError(f"the entry {entry.filename[:100]!r} has no local header")
    name_bytes, extra_bytes = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    return entry.header_offset + 30 + name_bytes + extra_bytes


def _open_legacy(path: Path, file: BinaryIO) -> Checkpoint:
    """Container before torch 1.6: five pickles in a row, then for each storage its count and its bytes."""
    size = os.fstat(file.fileno()).st_size
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    try:
        magic, protocol = read_pickle(head), read_pickle(head)
    except ConversionError as error:
        raise ConversionError(f"{path.name} is not a PyTorch checkpoint: {error}") from None
    if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
        raise ConversionError(f"{path.name} is not a PyTorch checkpoint, or of an unknown kind")
    system = read_pickle(head)
    storages: dict[str, StorageRef] = {}
    document = read_pickle(head, storages)
    keys = read_pickle(head)
    blocks, position = {}, head.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConversionError(f"{path.name}: the list of storages is corrupt")
    for key in keys:
        block = _legacy_block(file, position, storages.get(key), size)
        blocks[key] = block
        position = block.start + block.nbytes
    return Checkpoint(
        path, document, blocks, big_endian=isinstance(system, dict) and not system.get("little_endian", 1)
    )


def _legacy_block(file: BinaryIO, position: int, storage: StorageRef | None, size: int) -> Block:
    if storage is None:
        raise ConversionError("the file holds a storage that no tensor refers to")
    file.seek(position)
    count = int.from_bytes(file.read(_COUNT_BYTES), "little")
    nbytes = count * ITEM_BYTES[storage.dtype]
    if count != storage.count or position + _COUNT_BYTES + nbytes > size:
        raise ConversionError(
            f"storage {storage.key[:40]!r} has {count} numbers in the file, its tensors say {storage.count}"
        )
    return Block(position + _COUNT_BYTES, nbytes)
