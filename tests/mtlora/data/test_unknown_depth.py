"""Depth and normals that are not known are ignored on purpose, and a check says where depth ends."""

import warnings
from pathlib import Path

import numpy as np

from mtlora.data.check import _values
from mtlora.data.nyud import read_depth, read_normals
from mtlora.vocabulary.tasks import Task


def test_what_is_not_finite_is_unknown(tmp_path: Path) -> None:
    depth = np.array([[np.inf, np.nan, -np.inf, -1.0, 2.0, 1e9]], np.float32)
    np.save(tmp_path / "depth.npy", depth)
    normals = np.zeros((1, 3, 3), np.float32)
    normals[..., 2] = -1
    normals[0, 0, 0], normals[0, 1, 1] = np.nan, np.inf
    np.save(tmp_path / "normals.npy", normals)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_depth(tmp_path / "depth.npy").tolist() == [[0, 0, 0, 0, 2000, 65_535]]
        assert read_normals(tmp_path / "normals.npy").any(axis=-1).tolist() == [[False, False, True]]


def test_a_check_says_how_much_lies_at_the_largest_value() -> None:
    label = np.array([[65_535, 65_535, 2000, 0]], np.uint16)
    assert "50.0% of its pixels at 65535 mm" in _values(Task.DEPTH, label, {})
    assert _values(Task.DEPTH, label[:, 2:], {}) == ""
