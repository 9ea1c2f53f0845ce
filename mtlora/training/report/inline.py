"""Pictures within a page: as JPEG in data addresses, so small that the page stays within a limit."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

LIMIT_BYTES = 4 * 2**20
"""All pictures of a page together, as they stand in it."""

_QUALITIES = (85, 70, 50, 30)
_PREFIX = "data:image/jpeg;base64,"


def inlined(pictures: Sequence[Image.Image], limit: int = LIMIT_BYTES) -> list[str]:
    """Data addresses of the pictures; each has its share of the limit, and is made coarser, then smaller, for it."""
    share = limit // max(1, len(pictures))
    return [_within(picture, share) for picture in pictures]


def _within(picture: Image.Image, limit: int) -> str:
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            picture.save(file, format="JPEG", quality=quality, subsampling=0 if quality > 60 else 2)
            text = _PREFIX + base64.b64encode(file.getvalue()).decode("ascii")
            if len(text) <= limit or max(picture.size) <= 16:
                return text
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))
