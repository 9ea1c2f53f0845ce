"""Run lengths along the rows of a mask's box, as CVAT has them: outside first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import DataError


class BoxRuns(NamedTuple):
    """A mask within its box: `pixels`, bool [H, W], begins at column `left` and row `top` of the photo."""

    left: int
    top: int
    pixels: NDArray[np.bool_]

    @property
    def counts(self) -> list[int]:
        """Lengths of runs outside and inside in turn."""
        lengths, values = row_runs(self.pixels)
        return ([0] if values[0] else []) + [int(length) for length in lengths]


def cut_out(inside: NDArray[np.bool_]) -> BoxRuns:
    """A mask that has a pixel, bool [H, W], cut out along its box."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    left, top, right, bottom = (int(one) for one in (columns[0], rows[0], columns[-1], rows[-1]))
    return BoxRuns(left, top, inside[top : bottom + 1, left : right + 1])


def row_runs(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths of the runs along the rows, and whether each is inside."""
    flat = inside.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.diff(starts, append=flat.size), flat[starts]


def filled(counts: Sequence[int] | NDArray[np.int64], pixels: int) -> NDArray[np.bool_]:
    """Runs outside and inside in turn as bool [pixels]; `DataError` where they are not so many."""
    try:
        lengths = np.asarray(counts, dtype=np.int64)
    except OverflowError:
        raise DataError(f"a run length is more than the {pixels} pixels that all should make") from None
    # each is looked at before they are summed: a sum of large ones would come round to the right number
    if lengths.ndim != 1 or ((lengths < 0) | (lengths > pixels)).any() or int(lengths.sum()) != pixels:
        total = sum(lengths.tolist()) if lengths.ndim == 1 else "no"
        raise DataError(f"run lengths of {total} pixels in all, none below 0, should make {pixels}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
