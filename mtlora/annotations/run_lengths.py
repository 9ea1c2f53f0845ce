"""COCO run-length encoding of class maps: column-major, compressed as pycocotools writes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.box_runs import filled
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.stopping import Check, never

_BITS = 5  # payload bits of one character; the sixth says that more follow
_SIGN = 0x10
_MORE = 0x20
_ZERO = 48  # "0"
_BLOCK_PIXELS = 1 << 20  # looked at together
_COUNTS_AT_ONCE = 1 << 16
_MOST_CHARACTERS = 10  # of one count: 50 bits are more pixels than a map has


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A class map as runs down the columns."""

    height: int
    width: int
    starts: NDArray[np.uint32]  # [R], position of the first pixel of each run, column-major
    values: NDArray[np.uint8]  # [R], its class

    @property
    def pixels(self) -> int:
        """Pixels of the map."""
        return self.height * self.width


def find_runs(class_map: NDArray[np.uint8], check: Check = never) -> Runs:
    """class_map: uint8 [H, W]; one pass for all of its classes, some columns at a time."""
    height, width = class_map.shape
    starts: list[NDArray[np.uint32]] = []
    values: list[NDArray[np.uint8]] = []
    before = -1  # the pixel above the next, none's value
    columns = max(1, _BLOCK_PIXELS // height)
    for left in range(0, width, columns):
        check()
        flat = class_map[:, left : left + columns].ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        at = changes if int(flat[0]) == before else np.concatenate([[0], changes])
        starts.append((at + left * height).astype(np.uint32))
        values.append(flat[at])
        before = int(flat[-1])
    return Runs(height, width, np.concatenate(starts), np.concatenate(values))


def class_counts(runs: Runs, index: int) -> NDArray[np.int64]:
    """Lengths of the runs outside and inside class `index` in turn; outside first, 0 if the map begins inside."""
    first, last = _edges(runs, index)
    edges = np.stack([first, last + 1], axis=1).ravel()
    counts = np.diff(edges, prepend=0)
    left = runs.pixels - int(edges[-1]) if edges.size else runs.pixels
    return np.append(counts, left).astype(np.int64) if left else counts.astype(np.int64)


def class_bbox(runs: Runs, index: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the pixels of class `index`; all 0 if there are none."""
    first, last = _edges(runs, index)
    if not first.size:
        return 0, 0, 0, 0
    left, right = int(first[0] // runs.height), int(last[-1] // runs.height)
    if (first // runs.height != last // runs.height).any():  # a run over several columns reaches top and bottom
        return left, 0, right - left + 1, runs.height
    top, bottom = int((first % runs.height).min()), int((last % runs.height).max())
    return left, top, right - left + 1, bottom - top + 1


def compress(counts: NDArray[np.int64]) -> str:
    """Counts as COCO's string: from the third on, differences to the one before last, in 5-bit groups, low first."""
    pieces = []
    for begin in range(0, len(counts), _COUNTS_AT_ONCE):
        end = min(begin + _COUNTS_AT_ONCE, len(counts))
        rest, differ = counts[begin:end].copy(), max(begin, 3)
        rest[differ - begin :] -= counts[differ - 2 : max(end - 2, differ - 2)]
        pieces.append(_characters(rest))
    return "".join(pieces)


def class_rle(runs: Runs, index: int) -> dict[str, object]:
    """The mask of one class as COCO's `{"size": [H, W], "counts": "…"}`."""
    return {"size": [runs.height, runs.width], "counts": compress(class_counts(runs, index))}


def _edges(runs: Runs, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last pixel of each run of class `index`."""
    which = np.flatnonzero(runs.values == index)
    first, last = runs.starts[which].astype(np.int64), np.empty(which.shape, np.int64)
    if which.size:
        last[:-1] = runs.starts[which[:-1] + 1]
        behind = int(which[-1]) + 1
        last[-1] = runs.starts[behind] if behind < len(runs.starts) else runs.pixels
        last -= 1
    return first, last


def _characters(rest: NDArray[np.int64]) -> str:
    columns: list[NDArray[np.uint8]] = []
    alive = np.ones(rest.shape, dtype=bool)
    while alive.any():
        group = rest & 0x1F
        rest = rest >> _BITS
        more = alive & np.where(group & _SIGN, rest != -1, rest != 0)
        columns.append(np.where(alive, group + np.where(more, _MORE, 0) + _ZERO, 0).astype(np.uint8))
        alive = more
    characters = np.stack(columns, axis=1).ravel()
    text: bytes = characters[characters != 0].tobytes()
    return text.decode("ascii")


def decompress(text: str) -> NDArray[np.int64]:
    """The counts of COCO's string, the reverse of `compress`; `DataError` where it is none."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - _ZERO
    if codes.size == 0:
        return np.zeros(0, np.int64)
    if (codes < 0).any() or (codes >= 1 << _BITS + 1).any() or codes[-1] & _MORE:
        raise DataError(f"{text[:20]!r}… is no run lengths of COCO: a character is wrong, or the end is missing")
    ends = np.flatnonzero(codes & _MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if int((ends - starts).max()) >= _MOST_CHARACTERS:
        raise DataError(f"a count of COCO's run lengths has up to {_MOST_CHARACTERS} characters, one here has more")
    places = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    counts = np.add.reduceat((codes & 0x1F) << (_BITS * places), starts)
    counts -= np.where(codes[ends] & _SIGN, np.int64(1) << _BITS * (ends - starts + 1), 0)
    for first in (1, 2):  # from the fourth on, each is a difference to the one before last
        counts[first::2] = np.cumsum(counts[first::2])
    return counts


def column_mask(counts: NDArray[np.int64] | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask that runs down the columns make, bool [H, W]; `DataError` where they are of another size."""
    return filled(counts, height * width).reshape(width, height).T
