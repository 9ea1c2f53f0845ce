"""Files that lie: every one is refused with `AdapterFileError`, quickly, and without memory beyond the file's size."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlora.vocabulary.errors import AdapterFileError
from mtlora.weights.adapter_file import load_adapter, read_manifest, save_adapter
from mtlora.weights.adapter_file.header import MAX_HEADER_BYTES
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from testing.adapter_bytes import BIAS, LIES, join, split
from testing.examples import examples
from testing.small_models import FINGERPRINT, SPEC, random_tensors

SOME = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "a.safetensors"
    save_adapter(path, SPEC, random_tensors(SPEC), backbone_name="x", backbone_fingerprint=FINGERPRINT)
    return path.read_bytes()


def load(tmp_path: Path, content: bytes, **options: Any) -> Any:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    return load_adapter(path, **options)


def test_good_file_loads(tmp_path: Path, good: bytes) -> None:
    assert load(tmp_path, good).manifest.spec == SPEC


@SOME
@given(part=st.floats(0, 1, exclude_max=True))
def test_any_truncation(tmp_path: Path, good: bytes, part: float) -> None:
    with pytest.raises(AdapterFileError):
        load(tmp_path, good[: int(len(good) * part)])


@SOME
@given(data=st.data())
def test_bit_flips(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    """A flip in a value may pass (there is no checksum inside); anything else is an AdapterFileError, never a crash."""
    content = bytearray(good)
    end = data.draw(st.sampled_from([8, 600, len(good)]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        loaded = load(tmp_path, bytes(content))
    except AdapterFileError:
        return
    assert all(bool(torch.isfinite(tensor).all()) for tensor in loaded.tensors.values())


@SOME
@given(header=st.binary(max_size=300))
def test_arbitrary_headers(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(AdapterFileError):
        load(tmp_path, join(header, b"\0" * 16))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@SOME
@given(value=json_values, place=st.sampled_from(["", "dtype", "shape", "data_offsets", "__metadata__"]))
def test_header_lies(tmp_path: Path, good: bytes, value: object, place: str) -> None:
    """Any JSON in the place of an entry or of a part of one."""
    header, data = split(good)
    if place == "__metadata__":
        header[place] = value
    elif place:
        if header[BIAS][place] == value:
            return
        header[BIAS][place] = value
    else:
        header[BIAS] = value
    with pytest.raises(AdapterFileError):
        load(tmp_path, join(json.dumps(header).encode(), data))


@SOME
@given(value=json_values, field=st.sampled_from(["spec", "format_version", "backbone_fingerprint", "name", "new"]))
def test_manifest_lies(tmp_path: Path, good: bytes, value: object, field: str) -> None:
    header, data = split(good)
    manifest = json.loads(header["__metadata__"][METADATA_KEY])
    if manifest.get(field) == value:
        return
    manifest[field] = value
    header["__metadata__"][METADATA_KEY] = json.dumps(manifest)
    try:
        loaded = load(tmp_path, join(json.dumps(header).encode(), data))
    except AdapterFileError:
        return
    assert field in {"name", "format_version"}  # another valid name; 1.0 or true for 1
    assert loaded.manifest.spec == SPEC


@pytest.mark.parametrize("lie", LIES)
def test_known_lies(tmp_path: Path, good: bytes, lie: str) -> None:
    header, data = split(good)
    edit, message = LIES[lie]
    edit(header)
    with pytest.raises(AdapterFileError, match=message):
        load(tmp_path, join(json.dumps(header).encode(), data))


def test_trailing_bytes(tmp_path: Path, good: bytes) -> None:
    with pytest.raises(AdapterFileError, match="the file holds"):
        load(tmp_path, good + b"\0")


def test_a_hole(tmp_path: Path, good: bytes) -> None:
    header, data = split(good)
    tensors = [value for name, value in header.items() if name != "__metadata__"]
    for value in tensors[5:]:
        value["data_offsets"] = [offset + 8 for offset in value["data_offsets"]]
    with pytest.raises(AdapterFileError, match="leaves a hole"):
        load(tmp_path, join(json.dumps(header).encode(), data + b"\0" * 8))


def test_duplicate_keys(tmp_path: Path, good: bytes) -> None:
    header, data = split(good)
    text = json.dumps(header)
    doubled = text[:-1] + f', "{BIAS}": {json.dumps(header[BIAS])}}}'
    with pytest.raises(AdapterFileError, match="occurs twice"):
        load(tmp_path, join(doubled.encode(), data))


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 100_000, '{"a": NaN}', '{"a": ' + "9" * 5000 + "}", "{}"])
def test_strange_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(AdapterFileError):
        load(tmp_path, join(text.encode(), b""))


def test_deep_manifest(tmp_path: Path) -> None:
    header = {"__metadata__": {METADATA_KEY: '{"spec":' * 50_000}}
    with pytest.raises(AdapterFileError, match="manifest is not valid"):
        load(tmp_path, join(json.dumps(header).encode(), b""))


def test_not_utf8(tmp_path: Path, good: bytes) -> None:
    with pytest.raises(AdapterFileError, match="not JSON"):
        load(tmp_path, good.replace(b'"shape"', b'"\xff\xfeape"', 1))


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1])
def test_length_lies_allocate_nothing(tmp_path: Path, good: bytes, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + good[8:])
    tracemalloc.start()
    try:
        with pytest.raises(AdapterFileError, match="header says"):
            load_adapter(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_large_spec_with_a_small_file_is_refused_before_reading(tmp_path: Path, good: bytes) -> None:
    """The spec may promise gigabytes; the header is compared with it and nothing of that size is made."""
    header, data = split(good)
    manifest = json.loads(header["__metadata__"][METADATA_KEY])
    manifest["spec"]["backbone"]["embed_dim"] = 1024
    manifest["spec"]["ranks"] = [4096] * 4
    header["__metadata__"][METADATA_KEY] = json.dumps(manifest)
    tracemalloc.start()
    try:
        with pytest.raises(AdapterFileError, match="wrong tensors"):
            load(tmp_path, join(json.dumps(header).encode(), data))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, good: bytes, value: float) -> None:
    header, data = split(good)
    begin, _ = header[BIAS]["data_offsets"]
    bad = bytearray(data)
    bad[begin : begin + 2] = torch.tensor([value], dtype=torch.float16).numpy().tobytes()
    with pytest.raises(AdapterFileError, match=r"classify\.bias: 1 of 21 values are not finite"):
        load(tmp_path, join(json.dumps(header).encode(), bytes(bad)))


def test_unaligned_data_is_read_all_the_same(tmp_path: Path, good: bytes) -> None:
    """safetensors does not promise alignment: an odd header length is legal."""
    header, data = split(good)
    text = json.dumps(header).encode()
    loaded = load(tmp_path, join(text + b" " * (1 - len(text) % 2), data))
    expected = random_tensors(SPEC)
    assert all(torch.equal(loaded.tensors[name], value.half()) for name, value in expected.items())


def test_size_limit(tmp_path: Path, good: bytes) -> None:
    with pytest.raises(AdapterFileError, match=f"{len(good)} bytes, the limit is 1000"):
        load(tmp_path, good, max_bytes=1000)


def test_no_such_file(tmp_path: Path) -> None:
    for read in (load_adapter, read_manifest):
        with pytest.raises(AdapterFileError, match="cannot open"):
            read(tmp_path / "nothing.safetensors")
        with pytest.raises(AdapterFileError, match="cannot open"):
            read(tmp_path)
