"""COCO run lengths back to a mask, written from the format's description and sharing nothing with the encoder."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode_counts(text: str) -> list[int]:
    """Characters carry 5 bits each, low first; bit 6: more follow; from the fourth count on, sums with two before."""
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def decode_rle(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """bool [H, W] of `{"size": [H, W], "counts": text}`."""
    height, width = rle["size"]
    counts = decode_counts(rle["counts"])
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((width, height)).T
