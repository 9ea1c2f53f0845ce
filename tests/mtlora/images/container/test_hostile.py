"""Files that cost a decoder minutes or gigabytes are refused in a moment, or read without their tricks."""

import io
import struct
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from mtlora.vocabulary.errors import ImageError, ImageTooCostlyError, ImageTooLargeError
from testing.hostile_images import (
    ANIM,
    HARMLESS,
    PNG_START,
    REFUSED,
    SIZE,
    bmp,
    chunk,
    encoded,
    encoded_pixels,
    frame,
    gif,
    jpeg,
    png,
    strips,
    tiff,
    tiled,
    webp,
)

MOST_LINES = 3_000_000  # of Python, for the longest list of small things that is read; most files take a hundred


class Lines:
    """Counts the lines that run in the package meanwhile: a measure of time that no busy machine changes."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "Lines":
        self._former = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._former)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if "/images/container/" not in frame.f_code.co_filename:
            return None
        self.number += event == "line"
        return self._trace


@pytest.mark.parametrize("name", REFUSED)
def test_bombs_are_refused_at_once(name: str) -> None:
    with Lines() as lines, pytest.raises(ImageTooCostlyError, match="the image is built to be slow to read"):
        read_container(REFUSED[name], 2_000_000)
    assert lines.number < MOST_LINES


@pytest.mark.parametrize("name", HARMLESS)
def test_tricks_beside_the_picture_are_cut_away(name: str) -> None:
    data = HARMLESS[name]
    with Lines() as lines:
        container = read_container(data, 2_000_000)
    assert lines.number < MOST_LINES
    assert (container.width, container.height) == SIZE
    form = name[: name.index(":")].upper()
    progressive: dict[str, Any] = {"progressive": True} if form == "JPEG" else {}
    plain = tiff({}) if form == "TIFF" else encoded(form, **progressive)
    if "Adobe" not in name:
        assert open_photo(data, 2_000_000).tobytes() == open_photo(plain).tobytes()
    if form not in {"TIFF", "WEBP"} and name != "png: pixels without end":  # which the decoder stops by itself
        assert len(container.data) < len(plain) + 2000


@pytest.mark.parametrize(
    "name", ["png: EXIF of lists", "jpeg: fill bytes", "gif: junk", "tiff: tags again", "webp: frames"]
)
def test_memory_is_that_of_one_copy(name: str) -> None:
    data = HARMLESS[name]
    tracemalloc.start()
    read_container(data, 2_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * len(data) + 200_000


def test_a_large_canvas_for_a_small_frame() -> None:
    for canvas in ((7000, 7100), (2100, 2100)):
        with pytest.raises(ImageTooCostlyError, match=f"canvas of {canvas[0]} x {canvas[1]} pixels around"):
            open_photo(webp(2, canvas, ANIM, frame()))
    assert open_photo(webp(2, (2000, 2000), ANIM, frame())).size == (2000, 2000)


@pytest.mark.parametrize(
    "content",
    [
        PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + png()[33:],
        b"GIF89a" + struct.pack("<HH", 1, 1) + b"\0\0\0," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\2L\1\0;",
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2L\1\0;",
        bmp((2**31 - 1, 2**31 - 1), 24, 0, b""),
        jpeg().replace(struct.pack(">HH", *SIZE[::-1]), b"\xff\xff\xff\xff", 1),
        tiff({256: (4, 1, 2**32 - 1), 257: (4, 1, 2**32 - 1)}),
        webp(0, (16_000, 16_000), encoded("WEBP")[12:]),
        webp(2, (2**24, 2**24), ANIM, frame()),
    ],
    ids=["png", "gif frame beyond its screen", "gif screen", "bmp", "jpeg", "tiff", "webp", "webp canvas"],
)
def test_huge_pictures_are_refused_on_their_header(content: bytes) -> None:
    with pytest.raises(ImageTooLargeError, match="the limit is 50000000"):
        open_photo(content)


@pytest.mark.parametrize(
    "content",
    [
        PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 4_000_000, 8, 0, 0, 0, 0)) + png()[33:],
        PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", 65_536, 1, 8, 0, 0, 0, 0)) + png()[33:],
        tiff({256: (4, 1, 1), 257: (4, 1, 4_000_000)}),
        bmp((1, 4_000_000), 24, 0, b""),
    ],
    ids=["png", "png by one", "tiff", "bmp"],
)
def test_no_side_is_longer_than_can_be_worked_with(content: bytes) -> None:
    with pytest.raises(ImageTooLargeError, match="no side may be longer than 65535"):
        open_photo(content)


def test_the_longest_side() -> None:
    assert open_photo(encoded("PNG", (65_535, 1))).size == (65_535, 1)


def test_ordinary_files_pass() -> None:
    text = PngImagePlugin.PngInfo()
    for index in range(300):
        text.add_text(f"key{index}", "words " * 50, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encoded("PNG", pnginfo=text, icc_profile=b"x" * 5000),
        encoded("JPEG", progressive=True, exif=exif, icc_profile=b"x" * 200_000, comment=b"c" * 60_000),
        encoded("JPEG", restart_marker_rows=1),
        encoded("GIF", comment=b"c" * 5000),
        encoded("TIFF", compression="tiff_lzw", strip_size=64),
        encoded("TIFF"),
        encoded("BMP"),
        encoded("WEBP", exif=exif),
        strips((64, 64), 64, 1),
        strips((64, 64), 8, 8, big=True),
        strips((1024, 1024), 2000, 1023),
        tiled((16, 16), 1, encoded_pixels() + bytes(64)),
        bmp((3000, 3000), 8, 1, b"\1\1" * 10),
    ]
    for content in files:
        read_container(content, DEFAULT_MAX_PIXELS)
    for content in files[:-1]:
        assert open_photo(content).mode == "RGB"


@pytest.mark.parametrize("size", [(3000, 2000), (8000, 6000)])
def test_large_progressive_pictures_pass_alone_and_in_pairs(size: tuple[int, int]) -> None:
    """Each picture's scans count for itself: ten of the first one."""
    pictures = [Image.new("RGB", size, color) for color in ((120, 140, 90), (90, 120, 140))]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "MPO", save_all=True, append_images=pictures[1:], quality=5, progressive=True)
    container = read_container(buffer.getvalue(), DEFAULT_MAX_PIXELS)
    assert (container.width, container.height) == size
    assert container.data.count(b"\xff\xda") == 10
    coefficients = 2 * size[0] * size[1] * 1.5
    assert container.decoded_bytes > 4 * size[0] * size[1] + coefficients


