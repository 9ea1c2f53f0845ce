"""Colour profiles: what of one is applied, read with bounds and written anew; whatever else is ignored, never refused.

Of a profile with three primaries and a curve for each (Display P3, Adobe RGB, ProPhoto and their like), or of grey with
one curve, something small of the same meaning is made. Tables of colours, as those of inks, are not read.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MAX_PROFILE_BYTES = 1 << 20
"""Of a whole one: those of primaries have some kilobytes, those of inks megabytes."""

_MAX_TAGS = 128
_MAX_CURVE = 4096  # values
_WHITE = (0.9642, 1.0, 0.8249)  # of every profile, whatever the light it was made for
_WHITE_TOLERANCE = 0.05
_SAME_COLOUR, _SAME_LEVEL = 0.003, 1 / 510  # what is nearer to sRGB than so is sRGB
_SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
_PRIMARIES = {
    1: _SRGB,
    9: ((0.67346, 0.27904, -0.00194), (0.16566, 0.67534, 0.02998), (0.12510, 0.04561, 0.79713)),
    12: ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
}
"""By the numbers of ITU-T H.273: BT.709, BT.2020, Display P3."""
_SRGB_CURVES, _GAMMAS = {1, 2, 6, 13, 14, 15}, {4: 2.2, 5: 2.8, 8: 1.0}  # transfer functions, by the same
_GREYS = 256
_SIZE = 1024  # values of a curve as it is written
_PARAMETERS = (1, 3, 4, 5, 7)  # of each form of a formula
_UNSAID = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_FIXED = 65536

Curve = NDArray[np.float64]
"""Light, 0..1, of `_SIZE` levels."""
_Colour = tuple[float, float, float]
_LEVELS: Curve = np.linspace(0, 1, _SIZE)


def from_icc(data: bytes) -> bytes:
    """What of an ICC profile is applied; empty if nothing is, or if it means sRGB.

    A profile of colours, or of grey what each of its 256 levels is in sRGB, a byte each.
    """
    try:
        return _made(data)
    except (struct.error, ValueError, ArithmeticError, LookupError):
        return b""


def from_codes(primaries: int, transfer: int) -> bytes:
    """The same of numbers of ITU-T H.273, as PNG's cICP, HEIC and AVIF have them."""
    colours = _PRIMARIES.get(primaries)
    if colours is None or not (transfer in _SRGB_CURVES or transfer in _GAMMAS):
        return b""
    curve = _LEVELS ** _GAMMAS[transfer] if transfer in _GAMMAS else _srgb_curve()
    return b"" if _is_srgb(colours, [curve]) else _rgb_profile(colours, [curve] * 3)


def from_deflated(data: bytes) -> bytes:
    """As `from_icc`, of a deflated one."""
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(data, MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return b"" if inflater.unconsumed_tail else from_icc(whole)


def _made(data: bytes) -> bytes:
    if len(data) > MAX_PROFILE_BYTES or data[36:40] != b"acsp" or data[20:24] != b"XYZ ":
        return b""
    (count,) = struct.unpack_from(">I", data, 128)
    tags: dict[bytes, bytes] = {}
    for number in range(min(count, _MAX_TAGS)):
        kind, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * number)
        tags.setdefault(kind, data[offset : offset + min(size, 12 + 2 * _MAX_CURVE)])
    if data[16:20] == b"GRAY":
        curve = _curve(tags[b"kTRC"])
        return b"" if _is_like_srgb(curve) else _grey_levels(curve)
    if data[16:20] != b"RGB ":
        return b""
    colours = tuple(_colour(tags[name + b"XYZ"]) for name in (b"r", b"g", b"b"))
    curves = [_curve(tags[name + b"TRC"]) for name in (b"r", b"g", b"b")]
    if not _is_sane(colours) or _is_srgb(colours, curves):
        return b""
    return _rgb_profile(colours, curves)


def _grey_levels(curve: Curve) -> bytes:
    """The level of sRGB for each of 256 of grey."""
    light = np.interp(np.linspace(0, 1, _GREYS), _LEVELS, curve)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (shown * 255).round().astype(np.uint8).tobytes()


def _colour(tag: bytes) -> _Colour:
    if tag[:4] != b"XYZ ":
        raise ValueError(f"a colour begins with XYZ, got {tag[:4]!r}")
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / _FIXED, y / _FIXED, z / _FIXED


