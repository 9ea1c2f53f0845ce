"""Checkpoints that try to run code or to exhaust memory: refused, and nothing happens."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlora.vocabulary.errors import ConversionError, UnsafeCheckpointError
from mtlora.weights.checkpoint.inert_pickle import read_pickle
from mtlora.weights.convert import convert_checkpoint
from testing.examples import examples
from testing.published_checkpoints import publish, whole
from testing.small_models import SPEC

SOME = settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])


def container(path: Path, content: bytes) -> Path:
    """A checkpoint's zip container around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return path


def call(function: Any, *arguments: Any, state: Any = None) -> object:
    """An object whose unpickling calls a function."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (function, arguments) if state is None else (function, arguments, state)

    return Trap()


def trap_file(tmp_path: Path) -> Path:
    return tmp_path / "trap"


def op_global(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


TRAPS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda trap: pickle.dumps({"model": call(os.system, f"touch {trap}")}, 2),
    "eval": lambda trap: pickle.dumps({"model": call(eval, f"open({str(trap)!r}, 'w')")}, 2),
    "exec in config": lambda trap: pickle.dumps({"config": call(exec, f"open({str(trap)!r}, 'w')")}, 4),
    "open": lambda trap: pickle.dumps([call(open, str(trap), "w")], 5),
    "getattr": lambda trap: b"\x80\x02" + op_global("builtins", "getattr") + op_global("os", "system") + b"\x86R.",
    "dotted name": lambda trap: b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x02id\x85R.",
    "name through an allowed module": lambda trap: b"\x80\x02" + op_global("torch._utils", "os.system") + b")R.",
    "torch.load": lambda trap: b"\x80\x02" + op_global("torch", "load") + b"X\x01\x00\x00\x00x\x85R.",
    "posix": lambda trap: b"\x80\x02" + op_global("posix", "system") + b")R.",
    "copyreg": lambda trap: b"\x80\x02" + op_global("copy_reg", "_reconstructor") + b")R.",
    "copyreg extension": lambda trap: b"\x80\x02\x82\x01.",
    "protocol 0 instance": lambda trap: b"(S'id'\nios\nsystem\n.",
    "protocol 1 object": lambda trap: b"(" + op_global("os", "system") + b"S'id'\no.",
    "attribute of a class": lambda trap: (
        b"\x80\x02" + op_global("collections", "OrderedDict") + b"N}X\x01\x00\x00\x00xK\x01s\x86b."
    ),
    "attribute of the config class": lambda trap: (
        b"\x80\x02" + op_global("yacs.config", "CfgNode") + b"}X\x0c\x00\x00\x00__setstate__K\x01sb."
    ),
    "new object of another class": lambda trap: b"\x80\x02" + op_global("collections", "OrderedDict") + b")\x81.",
    "new object with arguments": lambda trap: b"\x80\x02" + op_global("yacs.config", "CfgNode") + b"K\x01\x85\x81.",
    "call of a dtype": lambda trap: b"\x80\x02" + op_global("torch", "float32") + b")R.",
    "call of a result": lambda trap: b"\x80\x02" + op_global("collections", "OrderedDict") + b")R)R.",
    "keyword object": lambda trap: b"\x80\x04" + op_global("yacs.config", "CfgNode") + b")}\x92.",
    "persistent id of text": lambda trap: b"\x80\x02Pstorage\n.",
    "out of band buffer": lambda trap: b"\x80\x05\x97.",
    "numpy's reconstruct": lambda trap: b"\x80\x02" + op_global("numpy.core.multiarray", "_reconstruct") + b")R.",
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare"])
@pytest.mark.parametrize("kind", TRAPS)
def test_traps(tmp_path: Path, kind: str, zipped: bool) -> None:
    content = TRAPS[kind](trap_file(tmp_path))
    path = tmp_path / "c.pth"
    if zipped:
        container(path, content)
        with pytest.raises(UnsafeCheckpointError):
            convert_checkpoint(path)
    else:
        path.write_bytes(content)
        with pytest.raises(ConversionError):
            convert_checkpoint(path)
    assert not trap_file(tmp_path).exists()


def test_a_trap_beside_good_tensors(tmp_path: Path) -> None:
    """A checkpoint that is right in every other way."""
    document = {"model": whole(SPEC), "config": {}, "extra": call(os.system, f"touch {trap_file(tmp_path)}")}
    torch.save(document, tmp_path / "c.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"asks for posix\.system"):
        convert_checkpoint(tmp_path / "c.pth")
    assert not trap_file(tmp_path).exists()


STORAGE = b"X\x07\x00\x00\x00storage" + op_global("torch", "FloatStorage") + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def rebuilt(count: bytes, offset: bytes, shape: bytes, stride: bytes) -> bytes:
    """A state dict with one tensor, every number given as opcodes."""
    storage = b"(" + STORAGE + count + b"tQ"
    tensor = op_global("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + offset + shape + stride + b"\x89}tR"
    return b"\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00w" + tensor + b"ss."


def number(value: int) -> bytes:
    text = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + text


BOMBS = {
    "huge shape": (4, 0, [2**40, 2**20], [2**20, 1]),
    "expanded": (4, 0, [2**50], [0]),
    "negative size": (4, 0, [-4], [1]),
    "negative stride": (4, 3, [4], [-1]),
    "negative offset": (4, -4, [4], [1]),
    "behind the storage": (4, 2, [4], [1]),
    "huge storage": (2**60, 0, [2**59], [1]),
    "huge numbers": (4, 0, [2**63], [1]),
    "unequal lengths": (4, 0, [4], [1, 1]),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_memory_bombs(tmp_path: Path, kind: str) -> None:
    count, offset, shape, stride = BOMBS[kind]
    tuples = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, stride)]
    content = rebuilt(number(count), number(offset), *tuples)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            convert_checkpoint(container(tmp_path / "c.pth", content))
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


def test_many_tensors_over_one_storage(tmp_path: Path) -> None:
    """A small file whose tensors all claim the same numbers: more than the file holds."""
    shared = torch.randn(64 * 64 * 4)
    tensors = {n: shared[: t.numel()].view(t.shape) if t.ndim else t for n, t in whole(SPEC).items()}
    with pytest.raises(ConversionError, match=r"the tensors claim \d+ bytes, the file has \d+"):
        convert_checkpoint(publish(tmp_path / "c.pth", SPEC, tensors))


def test_a_compressed_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", b"\0" * 10_000_000)
    with pytest.raises(ConversionError, match="compressed or encrypted"):
        convert_checkpoint(tmp_path / "c.pth")


def test_a_large_pickle(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="larger than"):
        convert_checkpoint(container(tmp_path / "c.pth", b"\x80\x02" + b"]0" * 5_000_000 + b"N."))


def test_a_missing_storage(tmp_path: Path) -> None:
    good = publish(tmp_path / "good.pth", SPEC, whole(SPEC))
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(tmp_path / "c.pth", "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith("/data/5"):
                new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ConversionError, match="does not hold the"):
        convert_checkpoint(tmp_path / "c.pth")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    tensors = whole(SPEC)
    tensors["backbone.layers.0.blocks.0.attn.qkv.weight"][0, 0] = float("nan")
    with pytest.raises(ConversionError, match=r"qkv\.weight holds values that are not finite"):
        convert_checkpoint(publish(tmp_path / "c.pth", SPEC, tensors))


STRANGE = {
    "deep list": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuple as a key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "list as a key": b"\x80\x02}]K\x01s.",
    "underflow": b"\x80\x02\x86.",
    "mark as a value": b"\x80\x02(.",
    "no mark": b"\x80\x02t.",
    "unknown memo": b"\x80\x02h\x05.",
    "huge integer": b"\x80\x02\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + b".",
    "long decimal": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "huge string": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "no stop": b"\x80\x02N",
    "empty": b"",
    "text": b"hello",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_pickles(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConversionError):
        convert_checkpoint(container(tmp_path / "c.pth", STRANGE[kind]))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x03\x04" + b"x" * 500, b"\x80\x02N.", b"x" * 5000])
def test_no_checkpoint_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(ConversionError, match="not a PyTorch checkpoint"):
        convert_checkpoint(tmp_path / "c.pth")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="No such file"):
        convert_checkpoint(tmp_path / "none.pth")


@SOME
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_pickle(content: bytes) -> None:
    """Whatever the bytes: inert data or a ConversionError."""
    with contextlib.suppress(ConversionError):
        read_pickle(io.BytesIO(content))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), zipped=st.booleans())
def test_damaged_checkpoints(tmp_path: Path, data: st.DataObject, zipped: bool) -> None:
    """Flipped bytes anywhere: converted (a weight changed) or refused, never a crash."""
    good = tmp_path / f"good-{zipped}.pth"
    if not good.exists():
        publish(good, SPEC, whole(SPEC), zipped=zipped)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "bad.pth").write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    with contextlib.suppress(ConversionError):
        convert_checkpoint(tmp_path / "bad.pth")


def test_harmless_extras_are_understood(tmp_path: Path) -> None:
    """What training frameworks leave behind: counters, NumPy scalars, sizes, devices, parameters."""
    import collections

    import numpy as np

    extras = {
        "milestones": collections.Counter({3: 1}),
        "best": np.float64(0.5),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "lists": collections.defaultdict(list, {"a": [1]}),
        "set": {1, 2},
        "frozen": frozenset({3}),
        "bytes": b"abc",
        "long": 2**70,
    }
    torch.save(extras, tmp_path / "e.pth")
    with pytest.raises(ConversionError, match="state dict holds more than tensors"):
        convert_checkpoint(tmp_path / "e.pth")
