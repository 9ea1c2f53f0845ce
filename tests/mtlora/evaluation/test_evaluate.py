import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.data.layout import open_dataset
from mtlora.data.read import read_label
from mtlora.evaluation.evaluate import evaluate
from mtlora.metrics.segmentation import ConfusionMatrix, mean_iou
from mtlora.prediction.predict import predict
from mtlora.vocabulary.errors import DataError, TrainingError
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter, save_adapter, write_adapter
from mtlora.weights.backbone import load_backbone, save_backbone
from testing.factories import adapter_spec, make_backbone, make_model
from testing.tiny_dataset import COUNT, SIZE, write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def test_scores_what_the_service_would_answer(data: Path) -> None:
    """The reported mIoU is that of `predict`'s maps, which have the photo's and so the label's size."""
    model = make_model(make_backbone(), adapter_spec())
    dataset = open_dataset(data, "val")
    confusion = ConfusionMatrix(7)
    for record in dataset.records:
        label = read_label(record.labels[Task.HUMAN_PARTS], Task.HUMAN_PARTS)[0]
        parts = predict(model, record.photo, ["human_parts"])[Task.HUMAN_PARTS]
        confusion.update(parts.astype(np.uint8, casting="safe"), label)
    report = evaluate(model, dataset, (Task.HUMAN_PARTS,))[Task.HUMAN_PARTS]
    assert report.photos == COUNT
    assert report.scores["miou"] == mean_iou(confusion.counts)


def test_by_origin_and_missing_labels(data: Path) -> None:
    (data / "meta.csv").write_text("id,semseg\nphoto0,gt\nphoto1,pseudo\nphoto2,pseudo\n")
    (data / "semseg" / "photo2.png").unlink()
    model = make_model(make_backbone(), adapter_spec())
    reports = evaluate(model, open_dataset(data, "val"))
    assert set(reports) == {Task.SEMSEG, Task.NORMALS, Task.SALIENCY, Task.HUMAN_PARTS}
    semseg = reports[Task.SEMSEG]
    assert semseg.photos == COUNT - 1
    assert {origin: r.photos for origin, r in semseg.by_origin.items()} == {"gt": 1, "pseudo": 1}
    plain = semseg.to_plain()
    assert plain["iou/bird"] is None or plain["iou/bird"] == 0.0
    assert json.dumps(plain)
    assert not any(isinstance(v, float) and math.isnan(v) for v in plain.values())


def test_a_set_of_two_classes_is_scored_on_them(data: Path) -> None:
    people = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "person")), ranks=(2, 2, 2, 2))
    model = make_model(make_backbone(), adapter_spec(tasks=(Task.NORMALS,)).model_copy(update={"tasks": (people,)}))
    scores = evaluate(model, open_dataset(data, "val"))[Task.SEMSEG].scores
    assert [name for name in scores if name.startswith("iou/")] == ["iou/background", "iou/person"]
    assert 0 < scores["pixel_accuracy"] < 1


def test_a_task_without_labels_is_refused_before_it_starts(data: Path) -> None:
    with pytest.raises(DataError, match="edge"):
        open_dataset(data, "val", (Task.EDGE,))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    backbone, spec = make_backbone(), adapter_spec()
    save_backbone(backbone, tmp_path / "backbone.safetensors")
    save_adapter(
        tmp_path / "tiny.safetensors",
        spec,
        make_model(backbone, spec).adapter_tensors(),
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(spec),
        dtype=torch.float32,
    )
    return tmp_path / "backbone.safetensors", tmp_path / "tiny.safetensors"


def test_the_command(data: Path, files: tuple[Path, Path]) -> None:
    backbone, adapter = map(str, files)
    arguments = ["evaluate", "--data", str(data), "--adapter", adapter, "--backbone", backbone]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    tasks = json.loads(result.stdout)["tasks"]
    assert tasks["normals"]["photos"] == COUNT
    assert 0 <= tasks["normals"]["mean_deg"] <= 180
    text = CliRunner().invoke(cli, [*arguments, "--tasks", "parts"]).stdout
    assert text.startswith("human_parts: miou ")
    rounded = CliRunner().invoke(cli, [*arguments, "--json", "--precision", "int8"])
    assert json.loads(rounded.stdout)["tasks"]["normals"]["mean_deg"] == pytest.approx(
        tasks["normals"]["mean_deg"], abs=2
    )


