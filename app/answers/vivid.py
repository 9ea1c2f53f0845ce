"""Colours for outlines: vivid, and far from those of the classes before."""

import colorsys

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.618033988749895  # of a turn of hue from one class to the next


def _colors() -> NDArray[np.uint8]:
    parts = [
        colorsys.hsv_to_rgb(0.05 + index * _GOLDEN, 1.0 if index % 2 else 0.85, 1.0 if index % 3 else 0.85)
        for index in range(256)
    ]
    return (np.array(parts) * 255).round().astype(np.uint8)


VIVID = _colors()
"""uint8 [256, 3], by class."""
