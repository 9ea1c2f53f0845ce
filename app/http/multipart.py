"""Multipart bodies as a stream of events: no part is stored anywhere before it is asked for.

File names are read by nobody: nothing a client says becomes a path.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from app.core.errors import BadBodyError

MAX_PARTS = 1100
MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))\s*', re.DOTALL)
_CONTINUED = re.compile(rb"\*?\d*\*?")  # name*=, name*0=, name*0*=: other spellings of the same parameter
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part starts; `name` is its form field, and it may say that it is a file."""

    name: str
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that began last is complete."""


Event = PartBegin | PartData | PartEnd


class _Collector:
    """Turns the parser's callbacks into events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = False
        self._parts = 0
        self._field = b""
        self._value = b""
        self._disposition = b""

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadBodyError(f"a multipart body may have {MAX_PARTS} parts; this one has more")
        self._disposition = b""

    def on_header_begin(self) -> None:
        self._field = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            if self._disposition:
                raise BadBodyError("a part has one Content-Disposition, this one has more")
            self._disposition = self._value

    def on_headers_finished(self) -> None:
        kind, parameters = split_parameters(self._disposition)
        names = _values(parameters, b"name")
        if kind.lower() != b"form-data" or not names or not names[0]:
            raise BadBodyError(
                f"every part needs Content-Disposition form-data with a name, got {self._disposition[:80]!r}"
            )
        if len(names) > 1:
            raise BadBodyError(f"a part has one name, got {self._disposition[:80]!r}")
        is_file = bool(_values(parameters, b"filename"))
        self.events.append(PartBegin(names[0].decode("utf-8", "replace"), is_file))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.events.append(PartData(data[start:end]))

    def on_part_end(self) -> None:
        self.events.append(PartEnd())

    def on_end(self) -> None:
        self.ended = True


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart content type; `BadBodyError` without one, or with one that RFC 2046 forbids."""
    _, parameters = split_parameters(content_type.encode("latin-1", "replace"))
    boundaries = _values(parameters, b"boundary")
    boundary = boundaries[0] if boundaries else b""
    if not _BOUNDARY.fullmatch(boundary):
        raise BadBodyError(
            f"multipart needs a boundary of 1 to 70 letters, digits and '()+_,-./:=? not ending in a space, "
            f"got {boundary[:80]!r}"
        )
    if len(boundaries) > 1:
        raise BadBodyError(f"a content type has one boundary, got {content_type[:200]!r}")
    return boundary


def split_parameters(value: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A header's value and its parameters, names in lower case; `BadBodyError` if it can be read in two ways.

    What stands in quotes is text: nothing in it is a parameter, whatever it looks like.
    """
    start = value.find(b";") if b";" in value else len(value)
    kind, rest = value[:start].strip(), value[start:].rstrip(b"; \t")
    found: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise BadBodyError(f'parameters are ; name=value or ; name="value", got {value[:80]!r}')
        name, quoted, plain = match.groups()
        text = plain.strip() if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        found.append((name.lower(), text))
        position = match.end()
    return kind, found


def _values(parameters: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Every value of a parameter, in whichever spelling."""
    n = len(name)
    return [text for key, text in parameters if key.startswith(name) and _CONTINUED.fullmatch(key, n)]


async def multipart_events(stream: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Event]:
    """The parts of a body as it arrives. A body that stops before its last boundary is an error."""
    collector = _Collector()
    boundary = boundary_of(content_type)
    parser, lines = _parser(boundary, collector), _BoundaryLines(boundary)
    async for chunk in stream:
        lines.check(chunk)
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise BadBodyError(f"the multipart body cannot be parsed: {str(error)[:200]}") from error
        events, collector.events = collector.events, []
        for event in events:
            yield event
    if not collector.ended:
        raise BadBodyError("the multipart body ends before its last boundary, or has none")


class _BoundaryLines:
    """Refuses lines that only begin like a boundary: RFC 2046 forbids them, and the parser is slow to pass them."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._odd = re.compile(re.escape(self._delimiter) + rb"(?!\r\n|--)")
        self._tail = b""

    def check(self, chunk: bytes) -> None:
        """The next bytes of the body; the end of what came before is looked at again with them."""
        seen = self._tail + chunk
        # Most chunks have no boundary at all, which the plain search says several times as fast.
        found = self._odd.search(seen) if self._delimiter in seen else None
        if found and found.end() + 2 <= len(seen):
            raise BadBodyError(f"a line begins with the boundary and goes on with {seen[found.end() :][:8]!r}")
        self._tail = seen[-len(self._delimiter) - 1 :]


def _parser(boundary: bytes, collector: _Collector) -> MultipartParser:
    return MultipartParser(
        boundary,
        {
            "on_part_begin": collector.on_part_begin,
            "on_part_data": collector.on_part_data,
            "on_part_end": collector.on_part_end,
            "on_header_begin": collector.on_header_begin,
            "on_header_field": collector.on_header_field,
            "on_header_value": collector.on_header_value,
            "on_header_end": collector.on_header_end,
            "on_headers_finished": collector.on_headers_finished,
            "on_end": collector.on_end,
        },
        max_header_count=MAX_PART_HEADERS,
        max_header_size=MAX_PART_HEADER_BYTES,
    )
