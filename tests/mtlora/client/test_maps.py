"""Maps of a server that is wrong: zip files and arrays that are none, or are far more than they seem."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mtlora.client.attempts import Attempts
from mtlora.client.calls import Call
from mtlora.client.maps import read_pictures, read_prediction
from mtlora.client.photos import pixels_of
from mtlora.client.reply import Reply
from mtlora.vocabulary.errors import BadAnswerError, MTLoRAError
from testing.serving import encoded, picture

MOST = 1_000_000
PNG = b"\x89PNG\r\n\x1a\nabc"
RECORD = b'{"tasks": {"semseg": {}}}'
GOOD = (("semseg.png", PNG), ("result.json", RECORD))


def packed(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return buffer.getvalue()


def reply(body: bytes, revision: str = "cats@3") -> Reply:
    return Reply("http://h/predict", 200, httpx.Headers({"X-Adapter-Revision": revision}), body, MOST)


def patched(body: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    at = body.rindex(mark) + offset
    return body[:at] + new + body[at + len(new) :]


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin-1").ljust(117) + b"\n"
    return packed(("semseg.npy", b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data))


def shape(text: str, kind: str = "|u1", data: bytes = b"") -> bytes:
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {text}, }}", data)


def test_right_answers() -> None:
    found = read_pictures(reply(packed(*GOOD)), ["semseg"])
    assert (found.adapter, found.pngs, found.record) == ("cats@3", {"semseg": PNG}, json.loads(RECORD))
    maps: dict[str, NDArray[Any]] = {
        "semseg": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "normals": np.ones((2, 3, 3), np.float32),
    }
    turned = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    read = read_prediction(
        reply(npz(**maps, saliency=turned, logits_semseg=np.ones((4, 2, 2), np.float32))), ["semseg"]
    )
    for name, array in {**maps, "saliency": turned}.items():
        np.testing.assert_array_equal(read.maps[name], array)
        assert read.maps[name].dtype == array.dtype
        assert read.maps[name].flags.writeable
    assert read.logits["semseg"].shape == (4, 2, 2)


def test_what_a_newer_server_adds_is_left_out() -> None:
    found = read_pictures(reply(packed(*GOOD, ("notes.txt", b"x"), ("UPPER.png", PNG))), ["semseg"])
    assert list(found.pngs) == ["semseg"]


ZIPS = {
    "nothing": (b"", "0 bytes are no zip file"),
    "text": (b"x" * 100, "does not end as a zip file"),
    "cut off": (packed(*GOOD)[:-1], "does not end as a zip file"),
    "longer": (packed(*GOOD) + b"x", "does not end as a zip file"),
    "no record": (packed(("semseg.png", PNG)), "there is no result.json in it"),
    "upwards": (packed(*GOOD, ("../../evil.png", PNG)), r"named \.\./\.\./evil\.png"),
    "from the root": (packed(*GOOD, ("/etc/evil.png", PNG)), "named /etc/evil.png"),
    "below": (packed(*GOOD, ("a/b.png", PNG)), "named a/b.png"),
    "backslashes": (packed(*GOOD, ("a\\b.png", PNG)), "named"),
    "escape": (packed(*GOOD, ("\x1b[2J.png", PNG)), r"named \\x1b\[2J\.png"),
    "hidden behind a NUL": (packed(*GOOD).replace(b"semseg.png", b"sems\0g.png"), "named"),
    "folder": (packed(*GOOD, ("folder/", b"")), "named folder/"),
    "encrypted": (patched(packed(*GOOD), b"PK\1\2", 8, b"\1\0"), "encrypted"),
    "lzma": (packed(*GOOD, method=zipfile.ZIP_LZMA), "packed by method 14"),
    "unknown packing": (patched(packed(*GOOD), b"PK\1\2", 10, b"\x63\0"), "packed by method 99"),
    "wrong checksum": (patched(packed(*GOOD), b"PK\1\2", 16, b"abcd"), "Bad CRC-32"),
    "longer than announced": (patched(packed(*GOOD), b"PK\1\2", 24, struct.pack("<L", 5)), "Bad CRC|no JSON"),
    "shorter than announced": (patched(packed(*GOOD), b"PK\1\2", 24, struct.pack("<L", 99)), "ends early"),
    "announces gigabytes": (patched(packed(*GOOD), b"PK\1\2", 24, b"\xfe\xff\xff\xff"), "bytes when unpacked"),
    "entry outside": (patched(packed(*GOOD), b"PK\1\2", 42, b"\xff\xff\0\0"), "answered no zip"),
    "bomb": (packed(("result.json", b" " * 2 * MOST)), "2000000 bytes when unpacked; at most 1000000"),
    "many entries": (packed(*((f"n{n}.png", b"") for n in range(1001))), "1001 entries"),
    "endless list": (patched(packed(*GOOD), b"PK\5\6", 12, b"\xff\xff\xff\0"), "listed in 16777215 bytes"),
    "large zip": (packed(*GOOD)[:-22] + b"PK\6\7" + b"\0" * 16 + packed(*GOOD)[-22:], "does not end as"),
    "another task": (packed(("parts.png", PNG), ("result.json", RECORD)), "answered without semseg; there is parts"),
    "no picture": (packed(("semseg.png", b"<html>"), ("result.json", RECORD)), "semseg.png is no PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_zip_files_that_are_none(name: str) -> None:
    body, words = ZIPS[name]
    with pytest.raises(BadAnswerError, match=words) as caught:
        read_pictures(reply(body), ["semseg"])
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice() -> None:
    with pytest.raises(BadAnswerError, match="there twice"):
        read_pictures(reply(packed(*GOOD, GOOD[0])))


@pytest.mark.parametrize(
    "record",
    [
        b"", b"[]", b"null", b"[" * 200_000, b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": "\\ud800"}',
        b"\xff\xfe{", b'{"a": ' + b"9" * 5000 + b"}", b"{} {}",
    ],
)  # fmt: skip
def test_records_that_are_none(record: bytes) -> None:
    call: Call[Any] = Call(method="POST", path="predict", read=read_pictures)
    attempts = Attempts(call, "http://h", None, None)  # type: ignore[arg-type]
    with pytest.raises(BadAnswerError, match=r"result\.json|makes no sense"):
        attempts.read(reply(packed(("result.json", record))))


ARRAYS = {
    "no array": (packed(("semseg", b"raw")), "semseg is no array"),
    "no header": (packed(("semseg.npy", b"x" * 100)), "begins with"),
    "half a header": (packed(("semseg.npy", b"\x93NUMPY\1\0\xff\xff")), "header of 65535 bytes"),
    "version 3": (npy("{}", version=b"\3\0"), "begins with"),
    "object": (shape("(1,)", "|O", b"cos\nsystem\n(S'false'\ntR."), "no array of plain numbers"),
    "time": (shape("(1,)", "<M8", b"12345678"), "no array of plain numbers"),
    "void": (shape("(9,)", "<V2147483647"), "no array of plain numbers"),
    "unknown": (shape("(1,)", "<f1", b"1"), "no known type"),
    "fields": (npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"), "no array of plain numbers"),
    "deep": (npy("(" * 90 + ")" * 20), "no array of plain numbers"),
    "code": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (exit(),), }"), "no array of plain numbers"),
    "negative": (shape("(-1,)"), "no array of plain numbers"),
    "true": (shape("(True,)"), "no array of plain numbers"),
    "nothing": (shape("()", data=b"x"), "no shape of a map"),
    "empty": (shape("(0, 3)"), "no shape of a map"),
    "forty digits": (shape(f"({'9' * 40},)"), "no shape of a map"),
    "five dimensions": (shape("(1, 1, 1, 1, 1)", data=b"x"), "no shape of a map"),
    "huge": (shape("(999999999999, 9)", "<f8"), "are not 0 bytes"),
    "overflow": (shape("(4294967296, 4294967296, 16)", "<f8"), "are not 0 bytes"),
    "too little": (shape("(2, 3)", data=b"12345"), "are not 5 bytes"),
    "too much": (shape("(2, 3)", data=b"1234567"), "are not 7 bytes"),
    "wrong kind": (npz(semseg=np.zeros((2, 3), np.float32)), "semseg is float32"),
    "wrong rank": (npz(semseg=np.zeros((2, 3), np.uint8), normals=np.zeros((2, 3), np.float32)), "normals is float32"),
    "two sizes": (npz(semseg=np.zeros((2, 3), np.uint8), edge=np.zeros((3, 2), np.float32)), "differ in size"),
    "another task": (npz(parts=np.zeros((2, 3), np.uint8)), "answered without semseg"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_none(name: str) -> None:
    body, words = ARRAYS[name]
    with pytest.raises(BadAnswerError, match=words) as caught:
        read_prediction(reply(body), ["semseg"])
    assert str(caught.value).isprintable()


@given(st.data())
def test_a_damaged_answer_is_read_or_refused(data: st.DataObject) -> None:
    right = data.draw(st.sampled_from([packed(*GOOD), npz(semseg=np.zeros((20, 30), np.uint8))]))
    body = bytearray(right)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    call: Call[Any] = Call(
        method="POST", path="predict", read=data.draw(st.sampled_from([read_pictures, read_prediction]))
    )
    try:
        Attempts(call, "http://h", None, None).read(reply(bytes(body)))  # type: ignore[arg-type]
    except MTLoRAError as error:
        assert "makes no sense" not in str(error), "a reader failed in a way it does not know"


def test_pixels_are_seen_in_the_head_of_a_file() -> None:
    for form, seen in (("PNG", 61 * 40), ("JPEG", 61 * 40), ("WEBP", None)):
        assert pixels_of(encoded(picture(61, 40), form)) == seen
    for sample in Path("docs/samples").glob("*.jpg"):
        with Image.open(sample) as image:
            assert pixels_of(sample.read_bytes()) == image.width * image.height
    for torn in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd8" * 9,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 5000,
        b"\x89PNG\r\n\x1a\n\0",
    ):
        assert pixels_of(torn) is None
