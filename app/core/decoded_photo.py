"""A photo as the model takes it."""

from dataclasses import dataclass, replace

import torch

from mtlora.images.tiles import WHOLE, Grid


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A photo as the model takes it, and the size of its maps, which is its own unless another is asked for."""

    pixels: torch.Tensor  # float32 [3, S, S], normalised; of a photo in tiles [tiles, 3, S, S], row by row
    width: int  # of the upright photo, or of its maps
    height: int
    orientation: int = 1  # of the EXIF standard: how the photo was turned
    photo_size: tuple[int, int] | None = None  # width and height, where maps have another
    grid: Grid = WHOLE  # that it was cut in

    @property
    def squares(self) -> tuple[torch.Tensor, ...]:
        """What the model is to see, one pass each: float32 [3, S, S]."""
        return (self.pixels,) if self.grid == WHOLE else tuple(self.pixels)

    def model_size(self, side: int) -> tuple[int, int]:
        """Height and width of what the model sees of it, tiles put together; side: of its square."""
        return self.grid.covered_px(side)

    def with_maps_of(self, width: int, height: int) -> "Decoded":
        """The same where maps of this size are wanted."""
        if (width, height) == (self.width, self.height):
            return self
        return replace(self, width=width, height=height, photo_size=(self.width, self.height))
