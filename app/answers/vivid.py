"""Colours for outlines: vivid, far from each other, and the same for a class of that name in every set.

`app/web/static/js/look.js` has the same table and the same rule, so the page and the service's overlays look alike.
"""

import functools

import numpy as np
from numpy.typing import NDArray

PALETTE = (
    "ff3b30", "2f8cff", "12d6ff", "ff9500", "c6ff00", "ff2d92", "00e5a0", "b388ff",
    "ff5a36", "ffd60a", "5e5cff", "00b894", "ff7aa8", "7cb518", "e040fb", "00a3a3",
    "00c853", "ffb454", "3d6bff", "d4145a", "8ee000", "a259ff", "f06000", "64dfdf",
)  # fmt: skip
"""RGB in hexadecimal; bright enough to be seen on a dark photo, and not so bright that a light one hides them."""

_BASIS, _PRIME = 2166152532, 16777619  # FNV-1a, with a basis under which usual names of classes seldom meet
_STEP = 7  # to the next place where names of one set meet; has no common factor with the number of places


def place_of(name: str) -> int:
    """Where in the palette a name belongs: 0 to 23."""
    value = _BASIS
    for byte in name.encode():
        value = ((value ^ byte) * _PRIME) & 0xFFFFFFFF
    return (value ^ (value >> 15)) % len(PALETTE)


@functools.lru_cache(maxsize=64)
def vivid_colors(names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Colours by class: uint8 [256, 3]. names: of a set's classes, in order; later ones give way to earlier ones."""
    taken: set[int] = set()
    colors = np.zeros((256, 3), np.uint8)
    for index in range(256):
        place = place_of(names[index]) if index < len(names) else index % len(PALETTE)
        while place in taken and len(taken) < len(PALETTE) and index < len(names):
            place = (place + _STEP) % len(PALETTE)
        taken.add(place)
        colors[index] = tuple(bytes.fromhex(PALETTE[place]))
    colors.setflags(write=False)
    return colors
