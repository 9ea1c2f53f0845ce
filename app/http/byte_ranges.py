"""File answers: the whole file, or the one range of bytes that was asked for."""

import os
import re

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from app.core.errors import RangeNotSatisfiableError

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII | re.IGNORECASE)


class FileAnswer(FileResponse):
    """A file that gives one range of itself.

    Several ranges, other units, and what is no range are ignored, as RFC 9110 (14.2) allows: the answer is the whole
    file, once. A range that the file does not have is an error.
    """

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """First byte and the one after the last, as Starlette wants them; empty for the whole file."""
        found = _RANGE.fullmatch(http_range.strip())
        if found is None:
            return []
        first, last, length = (int(number) if number else None for number in found.groups())
        if first is None:
            start, end = max(0, file_size - (length or 0)), file_size
        else:
            start, end = first, file_size if last is None else min(last + 1, file_size)
            if last is not None and last < first:
                return []
        if start >= file_size:
            raise RangeNotSatisfiableError(f"the file has {file_size} bytes, got Range {http_range[:60]!r}", file_size)
        return [(start, end)]


class Files(StaticFiles):
    """A folder of such files."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer for a file that was found."""
        answer = FileAnswer(full_path, status_code, stat_result=stat_result)
        same = self.is_not_modified(answer.headers, Headers(scope=scope))
        return NotModifiedResponse(answer.headers) if same else answer
