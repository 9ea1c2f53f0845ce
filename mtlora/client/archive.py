"""Zip files of others: contents are bounded before they are unpacked, and no name in them becomes a path."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from mtlora.client.reply import Reply
from mtlora.vocabulary.errors import BadAnswerError
from mtlora.vocabulary.shown import shown

MOST_ENTRIES = 1000
_DIRECTORY_BYTES = 512 * MOST_ENTRIES  # of the list of entries
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_END = struct.Struct("<4s4H2LH")  # the record at the end of every zip file
_END_MARK, _LARGE_END_MARK, _LARGE_END_BYTES = b"PK\5\6", b"PK\6\7", 20
_PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
_AT_A_TIME = 2**20
_FAILURES = (ValueError, KeyError, OSError, EOFError, RuntimeError, zlib.error, struct.error, zipfile.BadZipFile)
"""What zipfile raises for files that are none, are packed in a way it does not know, or do not unpack."""


class Entry:
    """One entry, unpacked as far as it is read."""

    def __init__(self, info: zipfile.ZipInfo, file: IO[bytes]) -> None:
        self.name, self.left = info.filename, info.file_size
        self._file = file

    def take(self, count: int) -> bytes:
        """Exactly the next `count` bytes."""
        data = self._file.read(count) if count <= self.left else b""
        if len(data) != count:
            raise zipfile.BadZipFile(f"{shown(self.name)} ends early: {count} bytes are not there")
        self.left -= count
        return data

    def fill(self, target: memoryview) -> None:
        """Fill memory with the next bytes."""
        for start in range(0, len(target), _AT_A_TIME):
            part = target[start : start + _AT_A_TIME]
            part[:] = self.take(len(part))


class Archive:
    """A zip file, open; `sizes` has the unpacked bytes of its entries by name."""

    def __init__(self, file: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        self._file, self._entries = file, entries
        self.sizes = {name: info.file_size for name, info in entries.items()}

    def bytes(self, name: str) -> bytes:
        """All of an entry."""
        with self.entry(name) as entry:
            return entry.take(entry.left)

    @contextmanager
    def entry(self, name: str) -> Iterator[Entry]:
        """An entry, to be read to its end, where its checksum is looked at."""
        if name not in self._entries:
            raise zipfile.BadZipFile(f"there is no {name} in it")
        with self._file.open(self._entries[name]) as file:
            entry = Entry(self._entries[name], file)
            yield entry
            if entry.left or file.read(1):
                raise zipfile.BadZipFile(f"{name} is longer than it should be")


@contextmanager
def archive(reply: Reply, what: str) -> Iterator[Archive]:
    """The zip file that an answer is; `BadAnswerError` says what is wrong with it, also while it is read."""
    try:
        _check_end(reply.body)
        with zipfile.ZipFile(io.BytesIO(reply.body)) as file:
            yield Archive(file, _checked(file.infolist(), reply.most))
    except _FAILURES as error:
        raise BadAnswerError(f"{reply.url} answered no {what}: {shown(error)}") from error


def _check_end(body: bytes) -> None:
    """Before zipfile makes an object of every entry: there are few. The forms for more than 4 GiB are not needed."""
    start = len(body) - _END.size
    if start < 0:
        raise zipfile.BadZipFile(f"{len(body)} bytes are no zip file")
    mark, _, _, _, entries, directory_bytes, _, comment = _END.unpack_from(body, start)
    large = body[max(0, start - _LARGE_END_BYTES) :].startswith(_LARGE_END_MARK)
    if mark != _END_MARK or comment or large:
        raise zipfile.BadZipFile("it does not end as a zip file without a comment does")
    if entries > MOST_ENTRIES or directory_bytes > _DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f"{entries} entries, listed in {directory_bytes} bytes; at most {MOST_ENTRIES}")


def _checked(infos: list[zipfile.ZipInfo], most: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # `orig_filename` is the name as it came: zipfile cuts the other one off at a NUL.
        name = info.orig_filename
        if not _NAME.fullmatch(name) or name in entries:
            raise zipfile.BadZipFile(f"an entry is named {shown(name, 200)}, or is there twice")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _PACKINGS:
            raise zipfile.BadZipFile(f"{name} is encrypted, or packed by method {info.compress_type}")
        entries[name] = info
    unpacked = sum(info.file_size for info in infos)
    if unpacked > most:
        raise zipfile.BadZipFile(f"{unpacked} bytes when unpacked; at most {most} are taken")
    return entries
