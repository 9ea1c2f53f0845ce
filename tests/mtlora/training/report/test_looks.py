from pathlib import Path

from PIL import Image

from mtlora.data.layout import open_dataset
from mtlora.training.report.curves import CURVES_FILE
from mtlora.training.report.looks import PHOTOS, forget_looks, look_file, save_look
from mtlora.training.report.strips import PANEL_PX
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, make_backbone, make_model
from testing.tiny_dataset import write_dataset


def test_a_look_leaves_photos_and_curves(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data", count=PHOTOS + 2), "val")
    model = make_model(make_backbone(), adapter_spec(tasks=(Task.SALIENCY,)))
    for step in (5, 10):
        save_look(model, dataset, tmp_path, step)
    with Image.open(tmp_path / look_file(10)) as picture:
        assert picture.width == 3 * PANEL_PX + 8
        assert picture.height > PHOTOS * PANEL_PX * 40 // 48
    assert (tmp_path / CURVES_FILE).read_text().startswith("<svg")
    (tmp_path / "photo.png").touch()
    forget_looks(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"photo.png"}
