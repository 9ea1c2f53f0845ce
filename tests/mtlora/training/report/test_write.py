import csv
from dataclasses import replace
from pathlib import Path

import pytest

from mtlora.training.adapters.config import TrainConfig, Validation
from mtlora.training.adapters.train import train
from mtlora.training.report.write import REPORT_FILE, WORST_FILE, reviewed_photos
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.tiny_dataset import COUNT, write_dataset
from testing.training_runs import loop, silent, spec, train_config


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = write_dataset(tmp_path / "data")
    save_backbone(make_backbone(backbone_spec(window_size=2)), tmp_path / "backbone.safetensors")
    tasks = spec((Task.HUMAN_PARTS, Task.NORMALS))
    return train_config(data, tmp_path / "backbone.safetensors", tmp_path / "run", 4, spec=tasks, batch=2, name="tiny")


def files(config: TrainConfig) -> set[str]:
    return {path.name for path in config.out.iterdir()}


def test_every_run_leaves_pictures_curves_tables_and_a_page(config: TrainConfig) -> None:
    train(replace(config, validation=Validation(every=2)), silent)
    left = {"val-2.png", "val-4.png", "curves.svg", "confusion-human_parts.csv", WORST_FILE, REPORT_FILE, "run.json"}
    assert left <= files(config)
    html = (config.out / REPORT_FILE).read_text()
    assert "<h1>tiny: human_parts, normals</h1>" in html and "6 photos of the split &#x27;val&#x27;" in html
    assert "--split val --adapter" in html and "weights of step" in html
    with (config.out / "confusion-human_parts.csv").open() as table:
        pixels = sum(int(value) for row in list(csv.reader(table))[1:] for value in row[1:])
    assert pixels == COUNT * 48 * 40


def test_photos_that_were_learned_from_are_called_so(config: TrainConfig) -> None:
    """Without a validation split the report is made of the training photos, and says that above all else."""
    (config.data / "ImageSets" / "val.txt").unlink()
    photos, learned = reviewed_photos(config)
    assert learned and photos.split == "train"
    train(config, silent)
    html = (config.out / REPORT_FILE).read_text()
    assert html.index("There is no validation split that fits") < html.index("<h2>")
    assert "--split train --adapter" in html


def test_no_photos_no_report(config: TrainConfig) -> None:
    train(replace(config, report_photos=0), silent)
    assert REPORT_FILE not in files(config)


def test_so_many_photos_evenly(config: TrainConfig) -> None:
    photos, learned = reviewed_photos(replace(config, report_photos=3))
    assert [record.id for record in photos.records] == ["photo0", "photo2", "photo4"] and not learned


def test_a_run_that_went_on_says_so(config: TrainConfig) -> None:
    """And its record is that of the run that made the result, not of the command that ended it."""
    long = replace(config, loop=loop(6))

    class StoppedError(Exception):
        pass

    def stop(step: int, _steps: int, _losses: dict[str, float]) -> None:
        if step == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(long, stop)
    train(long, silent, resume=True)
    assert "after step 3" in (config.out / REPORT_FILE).read_text()
