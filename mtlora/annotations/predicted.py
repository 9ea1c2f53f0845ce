"""What a model saw on a photo, for a labelling tool: the classes of a class map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"


class ClassMask(NamedTuple):
    """One class that is there: its pixels, bool [H, W]."""

    number: int
    name: str
    inside: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PredictedPhoto:
    """A photo and its class map.

    name:   of the file, with its folders, `/` between them
    labels: uint8 [H, W], of the upright photo's size
    names:  of the classes by index; what is not among them, and the background, is no mask
    """

    name: str
    labels: NDArray[np.uint8]
    names: Mapping[int, str]

    @property
    def masks(self) -> Iterator[ClassMask]:
        """The classes that are there, in the order of their indices."""
        for index in np.flatnonzero(np.bincount(self.labels.ravel(), minlength=256)):
            name = self.names.get(int(index), BACKGROUND)
            if name != BACKGROUND:
                yield ClassMask(int(index), name, self.labels == index)
