"""Blocks are left out in the order of the harm that they do, measured without labels."""

from pathlib import Path

import pytest
import torch

from mtlora.data.layout import open_photos
from mtlora.data.records import PhotoDataset
from mtlora.evaluation.block_order import harm_of, order_of_blocks, without
from mtlora.model.policy.fixed import all_blocks
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterManifest, load_adapter, write_adapter
from testing.factories import adapter_spec, make_backbone, make_model
from testing.serving import encoded, picture


@pytest.fixture
def photos(tmp_path: Path) -> PhotoDataset:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / "photos" / f"{number}.png").write_bytes(encoded(picture(70, 60, seed=number), "PNG"))
    return open_photos(tmp_path / "photos")


def test_a_block_that_does_nothing_goes_first(photos: PhotoDataset, tmp_path: Path) -> None:
    """Of one block what it adds is turned to zero: closing it changes no logit."""
    backbone, spec = make_backbone(), adapter_spec()
    idle = (2, 1)
    last = tuple(f"layers.{idle[0]}.blocks.{idle[1]}.{linear}." for linear in ("attn.proj", "mlp.fc2"))
    for name in [name for name in backbone.tensors if name.startswith(last)]:
        backbone.tensors[name].zero_()
    model = make_model(backbone, spec)
    tensors = model.adapter_tensors()
    added = [name for name in tensors if name.removeprefix("backbone.").startswith(last)]
    assert added
    tensors |= {name: torch.zeros_like(tensors[name]) for name in added}
    manifest = AdapterManifest(
        format_version=1, name="street", spec=spec, backbone_name="b", backbone_fingerprint=backbone.fingerprint(spec)
    )
    write_adapter(tmp_path / "set.safetensors", manifest, tensors, torch.float32)
    seen: list[tuple[int, int]] = []
    order = order_of_blocks(
        backbone, load_adapter(tmp_path / "set.safetensors"), photos, progress=lambda *done: seen.append(done)
    )
    blocks = all_blocks(spec)
    assert order[0] == idle
    assert sorted(order) == blocks
    assert seen[-1] == (len(blocks) * (len(blocks) + 1) // 2,) * 2


def test_no_photos_are_refused(tmp_path: Path) -> None:
    backbone, spec = make_backbone(), adapter_spec()
    manifest = AdapterManifest(
        format_version=1, name="street", spec=spec, backbone_name="b", backbone_fingerprint=backbone.fingerprint(spec)
    )
    write_adapter(tmp_path / "set.safetensors", manifest, make_model(backbone, spec).adapter_tensors(), torch.float32)
    with pytest.raises(DataError, match="no photos to measure on"):
        order_of_blocks(backbone, load_adapter(tmp_path / "set.safetensors"), PhotoDataset(tmp_path, "train", ()))


def test_gates_close_what_they_are_told() -> None:
    gates = without(adapter_spec(), [(0, 1), (3, 0)], images=2)
    assert gates[0].blocks.tolist() == [[True, False]] * 2
    assert not gates[3].blocks[:, 0].any()
    assert sum(int((~stage.blocks).sum()) for stage in gates) == 4


@pytest.mark.parametrize("task", list(Task))
def test_harm_is_nothing_where_nothing_changed(task: Task) -> None:
    logits = torch.randn(3, 5, 4)
    assert harm_of(task, logits, logits.clone()) == pytest.approx(0, abs=1e-6)
    assert harm_of(task, logits, logits + torch.randn(3, 5, 4)) > 0.01
