"""Pooled statistics against cutting the image into windows."""

import torch

from mtlora.inference.forward.statistics import pooled
from mtlora.inference.forward.windows import StageShape, window_order


def test_each_window_of_each_stage() -> None:
    """224 patches wide, windows of 7: 32, 16, 8 and 4 windows a side; a channel far from zero keeps its digits."""
    side, width = 56, 5
    raster = torch.randn(2, side * side, width, generator=torch.Generator().manual_seed(0)) * 0.5 + 20
    shapes = [StageShape(side >> stage, 7, 3 if stage < 3 else 0) for stage in range(4)]
    found = pooled(raster[:, window_order(side, 7, 0).order], shapes)
    image = raster.double().view(2, side, side, width)
    for stage, windows in enumerate(found.windows):
        size = 7 << stage
        assert windows.shape == (2, (side // size) ** 2, 2 * width)
        cells = image.unfold(1, size, size).unfold(2, size, size).flatten(1, 2).flatten(3)
        torch.testing.assert_close(windows.double(), features(cells), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.image.double(), features(image.flatten(1, 2).mT), rtol=1e-5, atol=1e-5)


def features(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values.mean(-1), values.std(-1, correction=0)], dim=-1)
