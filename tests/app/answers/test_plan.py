"""Photos whose shape makes them take far more than their pixels are refused."""

import pytest

from app.answers.costs import encode_us
from app.answers.plan import Extent
from app.core.errors import ImageTooCostlyError
from testing.factories import PASCAL_TASKS

LIMIT = 50_000_000


@pytest.mark.parametrize("size", [(10_000, 20), (20, 10_000), (1, 65_535), (65_535, 1), (1, 1), (10_000, 5_000)])
def test_photos_that_are_fine(size: tuple[int, int]) -> None:
    Extent(*size, 224).check(LIMIT)


@pytest.mark.parametrize("side", [224, 4096])
def test_a_photo_no_larger_than_the_models_square_is_always_fine(side: int) -> None:
    Extent(side, 1, side).check(1)
    Extent(1, side, side).check(1)


@pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1), (200, 4_000_000)])
def test_photos_that_count_as_more_than_the_limit(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooCostlyError, match=f"{size[0]} x {size[1]} pixels .* 896000000, .* limit is 50000000"):
        Extent(*size, 224).check(LIMIT)


def test_time_goes_with_rows_as_wide_as_the_models() -> None:
    assert encode_us(PASCAL_TASKS, Extent(1, 60_000, 224)) == encode_us(PASCAL_TASKS, Extent(224, 60_000, 224))
    assert encode_us(PASCAL_TASKS, Extent(60_000, 1, 224)) == encode_us(PASCAL_TASKS, Extent(60_000, 1, 1))
