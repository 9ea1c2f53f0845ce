"""Sums over cells against sums written out in float64."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlora.ops.cell_sums import cell_sums
from mtlora.vocabulary.errors import MTLoRAError

pytestmark = pytest.mark.usefixtures("instruction_set")


@given(
    seed=st.integers(0, 2**31),
    images=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 8, 17, 48, 96]),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(any),
)
def test_sums_of_values_and_squares(seed: int, images: int, channels: int, sizes: list[int]) -> None:
    torch.manual_seed(seed)
    side = sum(sizes)
    patches = torch.randn(images, side, side, channels)
    starts = torch.tensor([0, *sizes]).cumsum(0).int()
    expected = torch.zeros(images, len(sizes), len(sizes), 2, channels, dtype=torch.float64)
    for down, (top, bottom) in enumerate(pairwise(starts)):
        for across, (left, right) in enumerate(pairwise(starts)):
            cell = patches[:, top:bottom, left:right].double()
            expected[:, down, across, 0] = cell.sum(dim=(1, 2))
            expected[:, down, across, 1] = cell.square().sum(dim=(1, 2))
    torch.testing.assert_close(cell_sums(patches, starts).double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "starts",
    [
        torch.tensor([0, 2], dtype=torch.int32),
        torch.tensor([1, 4], dtype=torch.int32),
        torch.tensor([0, 3, 2, 4], dtype=torch.int32),
        torch.tensor([0, 4]),
        torch.tensor([0], dtype=torch.int32),
    ],
)
def test_cuts_that_do_not_cover_the_image_are_refused(starts: torch.Tensor) -> None:
    with pytest.raises(MTLoRAError, match="starts must be int32"):
        cell_sums(torch.zeros(1, 4, 4, 2), starts)
