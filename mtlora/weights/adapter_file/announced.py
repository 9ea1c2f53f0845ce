"""The header and manifest of an adapter file. No tensor is read, and torch is not imported."""

import os
from collections.abc import Callable
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

from mtlora.vocabulary.errors import AdapterFileError, SpecError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file.header import (
    LENGTH_BYTES,
    Header,
    header_length,
    invalid_manifest,
    manifest_text,
    parse_header,
)
from mtlora.weights.adapter_file.manifest import METADATA_KEY, AdapterManifest
from mtlora.weights.plain_files import open_plain

LIKELY_BYTES = 128 * 1024
"""Headers of most sets end before."""


def read_manifest(path: str | Path) -> AdapterManifest:
    """What an adapter file says about itself; reads the header only, so the tensors are not checked."""
    path = Path(path)
    with opened(path) as file:
        return manifest_of(read_header(file, path.name), path.name)


def manifest_from(beginning: Callable[[int], tuple[bytes, int]], source: str) -> AdapterManifest:
    """As `read_manifest`, of a file that is elsewhere, without the rest of it.

    beginning: the first so many bytes, as many as there are, and the size of the file
    """
    data, size = beginning(LIKELY_BYTES)
    end = LENGTH_BYTES + header_length(data, size, source)
    if end > len(data):
        data, size = beginning(end)
    if end > len(data):
        raise AdapterFileError(f"{source}: header ends at byte {end}, only {len(data)} could be read")
    return manifest_of(parse_header(data[LENGTH_BYTES:end], size, source), source)


def has_manifest(path: str | Path) -> bool:
    """Whether a safetensors file says it is an adapter set; `AdapterFileError` if its header cannot be read."""
    path = Path(path)
    with opened(path) as file:
        return METADATA_KEY in read_header(file, path.name).metadata


def opened(path: Path) -> BufferedReader:
    """The file, open for reading. Only plain files: opening a pipe would wait for its other end."""
    try:
        return open_plain(path)
    except OSError as error:
        raise AdapterFileError(f"cannot open {path}: {error.strerror or error}") from error


def read_header(file: BufferedReader, source: str) -> Header:
    """The header of a file that is at its beginning; `AdapterFileError` lists every fault."""
    text, size = header_text(file, source)
    return parse_header(text, size, source)


def header_text(file: BufferedReader, source: str) -> tuple[bytes, int]:
    """The header's bytes, not yet parsed, and the size of the file."""
    size = os.fstat(file.fileno()).st_size
    length = header_length(file.read(LENGTH_BYTES), size, source)
    text = file.read(length)
    if len(text) != length:
        raise AdapterFileError(f"{source}: header says {length} bytes, only {len(text)} could be read")
    return text, size


def manifest_of(header: Header, source: str) -> AdapterManifest:
    """The manifest in a header; `AdapterFileError` if there is none, or none that can be."""
    try:
        manifest = AdapterManifest.from_json(manifest_text(header, METADATA_KEY, source))
    except SpecError as error:
        raise invalid_manifest(source, error) from error
    return manifest.model_copy(update={"spec": _one_spec(manifest.spec)})


@lru_cache(maxsize=256)
def _one_spec(spec: AdapterSpec) -> AdapterSpec:
    """The same object for equal specs: hundreds of sets have one shape, and a spec is a thousand objects."""
    return spec
