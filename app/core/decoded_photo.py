"""A photo as the model takes it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A photo as the model takes it, and the size of the photo itself."""

    pixels: torch.Tensor  # float32 [3, S, S], normalised
    width: int  # of the upright photo
    height: int
