"""GIF: the screen, the first frame, and which colour of it is transparent."""

import re
import struct

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly

MAX_GIF_STEPS = 16_384  # blocks and parts of blocks before the first frame
MAX_GIF_PARTS = 400_000  # of its pixels, 255 bytes each as encoders write them
_BLOCK = re.compile(rb"[!,;]")
_FRAME = ord(",")
_EXTENSION = ord("!")
_CONTROL = 0xF9
_IS_TRANSPARENT = 1
_TABLES = 1 << 17  # of the decoder's dictionary


def read_gif(data: bytes, max_pixels: int) -> Container:
    """The first frame on its screen, which grows where the frame reaches beyond it, as decoders have it."""
    screen_end = 13 + _palette_bytes(data, 10)
    start, transparent = _first_frame(data, screen_end)
    if start + 11 > len(data):
        raise broken("a GIF without a frame")
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, start + 1)
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    width, height = max(screen_width, left + frame_width), max(screen_height, top + frame_height)
    check_size(width, height, max_pixels)
    end = _frame_end(data, start + 11 + _palette_bytes(data, start + 9))
    control = b"" if transparent is None else b"!\xf9\4\1\0\0" + bytes([transparent, 0])
    view = memoryview(data)
    content = b"".join([view[:screen_end], control, view[start:end], b";" if end <= len(data) else b""])
    return Container(content, 1, width, height, decoded_bytes(width, height, width * height + _TABLES))


def _palette_bytes(data: bytes, position: int) -> int:
    """Of the colour table that the flags at a position announce."""
    if position >= len(data):
        raise broken(f"a GIF of {len(data)} bytes ends in its header")
    flags = data[position]
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _first_frame(data: bytes, position: int) -> tuple[int, int | None]:
    """Where it begins, and its transparent colour; the end of the file if there is no frame."""
    transparent, steps = None, 0
    while (match := _BLOCK.search(data, position)) and data[match.start()] == _EXTENSION:
        position = match.start() + 2
        kind, block = data[position - 1 : position], data[position + 1 : position + 5]
        if kind == bytes([_CONTROL]) and len(block) == 4 and data[position] >= 4 and block[0] & _IS_TRANSPARENT:
            transparent = block[3]
        position, parts = _skip_parts(data, position, MAX_GIF_STEPS - steps)
        steps += 1 + parts
        if steps > MAX_GIF_STEPS:
            refuse_costly("GIF blocks before its first frame", MAX_GIF_STEPS)
    is_frame = match is not None and data[match.start()] == _FRAME
    return (match.start() if match and is_frame else len(data)), transparent


def _frame_end(data: bytes, position: int) -> int:
    """Behind the pixels of a frame; beyond the end of the file if they lack their own."""
    end, parts = _skip_parts(data, position, MAX_GIF_PARTS)
    if parts > MAX_GIF_PARTS:
        refuse_costly("parts of a GIF's pixels", MAX_GIF_PARTS)
    return end


def _skip_parts(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Behind a list of parts, each with its length in a byte before it, and how many there were; one more than `most`
    is where it is given up.
    """
    parts, size = 0, len(data)
    while position < size and (length := data[position]) and parts <= most:
        position += 1 + length
        parts += 1
    return position + 1, parts
