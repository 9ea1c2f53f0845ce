from pathlib import Path

import pytest
import torch

from mtlora.vocabulary.errors import BackboneError
from mtlora.weights.backbone import import_backbone
from testing.factories import adapter_spec, make_backbone


def official_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as in the official Swin checkpoints: patch merging belongs to the stage before."""
    renamed = {}
    for name, tensor in tensors.items():
        for stage in (1, 2, 3):
            name = name.replace(f"layers.{stage}.downsample.", f"LAYERS.{stage - 1}.downsample.")
        renamed[name.replace("LAYERS", "layers")] = tensor
    return renamed


def test_official_checkpoint(tmp_path: Path) -> None:
    backbone = make_backbone()
    state = official_layout(dict(backbone.tensors))
    state |= {"head.weight": torch.ones(3, 64), "norm.bias": torch.ones(64)}
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    torch.save({"model": state}, tmp_path / "swin.pth")
    imported = import_backbone(str(tmp_path / "swin.pth"))
    plus = adapter_spec(adapt_reduction=True)
    assert imported.fingerprint(plus) == backbone.fingerprint(plus)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BackboneError, match=r"cannot read .* as a plain weights file"):
        import_backbone(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "owned").exists()


def test_timm_name_gives_that_shape() -> None:
    imported = import_backbone("swin_tiny_patch4_window7_224", pretrained=False)
    assert (imported.spec.embed_dim, imported.spec.depths, imported.spec.window_size) == (96, (2, 2, 6, 2), 7)
    assert sum(tensor.numel() for tensor in imported.tensors.values()) == 27_517_818  # Swin-T without norm and head


@pytest.mark.parametrize("name", ["resnet50", "swin_nano", "../../no/such"])
def test_other_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(BackboneError, match="is neither a file nor a Swin that timm knows; timm knows swin_base"):
        import_backbone(name)