def _is_sane(colours: tuple[_Colour, ...]) -> bool:
    """Whether all three together are white, and none of them is made of the others."""
    sums = [sum(values) for values in zip(*colours, strict=True)]
    is_white = all(abs(got - white) < _WHITE_TOLERANCE for got, white in zip(sums, _WHITE, strict=True))
    return is_white and abs(float(np.linalg.det(np.array(colours)))) > 0.01


def _is_srgb(colours: tuple[_Colour, ...], curves: list[Curve]) -> bool:
    pairs = ((a, b) for one, other in zip(colours, _SRGB, strict=True) for a, b in zip(one, other, strict=True))
    return all(abs(a - b) < _SAME_COLOUR for a, b in pairs) and all(map(_is_like_srgb, curves))


def _is_like_srgb(curve: Curve) -> bool:
    """By the level that shows the same light."""
    return bool(np.abs(np.interp(curve, _srgb_curve(), _LEVELS) - _LEVELS).max() < _SAME_LEVEL)


def _srgb_curve() -> Curve:
    curve: Curve = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
    return curve


def _curve(tag: bytes) -> Curve:
    """A curve of any form, 0..1. `ValueError` if it is none, or one that does not rise."""
    if tag[:4] == b"curv":
        curve = _table_curve(tag)
    elif tag[:4] == b"para":
        curve = _formula_curve(tag)
    else:
        raise ValueError(f"a curve begins with curv or para, got {tag[:4]!r}")
    curve = np.clip(curve, 0, 1)
    if not np.isfinite(curve).all() or curve[-1] < 0.5 or (np.diff(curve) < -_SAME_LEVEL).any():
        raise ValueError(f"a curve rises to white, got {curve[0]} to {curve[-1]}")
    return curve


def _table_curve(tag: bytes) -> Curve:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return _LEVELS
    if count > _MAX_CURVE:
        raise ValueError(f"a curve has up to {_MAX_CURVE} values, got {count}")
    values = struct.unpack_from(f">{count}H", tag, 12)
    if count == 1:
        return _power(_LEVELS, values[0] / 256)
    return np.interp(_LEVELS, np.linspace(0, 1, count), np.array(values) / 65535)


def _formula_curve(tag: bytes) -> Curve:
    (form,) = struct.unpack_from(">H", tag, 8)
    given = [value / _FIXED for value in struct.unpack_from(f">{_PARAMETERS[form]}i", tag, 12)]
    given += _UNSAID[len(given) :]
    gamma, a, b, c, d, e, f = given
    if form in {1, 2}:  # flat below -b / a
        if not a:
            raise ValueError("a curve's formula divides by 0")
        flat = c if form == 2 else 0.0
        c, d, e, f = 0.0, -b / a, flat, flat
    curve: Curve = np.where(d <= _LEVELS, _power(np.maximum(a * _LEVELS + b, 0), gamma) + e, c * _LEVELS + f)
    return curve


def _power(levels: Curve, gamma: float) -> Curve:
    if not 0.1 <= gamma <= 10:
        raise ValueError(f"a curve's power is 0.1 to 10, got {gamma}")
    curve: Curve = levels**gamma
    return curve


def _rgb_profile(colours: tuple[_Colour, ...], curves: list[Curve]) -> bytes:
    tags = {b"wtpt": _colour_tag(_WHITE)}
    for name, colour, curve in zip((b"r", b"g", b"b"), colours, curves, strict=True):
        tags[name + b"XYZ"] = _colour_tag(colour)
        tags[name + b"TRC"] = _curve_tag(curve)
    at = 132 + 12 * len(tags)
    lines = []
    for name, value in tags.items():
        lines.append(struct.pack(">4sII", name, at, len(value)))
        at += len(value)
    head = struct.pack(">I4sI4s4s4s12x4s", at, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head = (head.ljust(68, b"\0") + _colour_tag(_WHITE)[8:]).ljust(128, b"\0")
    return b"".join([head, struct.pack(">I", len(tags)), *lines, *tags.values()])


def _colour_tag(colour: _Colour) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * _FIXED) for value in colour))


def _curve_tag(curve: Curve) -> bytes:
    return struct.pack(f">4s4xI{_SIZE}H", b"curv", _SIZE, *(curve * 65535).round().astype(int))
