"""What `mtlora remote push` uploads: a file, the best set of a run, or a file of the Hub. Needs no torch."""

import json
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from mtlora.cli.connection import SET_NAME
from mtlora.cli.hub import local_path
from mtlora.vocabulary.errors import RemoteError
from mtlora.vocabulary.shown import shown

RESULT = "adapter.safetensors"
"""What a run writes at its end: the best weights where it validated, else the last."""

_BACKBONE = "backbone.safetensors"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 8 * 2**20
_MANIFEST = "mtlora_adapter"


def file_to_push(source: str) -> Path:
    """The adapter file that is meant; `RemoteError` if a folder has none, or more than one that could be."""
    path = local_path(source)
    if not path.is_dir():
        return path
    if (path / RESULT).is_file():
        return path / RESULT
    others = sorted(file for file in path.glob("*.safetensors") if file.name != _BACKBONE)
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(shown(file.name) for file in others)
        raise RemoteError(f"{shown(source)} holds several files, none called {RESULT}; name one of {names}")
    raise RemoteError(
        f"{shown(source)} holds no {RESULT}, which a run of `mtlora train` writes at its end; "
        "--resume there goes on with one that was interrupted"
    )


def name_for(source: str, file: Path) -> str:
    """Name for the set of a run whose file carries none: that of the folder; else empty, and the file names itself."""
    folder = Path(source)
    if not folder.is_dir() or _carried_name(file):
        return ""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._")
    return name if SET_NAME.fullmatch(name) else ""


def _carried_name(file: Path) -> str:
    """The name in a file's manifest; empty if there is none. The server checks the file, not we."""
    with suppress(OSError, ValueError, KeyError, TypeError), file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        header = json.loads(opened.read(min(length, _MAX_HEADER_BYTES)))
        return str(json.loads(header["__metadata__"][_MANIFEST]).get("name", ""))
    return ""


def playground_link(url: str, ref: str) -> str:
    """Address of the page with a set chosen; ref: NAME or NAME@REVISION."""
    return f"{url.rstrip('/')}/?adapter={quote(ref, safe='@')}"