def test_train_from_the_command_line(data: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["train", "--data", str(data), "--backbone", str(files[0]), "--out", str(tmp_path / "run")]
    arguments += ["--cache", str(tmp_path / "cache"), "--tasks", "semseg", "--semseg-classes", "background,person"]
    arguments += ["--image-size", "64", "--ranks", "2,2,2,2", "--decoder-channels", "4,4,4,4", "--batch", "2"]
    arguments += ["--processes", "1"]
    result = CliRunner().invoke(cli, [*arguments, "--steps", "1", "--warmup", "0", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "adapter.safetensors").is_file()
    assert "semseg" in result.stdout


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--ranks", "1,2", "four whole numbers"),
        ("--loss-weights", "semseg:1", "semseg=1,normals=3"),
        ("--decoder", "unet", "hrnet, segformer, aspp"),
        ("--device", "tpu", "cpu, cuda or auto"),
        ("--tasks", ",", "names no task"),
        ("--zoom", "1", "two numbers such as 0.75,1.25"),
        ("--method", "magic", "mtlora, mtlora+, lora"),
    ],
)
def test_wrong_options_are_told(
    option: str, value: str, told: str, data: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ["train", "--data", str(data), "--backbone", str(files[0]), "--out", str(tmp_path / "run")]
    arguments += ["--image-size", "64", "--steps", "1", "--warmup", "0", option, value]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, TrainingError)
    assert told in str(result.exception)


def test_maps_are_compared_at_the_label_size(data: Path) -> None:
    """Normals labels may have any size."""
    for path in (data / "normals").iterdir():
        Image.fromarray(np.full((7, 9, 3), (128, 128, 0), np.uint8)).save(path)
    scores = evaluate(make_model(make_backbone(), adapter_spec()), open_dataset(data, "val"), (Task.NORMALS,))
    assert 0 < scores[Task.NORMALS].scores["mean_deg"] < 180


def test_pretrain_from_the_command_line(data: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    arguments += ["--width", "8", "--depths", "1,1,1,1", "--heads", "1,2,2,4", "--window", "2", "--image-size", "64"]
    arguments += ["--decoder-channels", "4,4,4,4", "--distill", "0", "--steps", "2", "--batch", "2", "--device", "cpu"]
    result = CliRunner().invoke(cli, [*arguments, "--warmup", "1", "--name", "tiny-swin"])
    assert result.exit_code == 0, result.output
    assert load_backbone(tmp_path / "run" / "backbone.safetensors").spec.name == "tiny-swin"


def test_labels_that_do_not_fit_are_refused_by_name(data: Path) -> None:
    model = make_model(make_backbone(), adapter_spec())
    Image.new("L", (48, 48)).save(data / "semseg" / "photo1.png")
    with pytest.raises(DataError, match=r"another aspect ratio .*semseg/photo1.png \(48 x 48, the photo 48 x 40\)"):
        evaluate(model, open_dataset(data, "val"), (Task.SEMSEG,))
    Image.new("L", SIZE, 77).save(data / "semseg" / "photo1.png")
    with pytest.raises(DataError, match=r"semseg/photo1.png holds 77: no class of semseg"):
        evaluate(model, open_dataset(data, "val"), (Task.SEMSEG,))


def test_only_background_is_said_aloud(data: Path, files: tuple[Path, Path]) -> None:
    """A set whose decoder prefers background all over; its mean IoU alone would not tell."""
    backbone, adapter = files
    loaded = load_adapter(adapter)
    tensors = dict(loaded.tensors)
    name = next(name for name in tensors if "semseg" in name and name.endswith("bias") and len(tensors[name]) == 21)
    tensors[name] = torch.full_like(tensors[name], -1e3).index_fill(0, torch.tensor([0]), 1e3)
    write_adapter(adapter, loaded.manifest, tensors, torch.float32)
    arguments = ["evaluate", "--data", str(data), "--adapter", str(adapter), "--backbone", str(backbone)]
    result = CliRunner().invoke(cli, [*arguments, "--tasks", "semseg"])
    assert "warning: predicts only background; person in the labels, found nowhere" in result.stdout, result.output
    plain = json.loads(CliRunner().invoke(cli, [*arguments, "--tasks", "semseg", "--json"]).stdout)["tasks"]["semseg"]
    assert plain["remark"].startswith("predicts only background") and plain["iou/person"] == 0


def test_a_dataset_that_names_other_classes_is_refused(data: Path) -> None:
    (data / "classes.txt").write_text("\n".join(f"c{index}" for index in range(21)))
    model = make_model(make_backbone(), adapter_spec())
    with pytest.raises(DataError, match=r"classes.txt of .* does not name semseg classes of the set"):
        evaluate(model, open_dataset(data, "val"), (Task.SEMSEG,))
