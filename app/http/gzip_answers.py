"""Answers that are text, made smaller for whoever takes gzip."""

from isal import igzip

from app.answers.form import Pieces
from app.core.numbers import quality_of

LEAST_BYTES = 1024
MOST_BYTES = 8 << 20  # packed while nothing else is done: some milliseconds


def accepts_gzip(header: str) -> bool:
    """Whether an `Accept-Encoding` header names gzip, or anything, with a quality that is not 0."""
    qualities = {}
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        given = [quality_of(one[2:]) for one in parameters if one.startswith("q=")]
        qualities[name] = given[0] if given else 1.0
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def gzipped(content: Pieces) -> tuple[Pieces, bool]:
    """The same packed, and whether it was: what is small or very large stays as it is."""
    if not LEAST_BYTES <= sum(map(len, content)) <= MOST_BYTES:
        return content, False
    return [igzip.compress(b"".join(content), compresslevel=1)], True
