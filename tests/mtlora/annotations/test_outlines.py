"""Outlines of classes: every pixel lies within an odd number of rings, before and nearly so after simplifying."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mtlora.annotations import outlines
from mtlora.annotations.outlines import class_polygons
from mtlora.vocabulary.errors import OutlineError


def filled(rings: "list[NDArray[np.int64]]", shape: tuple[int, int]) -> NDArray[np.bool_]:
    """By the even-odd rule, at the centres of pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, np.bool_)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            if y0 != y1:
                inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
@settings(deadline=None)
def test_outlines_are_those_of_the_pixels(labels: NDArray[np.uint8]) -> None:
    for index in range(3):
        rings = outlines._rings(*outlines._sides(np.pad(labels == index, 1)))
        np.testing.assert_array_equal(filled(rings, labels.shape), labels == index)
        assert sum(outlines._area(ring) for ring in rings) == np.count_nonzero(labels == index)


def test_a_ring_has_its_hole_and_few_points() -> None:
    picture = Image.new("L", (200, 160))
    ImageDraw.Draw(picture).ellipse((20, 10, 180, 150), fill=7)
    ImageDraw.Draw(picture).rectangle((80, 60, 119, 99), fill=0)
    labels = np.asarray(picture)
    outer, hole = sorted(class_polygons(labels, 7), key=lambda ring: bool(ring["hole"]))
    assert (outer["hole"], hole["hole"]) == (False, True)
    assert sorted(hole["points"]) == [[80, 60], [80, 100], [120, 60], [120, 100]]
    assert len(outer["points"]) < 60
    got = filled([np.array(ring["points"]) for ring in (outer, hole)], labels.shape)
    wanted = labels == 7
    assert np.count_nonzero(got & wanted) / np.count_nonzero(got | wanted) > 0.98


def test_pixels_that_touch_by_a_corner_are_two_rings() -> None:
    assert len(class_polygons(np.eye(2, dtype=np.uint8), 1)) == 2
    assert class_polygons(np.zeros((3, 3), np.uint8), 1) == []


def test_too_many_sides_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "MOST_SIDES", 100)
    with pytest.raises(OutlineError, match="polygons have up to 100"):
        class_polygons(np.indices((30, 30)).sum(axis=0).astype(np.uint8) % 2, 1)
