"""COCO run-length encoding of class maps: column-major, compressed as pycocotools writes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BITS = 5  # payload bits of one character; the sixth says that more follow
_SIGN = 0x10
_MORE = 0x20
_ZERO = 48  # "0"


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A class map as runs down the columns."""

    height: int
    width: int
    starts: NDArray[np.int64]  # [R], position of the first pixel of each run, column-major
    values: NDArray[np.uint8]  # [R], its class

    @property
    def pixels(self) -> int:
        """Pixels of the map."""
        return self.height * self.width


def find_runs(class_map: NDArray[np.uint8]) -> Runs:
    """class_map: uint8 [H, W]; one pass for all of its classes."""
    flat = class_map.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]).astype(np.int64)
    height, width = class_map.shape
    return Runs(height, width, starts, flat[starts])


def class_counts(runs: Runs, index: int) -> NDArray[np.int64]:
    """Lengths of the runs outside and inside class `index` in turn; outside first, 0 if the map begins inside."""
    ends = np.append(runs.starts[1:], runs.pixels)
    inside = runs.values == index
    edges = np.stack([runs.starts[inside], ends[inside]], axis=1).ravel()
    counts = np.diff(edges, prepend=0)
    left = runs.pixels - int(edges[-1]) if edges.size else runs.pixels
    return np.append(counts, left).astype(np.int64) if left else counts.astype(np.int64)


def class_bbox(runs: Runs, index: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the pixels of class `index`; all 0 if there are none."""
    inside = runs.values == index
    if not inside.any():
        return 0, 0, 0, 0
    first, last = runs.starts[inside], np.append(runs.starts[1:], runs.pixels)[inside] - 1
    left, right = int(first[0] // runs.height), int(last[-1] // runs.height)
    if (first // runs.height != last // runs.height).any():  # a run over several columns reaches top and bottom
        return left, 0, right - left + 1, runs.height
    top, bottom = int((first % runs.height).min()), int((last % runs.height).max())
    return left, top, right - left + 1, bottom - top + 1


def compress(counts: NDArray[np.int64]) -> str:
    """Counts as COCO's string: from the third on, differences to the one before last, in 5-bit groups, low first."""
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
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


def class_rle(runs: Runs, index: int) -> dict[str, object]:
    """The mask of one class as COCO's `{"size": [H, W], "counts": "…"}`."""
    return {"size": [runs.height, runs.width], "counts": compress(class_counts(runs, index))}
