"""Run lengths within a box."""

from typing import Any

import numpy as np
import pytest

from mtlora.annotations.box_runs import cut_out, filled
from mtlora.vocabulary.errors import DataError


@pytest.mark.parametrize("seed", range(20))
def test_what_is_cut_out_is_filled_again(seed: int) -> None:
    chance = np.random.default_rng(seed)
    inside = chance.random(tuple(chance.integers(1, 30, 2))) < chance.random()
    inside[-1, 0] = True
    box = cut_out(inside)
    again = np.zeros_like(inside)
    height, width = box.pixels.shape
    again[box.top : box.top + height, box.left : box.left + width] = filled(box.counts, box.pixels.size).reshape(
        box.pixels.shape
    )
    np.testing.assert_array_equal(again, inside)
    assert sum(box.counts) == height * width


@pytest.mark.parametrize(
    "counts", [[], [3], [5], [-1, 5], [[4]], [2**70], [2**62] * 4 + [4]], ids=lambda counts: str(counts)[:20]
)
def test_other_numbers_of_pixels_are_refused(counts: Any) -> None:
    with pytest.raises(DataError, match="run length"):
        filled(counts, 4)
