"""Arrays that commands read: what is no input of a model is told in words."""

from typing import Any

import numpy as np
import pytest

from mtlora.cli.arrays import checked_input
from mtlora.vocabulary.errors import MTLoRAError


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
def test_an_input_that_is_not_finite_is_refused_and_says_where(number: float) -> None:
    x = np.zeros((2, 3, 4, 4))
    x[1, 2, 0, 3] = number
    x[1, 2, 3, 3] = number
    with pytest.raises(MTLoRAError, match=r"2 of its 96 numbers are NaN or infinite, the first at \[1, 2, 0, 3\]"):
        checked_input(x, 4)


@pytest.mark.parametrize("x", [np.zeros((3, 4, 4)), np.zeros((1, 3, 4, 5)), np.zeros((1, 3, 4, 4), int)])
def test_an_input_of_another_shape_or_type_is_refused(x: Any) -> None:
    with pytest.raises(MTLoRAError, match=r"must be float \[N, 3, 4, 4\], got"):
        checked_input(x, 4)


def test_a_right_input_is_float32() -> None:
    found = checked_input(np.full((1, 3, 4, 4), 0.5), 4)
    assert found.dtype == np.float32
    assert found.shape == (1, 3, 4, 4)
