"""Messages between server and decoder process: a line of JSON each way; bytes go through shared memory."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from mtlora.images.tiles import Grid, Tiling

LINE_BYTES = 16_384  # a longer message is none
FLOAT_BYTES = 4


def square_bytes(side: int) -> int:
    """Of a model's square: float32 [3, side, side]."""
    return 3 * FLOAT_BYTES * side**2


class Verdict(StrEnum):
    """What became of a photo."""

    DONE = "done"
    LARGE = "large"  # needs more memory than it was granted: ask again with `need`
    EMPTY = "empty"
    NO_IMAGE = "no_image"
    TOO_LARGE = "too_large"
    TOO_COSTLY = "too_costly"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a photo may cost; the same for all of them."""

    max_pixels: int
    seconds: float  # of a processor, beside what its size adds
    small_bytes: int  # of memory, without asking


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of a photo.

    side:  of the model's square: float32 [3, side, side] comes back; 0: the photo itself, uint8 [H, W, 3]
    rows, columns: of tiles, each of which is such a square, one behind the other; 0: as the photo's size says
    most:  tiles, where that says
    """

    side: int
    antialias: bool = False
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rows: int = 1
    columns: int = 1
    most: int = 1

    @property
    def tiling(self) -> Tiling:
        """How the photo is cut."""
        return Tiling(Grid(self.rows, self.columns) if self.rows and self.columns else None, self.most)


@dataclass(frozen=True, slots=True)
class Task:
    """One photo: the first `size` bytes of shared memory, what it may take, and where in there its pixels go."""

    size: int
    wanted: Wanted
    memory_bytes: int
    place: int = 0  # bytes from the beginning of shared memory

    @classmethod
    def read(cls, line: bytes) -> Self:
        """From a message."""
        fields = json.loads(line)
        wanted = fields.pop("wanted")
        for name in ("scale", "shift"):
            wanted[name] = tuple(wanted[name])
        return cls(wanted=Wanted(**wanted), **fields)

    def line(self) -> bytes:
        """As a message."""
        return _line(self, wanted=_fields(self.wanted))


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it. The pixels of one that is done are in shared memory, where its task said."""

    verdict: Verdict
    detail: str = ""  # for the client, where it is not done
    width: int = 0  # of the upright photo
    height: int = 0
    orientation: int = 1  # of the EXIF standard: how it was turned
    need: int = 0  # bytes of memory
    grown: int = 0  # bytes that the process holds beyond what it began with

    @classmethod
    def read(cls, line: bytes) -> Self:
        """From a message; `ValueError` if it is none: the process that wrote it is not trusted."""
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.keys() != set(cls.__slots__):
            raise ValueError(f"no report: {line[:80]!r}")
        numbers = {name: fields[name] for name in ("width", "height", "orientation", "need", "grown")}
        if not all(type(number) is int and 0 <= number < 2**48 for number in numbers.values()):
            raise ValueError(f"no report: {line[:80]!r}")
        return cls(Verdict(fields["verdict"]), str(fields["detail"])[:500], **numbers)

    def line(self) -> bytes:
        """As a message."""
        return _line(self)


@dataclass(frozen=True, slots=True)
class Ready:
    """The first thing a process says: it is up, and this is what it has given up."""

    confined: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, line: bytes) -> Self:
        """From a message; `ValueError` if it is none."""
        fields: Any = json.loads(line)
        if not isinstance(fields, dict) or not isinstance(fields.get("confined"), list):
            raise ValueError(f"no greeting: {line[:80]!r}")
        return cls([str(word) for word in fields["confined"]])

    def line(self) -> bytes:
        """As a message."""
        return _line(self)


def _fields(message: Task | Report | Ready | Wanted) -> dict[str, Any]:
    """As `dataclasses.asdict`, which copies every value and takes several times as long."""
    return {name: getattr(message, name) for name in message.__slots__}


def _line(message: Task | Report | Ready, **replaced: object) -> bytes:
    return json.dumps(_fields(message) | replaced, separators=(",", ":")).encode() + b"\n"
