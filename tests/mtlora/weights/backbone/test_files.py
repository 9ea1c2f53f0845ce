from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mtlora.vocabulary.errors import BackboneError
from mtlora.weights.backbone import Backbone, load_backbone, save_backbone
from testing.factories import adapter_spec, make_backbone


def test_round_trip(tmp_path: Path) -> None:
    backbone = make_backbone()
    save_backbone(backbone, tmp_path / "b.safetensors")
    loaded = load_backbone(tmp_path / "b.safetensors")
    assert loaded.spec == backbone.spec
    assert loaded.fingerprint(adapter_spec()) == backbone.fingerprint(adapter_spec())
    assert [path.name for path in tmp_path.iterdir()] == ["b.safetensors"]


def test_half_precision_file_is_another_backbone(tmp_path: Path) -> None:
    backbone = make_backbone()
    save_backbone(backbone, tmp_path / "b.safetensors", torch.float16)
    once = load_backbone(tmp_path / "b.safetensors")
    save_backbone(once, tmp_path / "c.safetensors", torch.float16)
    assert once.fingerprint(adapter_spec()) != backbone.fingerprint(adapter_spec())
    assert once.fingerprint(adapter_spec()) == load_backbone(tmp_path / "c.safetensors").fingerprint(adapter_spec())


def test_timms_own_file_needs_no_description(tmp_path: Path) -> None:
    backbone = make_backbone()
    save_file(
        dict(backbone.tensors) | {"norm.weight": torch.ones(64), "head.fc.bias": torch.ones(9)},
        tmp_path / "t.safetensors",
    )
    loaded = load_backbone(tmp_path / "t.safetensors")
    assert loaded.spec == backbone.spec.model_copy(update={"name": "t"})


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    backbone = make_backbone()
    big = Backbone(backbone.spec, dict(backbone.tensors) | {"patch_embed.proj.bias": torch.full((8,), 1e6)})
    with pytest.raises(BackboneError, match=r"patch_embed\.proj\.bias does not fit torch\.float16"):
        save_backbone(big, tmp_path / "b.safetensors", torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"\xff" * 64)
    for path, message in ((broken, "cannot read backbone file"), (tmp_path / "no.safetensors", "cannot read"),
                          (tmp_path / "x.pth", "is not a .safetensors file")):  # fmt: skip
        with pytest.raises(BackboneError, match=message):
            load_backbone(path)
