"""Edges as PASCAL-Context's multi-task benchmark defines them: where the label map changes, thinned to one pixel."""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

# The eight neighbours in the order of Z. Guo and R. W. Hall, "Parallel thinning with two-subiteration algorithms"
# (1989): N, NE, E, SE, S, SW, W, NW as (row, column) offsets.
_NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def label_edges(labels: NDArray[np.integer]) -> BoolArray:
    """Pixels where the Laplacian of a label map is not 0, thinned; labels: integers [H, W]."""
    wide = np.pad(labels.astype(np.int64), 1, mode="reflect")
    sum_of_four = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return thin(sum_of_four != 4 * wide[1:-1, 1:-1])


def thin(mask: BoolArray) -> BoolArray:
    """Lines one pixel wide with the same connections (Guo and Hall's algorithm A1); mask: bool [H, W]."""
    lines = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for second in (False, True):
            rows, columns = np.nonzero(lines)
            gone = _deletable([lines[rows + dy, columns + dx] for dy, dx in _NEIGHBOURS], second=second)
            lines[rows[gone], columns[gone]] = False
            changed |= bool(gone.any())
    return lines[1:-1, 1:-1].copy()


def _deletable(neighbours: list[BoolArray], *, second: bool) -> BoolArray:
    """Which pixels a subiteration removes; neighbours: eight bool [pixels]."""
    n, ne, e, se, s, sw, w, nw = neighbours
    one_crossing = _count(~n & (ne | e), ~e & (se | s), ~s & (sw | w), ~w & (nw | n)) == 1
    pairs = np.minimum(_count(n | ne, e | se, s | sw, w | nw), _count(ne | e, se | s, sw | w, nw | n))
    side = (s | sw | ~nw) & w if second else (n | ne | ~se) & e
    gone: BoolArray = one_crossing & (pairs >= 2) & (pairs <= 3) & ~side
    return gone


def _count(*flags: BoolArray) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum(flags, axis=0, dtype=np.int64)
    return total
