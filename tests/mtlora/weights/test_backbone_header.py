"""What a backbone file's header tells: the same verdict as loading it, without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mtlora.vocabulary.errors import BackboneError
from mtlora.weights.backbone import load_backbone, save_backbone
from mtlora.weights.backbone_header import SPEC_KEY, read_backbone_spec
from testing.adapter_bytes import join, split
from testing.factories import make_backbone


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("backbone") / "whole.safetensors"
    save_backbone(make_backbone(), path)
    return path.read_bytes()


def test_it_is_the_spec_that_loading_gives(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    path.write_bytes(whole)
    assert read_backbone_spec(path) == load_backbone(path).spec


def test_a_file_of_timms_own_with_a_classifier_and_integers_is_one(tmp_path: Path) -> None:
    path = tmp_path / "timm.safetensors"
    classifier = {"head.fc.weight": torch.zeros(3, 4), "norm.weight": torch.zeros(4)}
    save_file({**make_backbone().tensors, **classifier, "index": torch.arange(4)}, path)
    assert read_backbone_spec(path) == load_backbone(path).spec


def _other_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    header, data = split(content)
    return join(json.dumps({**header, "__metadata__": metadata}).encode(), data)


def _without_a_tensor(content: bytes) -> bytes:
    header, data = split(content)
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    begin = header.pop(last)["data_offsets"][0]
    return join(json.dumps(header).encode(), data[:begin])


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda _: b"", "0 bytes are too few"),
    "a few bytes": (lambda c: c[:5], "5 bytes are too few"),
    "half a header": (lambda c: c[:200], "but the file has 200 in all"),
    "half the tensors": (lambda c: c[: len(c) // 2 + 4000], "are there"),
    "more than its tensors": (lambda c: c + b"\0", "are there"),
    "text": (lambda _: b"not a weights file at all" * 10, "no safetensors file"),
    "a pickle": (lambda _: b"\x80\x04}q\x00." + bytes(100), "no safetensors file|in all"),
    "an array for a header": (lambda _: join(b"[1, 2]", b""), "begins with"),
    "an entry that is none": (lambda _: join(b'{"a": 1}', b""), "tensor a: no valid entry"),
    "shapes of words": (
        lambda _: join(b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 0]}}', b""),
        "entry",
    ),
    "something else": (lambda _: join(b"{}", b""), "does not hold a Swin encoder"),
    "a spec that is none": (lambda c: _other_metadata(c, {SPEC_KEY: "{}"}), "describes itself wrongly"),
    "a tensor short": (_without_a_tensor, "missing tensor"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_wrong_is_said_and_loading_would_refuse_it_too(kind: str, whole: bytes, tmp_path: Path) -> None:
    change, words = FAULTS[kind]
    path = tmp_path / "b.safetensors"
    path.write_bytes(change(whole))
    with pytest.raises(BackboneError, match=words):
        read_backbone_spec(path)
    with pytest.raises(BackboneError):
        load_backbone(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(BackboneError, match="is a folder"):
        read_backbone_spec(folder)
    with pytest.raises(BackboneError, match="No such file"):
        read_backbone_spec(tmp_path / "none.safetensors")
    with pytest.raises(BackboneError, match=r"is not a \.safetensors file"):
        read_backbone_spec(tmp_path / "swin.pth")


def test_neither_backbones_nor_manifests_need_torch() -> None:
    script = (
        "import sys, pathlib, mtlora.weights.adapter_file as a\n"
        "from mtlora.weights.backbone_header import read_backbone_spec\n"
        "read_backbone_spec(pathlib.Path('adapters/backbone.safetensors'))\n"
        "a.read_manifest('adapters/default.safetensors'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
