"""BMP: nothing in it but a header and pixels, so it stays as it is; sizes and run lengths are checked."""

import struct

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly

MAX_RUN_LENGTH_BYTES = 1 << 20  # decoded by an interpreted loop, over runs
MAX_RUN_LENGTH_PIXELS = 10_000_000  # and over pixels
_CORE_HEADER = 12  # bytes: of OS/2, sides of 16 bits
_RUN_LENGTHS = {1, 2}
_BYTES_OF_RUN_LENGTHS = 4  # a pixel: in the interpreted loop's lists
_LINES = 8 * 65_535


def read_bmp(data: bytes, max_pixels: int) -> Container:
    """The file as it is."""
    if len(data) < 26:
        raise broken(f"a BMP of {len(data)} bytes ends in its header")
    width, height, is_run_length = _header(data)
    check_size(width, height, max_pixels)
    if not is_run_length:
        return Container(data, 1, width, height, decoded_bytes(width, height, _LINES))
    if len(data) > MAX_RUN_LENGTH_BYTES:
        refuse_costly(f"a run-length coded BMP of {len(data)} bytes", MAX_RUN_LENGTH_BYTES)
    if width * height > MAX_RUN_LENGTH_PIXELS:
        refuse_costly(f"a run-length coded BMP of {width} x {height} pixels", MAX_RUN_LENGTH_PIXELS)
    return Container(data, 1, width, height, decoded_bytes(width, height, _BYTES_OF_RUN_LENGTHS * width * height))


def _header(data: bytes) -> tuple[int, int, bool]:
    """Width, height, and whether pixels are run lengths."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == _CORE_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height, False
    if len(data) < 34:
        raise broken(f"a BMP of {len(data)} bytes ends in its header")
    width, height, compression = struct.unpack_from("<IIxxxxI", data, 18)
    if data[25] == 0xFF:  # negative: rows from the top, as decoders tell it
        height = 2**32 - height
    return width, height, compression in _RUN_LENGTHS
