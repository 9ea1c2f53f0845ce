"""Text files of a dataset as other programs write them: lists of photos, names of classes, tables."""

import codecs
import unicodedata
from pathlib import Path

from mtlora.vocabulary.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Marks at the start of a file, longer ones before those that they begin with."""

_WORDS = {"utf-8": "", "utf-8-sig": "a byte order mark"}


def read_text(path: Path) -> str:
    """The text of a file, UTF-8, or UTF-16 as Windows writes it; `DataError` says which other encoding stops it."""
    return read_encoded(path)[0]


def read_encoded(path: Path) -> tuple[str, str]:
    """The text of a file, see `read_text`, and in words how it is written if not as plain UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data[:64]:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        return unified(data.decode(encoding)), _WORDS.get(encoding, f"{encoding[:6].upper()} text")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {encoding.upper()} text: byte {error.object[error.start]:#04x} at {error.start}; "
            f"save it as UTF-8 (`iconv -f latin1 -t utf-8` where it is of an older Windows)"
        ) from error


def unified(text: str) -> str:
    """Letters with accents as one character each: macOS stores names of files as two."""
    return unicodedata.normalize("NFC", text)
