"""Colour profiles made by the standard's arithmetic, to be compared with what is written down elsewhere."""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
PRIMARIES = {  # x and y of red, green and blue, and of white: from the standards of each
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65),
    "prophoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585)),
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Matrix = NDArray[np.float64]


def colorants(name: str) -> Matrix:
    """XYZ of red, green and blue under D50, as rows."""
    *primaries, white = ((x / y, 1.0, (1 - x - y) / y) for x, y in PRIMARIES[name])
    columns = np.array(primaries).T
    columns = columns * np.linalg.solve(columns, np.array(white))
    cones = np.diag((_BRADFORD @ D50) / (_BRADFORD @ np.array(white)))
    rows: Matrix = (np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ columns).T
    return rows


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def gamma_curve(gamma: float) -> bytes:
    return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256)) + b"\0\0"


def formula(form: int, *values: float) -> bytes:
    return struct.pack(">4s4xHxx", b"para", form) + fixed(*values)


SRGB_CURVE = formula(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def rgb_profile(rows: Matrix | Sequence[Sequence[float]], curve: bytes = SRGB_CURVE) -> bytes:
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}
    for name, row in zip((b"r", b"g", b"b"), rows, strict=True):
        tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*row)
        tags[name + b"TRC"] = curve
    return profile(b"RGB ", tags)


def grey_profile(curve: bytes) -> bytes:
    return profile(b"GRAY", {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), b"kTRC": curve})


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A whole ICC profile of these tags, with a description that nobody needs."""
    tags = {b"desc": b"desc" + bytes(90), **tags}
    at, lines = 132 + 12 * len(tags), b""
    for name, value in tags.items():
        lines += struct.pack(">4sII", name, at, len(value))
        at += len(value)
    head = struct.pack(">I4sI4s4s4s12x4s", at, b"lcms", 0x02400000, b"mntr", space, b"XYZ ", b"acsp").ljust(68, b"\0")
    head = (head + fixed(*D50)).ljust(128, b"\0")
    return head + struct.pack(">I", len(tags)) + lines + b"".join(tags.values())
