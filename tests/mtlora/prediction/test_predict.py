"""The library in a few lines: backbone, adapter set, photo, maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlora.model.mtlora import build_model
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import predict
from mtlora.vocabulary.errors import AdapterMismatchError, ImageError, TaskError
from mtlora.vocabulary.options import FormKind
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter, save_adapter
from testing.small_models import SPEC, random_backbone, random_tensors


@pytest.fixture
def adapter_path(tmp_path: Path) -> Path:
    path, fingerprint = tmp_path / "a.safetensors", random_backbone(SPEC).fingerprint(SPEC)
    save_adapter(path, SPEC, random_tensors(SPEC), backbone_name="swin_test", backbone_fingerprint=fingerprint)
    return path


def test_predict(adapter_path: Path, tmp_path: Path) -> None:
    model = build_adapted(random_backbone(SPEC), load_adapter(adapter_path))
    photo = Image.new("RGB", (40, 30), (90, 10, 200))
    maps = predict(model, photo)
    assert {task: m.shape for task, m in maps.items()} == {
        "semseg": (30, 40),
        "saliency": (30, 40),
        "normals": (30, 40, 3),
    }
    photo.save(tmp_path / "p.png")
    again = predict(model, tmp_path / "p.png", "normals, sal")
    assert list(again) == ["normals", "saliency"]
    # with fewer tasks products have other shapes, and some processors sum them in another order
    np.testing.assert_allclose(maps[Task.NORMALS], again[Task.NORMALS], rtol=0, atol=1e-6)
    with pytest.raises(TaskError, match="no task 'depth'; it has semseg, saliency, normals"):
        predict(model, photo, ["depth"])


@pytest.mark.parametrize("form", FormKind)
def test_every_form_predicts_the_same(adapter_path: Path, form: FormKind) -> None:
    adapter, backbone = load_adapter(adapter_path), random_backbone(SPEC)
    model = build_model(backbone, SPEC).eval()
    model.load_adapter_tensors(adapter.tensors)
    x = torch.randn(2, 3, SPEC.image_size, SPEC.image_size)
    with torch.inference_mode():
        expected = model(x)
    for task, logits in build_adapted(backbone, adapter, form)(x).items():
        assert (logits - expected[task]).abs().max() <= 1e-4 * expected[task].abs().max()


def test_another_backbone_is_refused(adapter_path: Path) -> None:
    with pytest.raises(AdapterMismatchError, match="trained on backbone 'swin_test'"):
        build_adapted(random_backbone(SPEC, seed=9), load_adapter(adapter_path))


def test_a_photo_in_tiles_has_maps_of_its_size(adapter_path: Path) -> None:
    model = build_adapted(random_backbone(SPEC), load_adapter(adapter_path))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8))
    whole, one, tiled, auto = (predict(model, photo, "normals", tiles) for tiles in (None, "1x1", "2x2", "auto"))
    assert tiled[Task.NORMALS].shape == (150, 210, 3)
    np.testing.assert_array_equal(one[Task.NORMALS], whole[Task.NORMALS])
    assert np.abs(tiled[Task.NORMALS] - whole[Task.NORMALS]).max() > 1e-3
    assert np.abs(auto[Task.NORMALS] - whole[Task.NORMALS]).max() > 1e-3
    for wrong, words in (("2", "must be auto, or rows x columns"), ("17x16", "a photo may have 256")):
        with pytest.raises(ImageError, match=words):
            predict(model, photo, tiles=wrong)
