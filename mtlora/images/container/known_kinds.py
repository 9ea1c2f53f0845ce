"""Kinds of file that are known by their first bytes and not read: the answer names them."""

from mtlora.images.container.bounds import broken

_STILLS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1", b"miaf"}
_MAX_BRANDS = 64
_KINDS = {
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"8BPS": "a Photoshop document",
    b"gimp xcf": "a GIMP document",
    b"%PDF-": "a PDF",
    b"%!PS": "a PostScript document",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance picture",
    b"DDS ": "a DirectDraw surface",
    b"qoif": "a QOI picture",
    b"FUJIFILM": "a camera's raw picture",
    b"II\xbc\x01": "a JPEG XR",
    b"IIU\0": "a camera's raw picture",
    b"IIRO": "a camera's raw picture",
    b"BPG\xfb": "a BPG picture",
    b"\0\0\1\0": "an icon",
    b"SIMPLE  =": "a FITS picture",
    b"\x93NUMPY": "a numpy array",
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x1aE\xdf\xa3": "a film",
    b"version https://git-lfs": "a pointer to a file in Git LFS",
}
_TEXTS = {
    b"<svg": "an SVG drawing",
    b"<?xml": "XML or an SVG drawing",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
_ADDRESSES = (b"http://", b"https://", b"data:")
_EXPORT = "not an image that is read: export it as JPEG or PNG"
_BASE64 = {b"/9j/": "a JPEG", b"iVBORw0KGgo": "a PNG", b"UklGR": "a WebP"}


def is_still(data: bytes) -> bool:
    """Whether a file of boxes says that it holds still pictures: HEIC, AVIF and their like."""
    size = int.from_bytes(data[:4], "big")
    if size < 16:
        raise broken(f"a file's first box has {size} bytes")
    return any(data[at : at + 4] in _STILLS for at in (8, *range(16, min(size, 16 + 4 * _MAX_BRANDS), 4)))


def other_kind(data: bytes) -> str:
    """Why it is refused, and what to send instead; empty if its kind is not known."""
    text = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_ADDRESSES):
        return (
            f"this is an address, {data[:40]!r}, not an image: nothing is fetched from one, send the photo's own bytes"
        )
    in_base64 = next((name for start, name in _BASE64.items() if data.lstrip().startswith(start)), "")
    if in_base64:
        return f"this is {in_base64} in base64, not an image: send its bytes, or base64 within JSON"
    name = _name(data, text)
    return f"this is {name}, {_EXPORT}" if name else ""


def _name(data: bytes, text: bytes) -> str:
    """What it is, with its article."""
    if data[:4] == b"RIFF" and data[8:12] in {b"AVI ", b"WAVE"}:
        return "a film or a sound"
    if data[4:8] == b"ftyp":
        return "a camera's raw picture" if data[8:11] == b"crx" else "a film"
    kinds = ((_KINDS, data), (_TEXTS, text))
    return next((name for table, given in kinds for start, name in table.items() if given.startswith(start)), "")
