"""The size that a coded picture has by its own words, in HEVC and AV1: a decoder makes room for that."""

from collections.abc import Iterator

from mtlora.images.container.bounds import broken, refuse_costly
from mtlora.images.container.boxes import Bits, Fields

MAX_UNITS = 8192  # NAL units or OBUs of one picture: a slice for each row of blocks is some 500
MAX_CODED_PICTURES = 4  # within one: layers of one quality each
_HEADER_BYTES = 512  # that the size lies in
_SEQUENCE_UNIT = 33  # of HEVC
_SLICES = range(32)
_ESCAPED = b"\0\0\3"
_FULL_COLOUR = 3
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # OBUs of AV1

Size = tuple[int, int]
"""Width and height."""


def hevc_sizes(config: memoryview, data: bytes) -> list[Size]:
    """Of every picture of an HEVC item.

    config: the body of its hvcC box
    """
    if len(config) < 23:
        raise broken(f"a HEIC configuration of {len(config)} bytes")
    length_bytes = (config[21] & 3) + 1
    sizes, pictures = [], 0
    for unit in (*_config_units(config), *_units(memoryview(data), length_bytes)):
        kind = unit[0] >> 1 & 0x3F if len(unit) > 2 else -1
        if kind == _SEQUENCE_UNIT:
            sizes.append(_hevc_size(bytes(unit[2:_HEADER_BYTES])))
        pictures += kind in _SLICES and bool(unit[2] & 0x80)  # the first slice of a picture
    _check_pictures(pictures)
    return sizes


def av1_sizes(config: memoryview, data: bytes) -> list[Size]:
    """Of every picture of an AV1 item.

    config: the body of its av1C box
    """
    sizes, pictures = [], 0
    for kind, body in (*_obus(config[4:]), *_obus(memoryview(data))):
        if kind == _SEQUENCE:
            sizes.append(_av1_size(Bits(bytes(body[:_HEADER_BYTES]))))
        pictures += kind in {_FRAME, _FRAME_HEADER}
    _check_pictures(pictures)
    return sizes


def _check_pictures(pictures: int) -> None:
    if pictures > MAX_CODED_PICTURES:
        refuse_costly(f"{pictures} coded pictures for one", MAX_CODED_PICTURES)


def _config_units(config: memoryview) -> Iterator[memoryview]:
    fields = Fields(config[22:])
    for _ in range(fields.number(1)):
        fields.number(1)
        for _ in range(fields.number(2)):
            yield fields.part(fields.number(2))


def _units(data: memoryview, length_bytes: int) -> Iterator[memoryview]:
    position = number = 0
    while position + length_bytes <= len(data):
        number += 1
        if number > MAX_UNITS:
            refuse_costly("parts of a coded picture", MAX_UNITS)
        size = int.from_bytes(data[position : position + length_bytes], "big")
        position += length_bytes
        if position + size > len(data):
            raise broken(f"{len(data) - position} of {size} bytes of a part of a HEIC picture")
        yield data[position : position + size]
        position += size


def _hevc_size(unit: bytes) -> Size:
    """Of a sequence parameter set, without the two bytes of its head."""
    bits = Bits(unit.replace(_ESCAPED, b"\0\0"))
    bits.number(4)
    layers = bits.number(3)
    bits.number(1 + 96)
    has = [(bits.number(1), bits.number(1)) for _ in range(8 if layers else 0)]
    for profile, level in has[:layers]:
        bits.number(88 * profile + 8 * level)
    bits.exponential()
    if bits.exponential() == _FULL_COLOUR:
        bits.number(1)
    return bits.exponential(), bits.exponential()


def _obus(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = number = 0
    while position < len(data):
        number += 1
        if number > MAX_UNITS:
            refuse_costly("parts of a coded picture", MAX_UNITS)
        head = data[position]
        position += 1 + (head >> 2 & 1)
        size = len(data) - position
        if head & 2:
            size, position = _leb128(data, position)
        if size < 0 or position + size > len(data):
            raise broken(f"{len(data) - position} of {size} bytes of a part of an AVIF picture")
        yield head >> 3 & 15, data[position : position + size]
        position += size


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    value = 0
    for place, byte in enumerate(data[position : position + 8]):
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, position + place + 1
    raise broken("a part of an AVIF picture without its length")


def _av1_size(bits: Bits) -> Size:
    """Of a sequence header."""
    bits.number(3 + 1)
    if bits.number(1):  # reduced, for still pictures
        bits.number(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.number(4) + 1, bits.number(4) + 1
    return bits.number(width_bits) + 1, bits.number(height_bits) + 1


def _skip_operating_points(bits: Bits) -> None:
    has_model, delay_bits = 0, 0
    if bits.number(1):  # timing
        bits.number(64)
        if bits.number(1):
            bits.exponential()
        has_model = bits.number(1)
        if has_model:
            delay_bits = bits.number(5) + 1
            bits.number(32 + 5 + 5)
    has_delay = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.number(12)
        if bits.number(5) > 7:
            bits.number(1)
        if has_model and bits.number(1):
            bits.number(2 * delay_bits + 1)
        if has_delay and bits.number(1):
            bits.number(4)
