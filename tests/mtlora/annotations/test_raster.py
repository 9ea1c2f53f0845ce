"""The rasteriser beside pycocotools, and by its own rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mtlora.annotations.raster import polygon_mask
from mtlora.vocabulary.errors import DataError

HEIGHT, WIDTH = 37, 53
coordinates = st.floats(-20, 80, width=32)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


def drawn(ring: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    polygon_mask(ring, HEIGHT, WIDTH).draw(whole, 1)
    return whole.astype(np.bool_)


def by_centres(ring: NDArray[np.float64]) -> NDArray[np.bool_]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = np.zeros((HEIGHT, WIDTH), np.bool_)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= ((y0 <= y) != (y1 <= y)) & (x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x)
    return inside


def distance_to(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each pixel's centre to the ring."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        dx, dy = x1 - x0, y1 - y0
        at = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - at * dx, y - y0 - at * dy))
    return nearest


@given(rings)
@settings(deadline=None)
def test_a_pixel_is_inside_if_its_centre_is(points: list[tuple[float, float]]) -> None:
    ring = np.array(points, np.float64)
    differ = drawn(ring) != by_centres(ring)
    assert not (differ & (distance_to(ring) > 1e-3)).any()


@given(st.lists(st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT)), min_size=3, max_size=9))
@settings(deadline=None)
def test_pycocotools_draws_the_same_to_within_half_a_pixel(points: list[tuple[float, float]]) -> None:
    ring = np.array(points, np.float64)
    (runs,) = coco_mask.frPyObjects([ring.ravel().tolist()], HEIGHT, WIDTH)
    differ = drawn(ring) != coco_mask.decode(runs).astype(np.bool_)
    assert not (differ & (distance_to(ring) > 0.5)).any()


def test_a_line_to_a_hole_and_back_leaves_the_hole_empty() -> None:
    ring = np.array(
        [(2, 2), (30, 2), (30, 30), (2, 30), (2, 2), (10, 10), (10, 20), (20, 20), (20, 10), (10, 10), (2, 2)]
    )
    wanted = np.zeros((HEIGHT, WIDTH), np.bool_)
    wanted[2:30, 2:30] = True
    wanted[10:20, 10:20] = False
    np.testing.assert_array_equal(drawn(ring.astype(np.float64)), wanted)


def test_many_edges_are_drawn_in_parts() -> None:
    angles = np.linspace(0, 2 * np.pi, 40_000, endpoint=False)
    ring = np.stack([26 + 15 * np.cos(angles), 18 + 15 * np.sin(angles)], axis=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    np.testing.assert_array_equal(drawn(ring), np.hypot(x - 26, y - 18) < 15)


@pytest.mark.parametrize(
    ("ring", "why"),
    [
        (np.zeros((2, 2)), "3 to"),
        (np.zeros((3, 3)), "3 to"),
        (np.array([[0, 0], [1, np.nan], [1, 1]]), "no number"),
        (np.array([[0, 0], [1, 1e300], [1, 1]]), "beyond 1e\\+08"),
    ],
)
def test_what_is_no_polygon(ring: NDArray[np.float64], why: str) -> None:
    with pytest.raises(DataError, match=why):
        polygon_mask(ring, HEIGHT, WIDTH)
