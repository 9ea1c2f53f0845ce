"""Photos for decoders: ordinary ones, and what makes them work."""

import io

from PIL import Image


def encoded(form: str = "JPEG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 40).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def costly(scans: int = 90, side: int = 700) -> bytes:
    """A small JPEG whose last scan comes again and again: a second of work for a quarter of a megapixel."""
    plain = encoded("JPEG", (side, side), progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * scans + b"\xff\xd9"
