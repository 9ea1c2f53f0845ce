"""Tiles as clients ask for them, against what a server allows."""

import pytest

from app.core.errors import BadParameterError
from app.core.tiling import allowed_tiling
from mtlora.images.tiles import UNTILED, WHOLE, Grid, Tiling


def test_what_is_not_asked_for_is_not_given() -> None:
    assert allowed_tiling(None, 3, 16, 16) == UNTILED


def test_a_grid_within_the_limits() -> None:
    assert allowed_tiling("2x3", 2, 16, 16).grid == Grid(2, 3)
    assert allowed_tiling("1x1", 2, 16, 16).grid == WHOLE


def test_auto_shares_the_passes_of_a_request_among_its_photos() -> None:
    assert allowed_tiling("auto", 1, 16, 16) == Tiling(None, 16)
    assert allowed_tiling("auto", 5, 16, 16) == Tiling(None, 3)
    assert allowed_tiling("auto", 16, 4, 16) == Tiling(None, 1)


def test_too_many_are_refused_with_the_limit_named() -> None:
    with pytest.raises(BadParameterError, match=r"tiles 5x4 are 20 tiles; a photo may have 16 \(MTLORA_MAX_TILES\)"):
        allowed_tiling("5x4", 1, 16, 16)
    with pytest.raises(
        BadParameterError, match="2 photos in 12 tiles are 24 passes of the model; a request may have 16"
    ):
        allowed_tiling("3x4", 2, 16, 16)