def test_a_film_behind_a_photo_is_not_looked_at() -> None:
    """Bytes that look like markers come in any film: 100,000 scans of no picture."""
    photo = jpeg(size=(1200, 900))
    film = b"MotionPhoto_Data" + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 400 + b"\xff\xda\0\2" * 100_000
    assert read_container(photo + film, 1_200_000).data == read_container(photo, 1_200_000).data
    assert open_photo(photo + film, 1_200_000) == open_photo(photo)


def test_a_hundred_scans_are_refused_wherever_a_film_begins() -> None:
    with pytest.raises(ImageTooCostlyError, match="JPEG scans; at most 100"):
        open_photo(jpeg(scans=120) + b"film")


def test_anything_cut_short_is_an_image_error_or_as_it_was() -> None:
    for content in (png(), jpeg(), gif(b""), strips((64, 64), 4, 16), strips((64, 64), 4, 16, big=True), webp(0, SIZE)):
        for end in range(0, 200):
            try:
                assert len(read_container(content[:end], DEFAULT_MAX_PIXELS).data) <= end + 300
            except ImageError as error:
                assert "truncated or corrupt" in str(error)


@pytest.mark.parametrize("missing", [1, 30, 100, 5000])
def test_a_raw_tiff_that_lacks_pixels_is_broken(missing: int) -> None:
    """Nothing of what is written behind the pixels is taken for them."""
    whole = raw_tiff(120, 90)
    assert open_photo(whole).size == (120, 90)
    with pytest.raises(ImageError, match="truncated or corrupt"):
        open_photo(whole[:-missing])


def test_offsets_beyond_any_file_are_broken() -> None:
    """Of a list in a BigTIFF, whose numbers have 64 bits: an orientation says nothing then, strips cannot be read."""
    for tag, is_read in ((274, True), (273, False)):
        data = big_tiff_with(tag, kind=16 if tag == 273 else 3, count=9, offset=2**64 - 1)
        if is_read:
            assert open_photo(data).size == (64, 64)
        else:
            with pytest.raises(ImageError):
                open_photo(data)


def raw_tiff(width: int, height: int) -> bytes:
    """Its directory before its pixels, of which nothing follows."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: width * height}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    lines = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + lines + bytes(4) + b"\x55" * (width * height)


def big_tiff_with(tag: int, *, kind: int, count: int, offset: int) -> bytes:
    tags = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {278: (4, 1, 64), 279: (4, 1, 4096), 273: (16, 1, 0)}
    tags.setdefault(tag, (3, 1, 1))
    tags[273] = (16, 1, 16 + 8 + 20 * len(tags) + 8)
    tags[tag] = (kind, count, offset)
    lines = b"".join(struct.pack("<HHQQ", name, *entry) for name, entry in sorted(tags.items()))
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(tags))
    return head + lines + bytes(8) + b"\x55" * 4096
