"""One answer as it arrived: status, headers, and a body of bounded length, unpacked."""

import io
import zlib
from dataclasses import dataclass

import httpx

from mtlora.vocabulary.errors import BadAnswerError
from mtlora.vocabulary.shown import shown

SAID_CHARACTERS = 200  # of an answer that nobody understands
FREE_PARTS = 1000
PART_BYTES = 64  # in the mean; a chunk of one byte costs as much to take in as one of many
_AT_A_TIME = 262_144
_LENGTH_DIGITS = 18
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PACKED = {"gzip": _GZIP_OR_ZLIB, "x-gzip": _GZIP_OR_ZLIB, "deflate": _GZIP_OR_ZLIB}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    url:   that was asked
    most:  bytes that its body may have, and what is in it too
    fault: why there is no body, where it could not be taken in
    """

    url: str
    status: int
    headers: httpx.Headers
    body: bytes
    most: int
    fault: str = ""

    def header(self, name: str) -> str:
        """A header's value; empty if there is none."""
        return str(self.headers.get(name, ""))

    def said(self) -> str:
        """The answer in a few words, for an error."""
        kind = self.header("Content-Type") or "no type"
        text = self.fault
        if not text and ("text" in kind or "json" in kind):
            begin = self.body[: 4 * SAID_CHARACTERS].decode("utf-8", "replace")
            text = " ".join(begin.split())[:SAID_CHARACTERS]
        words = f"{self.url} answered {self.status}, {shown(kind, SAID_CHARACTERS)}"
        return f"{words}: {shown(text)}" if text else words


class Body:
    """Takes in a body part by part; `BadAnswerError` when it is too long, or packed in a way that makes no sense."""

    def __init__(self, url: str, headers: httpx.Headers, most: int) -> None:
        self._url, self._headers, self._most = url, headers, most
        self._whole = io.BytesIO()
        self._parts = self._bytes = 0
        self._unpacker: zlib._Decompress | None = None

    def begin(self) -> None:
        """What the head says of it."""
        coding = self._headers.get("Content-Encoding", "").strip().lower()
        if coding not in {"", "identity"}:
            if coding not in _PACKED:
                raise BadAnswerError(f"{self._url}: the answer is packed as {shown(coding, SAID_CHARACTERS)}, not gzip")
            self._unpacker = zlib.decompressobj(_PACKED[coding])
        announced = self._headers.get("Content-Length", "")
        if announced.isdecimal() and (len(announced) > _LENGTH_DIGITS or int(announced) > self._most):
            raise self._too_long(f"{shown(announced, _LENGTH_DIGITS)} are announced")

    def take(self, part: bytes) -> None:
        """The next bytes, as they came."""
        self._parts += 1
        self._bytes += len(part)
        if self._parts > FREE_PARTS and self._bytes < self._parts * PART_BYTES:
            raise BadAnswerError(f"{self._url}: the answer comes in crumbs: {self._bytes} bytes in {self._parts} parts")
        if self._unpacker is None:
            self._add(part)
            return
        while part:
            if self._unpacker.eof:
                raise BadAnswerError(f"{self._url}: bytes behind the end of a packed answer")
            try:
                self._add(self._unpacker.decompress(part, _AT_A_TIME))
            except zlib.error as error:
                raise BadAnswerError(f"{self._url}: the answer cannot be unpacked: {error}") from error
            part = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def whole(self) -> bytes:
        """The body, when all has come."""
        while self._bytes and self._unpacker is not None and not self._unpacker.eof:
            had = self._whole.tell()
            self._add(self._unpacker.decompress(self._unpacker.unconsumed_tail, _AT_A_TIME))
            if self._whole.tell() == had:
                raise BadAnswerError(f"{self._url}: a packed answer ends early, after {had} bytes")
        return self._whole.getvalue()

    def _add(self, part: bytes) -> None:
        if self._whole.tell() + len(part) > self._most:
            raise self._too_long("more came")
        self._whole.write(part)

    def _too_long(self, what: str) -> BadAnswerError:
        return BadAnswerError(f"{self._url}: the answer is too long: at most {self._most} bytes are taken, {what}")
