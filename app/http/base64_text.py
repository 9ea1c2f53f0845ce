"""Base64 as programs write it: in lines, with or without padding, in either alphabet, as a data: URL."""

import re

import pybase64

from app.core.errors import BadBodyError

_SPACE = b" \t\r\n\f\v"
_DATA_URL = re.compile(r"\s*data:[^,]{0,200}?(;\s*base64)?,", re.ASCII | re.IGNORECASE)
_ADDRESS = re.compile(r"\s*(https?|ftp|file|s3|gs)://", re.ASCII | re.IGNORECASE)
_STRANGE = re.compile(rb"[^A-Za-z0-9+/_\-=\s]|=(?=[=\s]*[^=\s])")
_GROUP = 4
ONLY_BYTES = "the server fetches nothing: send the photo's own bytes, as base64 in JSON or as a file"


def decode_base64(text: object, where: str) -> bytes:
    """The bytes of base64, or of a data: URL of it; `BadBodyError` says what `where` has instead."""
    if not isinstance(text, str):
        raise BadBodyError(f"{where} must be a base64 string, got {type(text).__name__}")
    if _ADDRESS.match(text):
        raise BadBodyError(f"{where} is a web address, {text.strip()[:60]!r}; {ONLY_BYTES}")
    url = _DATA_URL.match(text)
    if url and not url[1]:
        raise BadBodyError(
            f"{where} is a data: URL that is not base64, {text[:40]!r}; write data:image/jpeg;base64,..."
        )
    start = url.end() if url else 0
    try:
        return _decoded(text[start:].encode("ascii"))
    except UnicodeEncodeError as error:
        raise BadBodyError(f"{where} is not base64: {_shown(text, start + error.start)}") from error
    except _NotBase64Error as error:
        at = "" if error.position is None else _shown(text, start + error.position)
        raise BadBodyError(f"{where} is not base64: {at or error}") from error


class _NotBase64Error(ValueError):
    """What is wrong, or where a character is that has no meaning."""

    def __init__(self, words: str, position: int | None = None) -> None:
        super().__init__(words)
        self.position = position


def _decoded(text: bytes) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        pass  # most come as the standard has it; the others are looked at more closely
    strange = _STRANGE.search(text)
    if strange:
        raise _NotBase64Error("a strange character", strange.start())
    bare = text.translate(None, _SPACE).rstrip(b"=")
    is_of_urls = b"-" in bare or b"_" in bare
    if is_of_urls and (b"+" in bare or b"/" in bare):
        raise _NotBase64Error("it mixes two alphabets, + and / with the URL-safe - and _")
    if len(bare) % _GROUP == 1:
        raise _NotBase64Error(f"{len(bare)} characters are one too many or some too few, for {_GROUP} are 3 bytes")
    padded = bare + b"=" * (-len(bare) % _GROUP)
    return pybase64.b64decode(padded, altchars=b"-_" if is_of_urls else None, validate=True)


def _shown(text: str, position: int) -> str:
    return f"{text[position]!r} at position {position}"
