"""COCO run lengths against a decoder that shares nothing with the encoder, and against known strings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from mtlora.annotations.run_lengths import class_bbox, class_counts, class_rle, compress, find_runs
from testing.run_lengths import decode_counts, decode_rle

class_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


@given(class_maps, st.integers(0, 4))
def test_a_mask_comes_back(class_map: np.ndarray, index: int) -> None:
    np.testing.assert_array_equal(decode_rle(class_rle(find_runs(class_map), index)), class_map == index)


@given(class_maps, st.integers(0, 4))
def test_pycocotools_sees_the_same(class_map: np.ndarray, index: int) -> None:
    runs = find_runs(class_map)
    rle = class_rle(runs, index)
    np.testing.assert_array_equal(coco.decode(rle), class_map == index)
    assert rle["counts"] == coco.encode(np.asfortranarray(class_map == index).view(np.uint8))["counts"].decode()
    assert class_bbox(runs, index) == tuple(coco.toBbox(rle))


@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=50))
def test_counts_come_back(counts: list[int]) -> None:
    assert decode_counts(compress(np.array(counts, dtype=np.int64))) == counts


def test_runs_go_down_the_columns() -> None:
    class_map = np.array([[1, 0], [1, 1], [0, 1]], dtype=np.uint8)
    assert class_counts(find_runs(class_map), 1).tolist() == [0, 2, 2, 2]
    assert class_counts(find_runs(class_map), 0).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("counts", "text"), [([0], "0"), ([16], "`0"), ([5, 3], "53"), ([1, 2, 3, 2], "1230"), ([0, 1, 2, 40], "012W1")]
)
def test_strings_worked_out_by_hand(counts: list[int], text: str) -> None:
    assert compress(np.array(counts, dtype=np.int64)) == text
