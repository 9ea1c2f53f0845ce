"""`mtlora convert`, `forward`, `info` and `predict`, as a user calls them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from mtlora.cli import convert, files
from mtlora.inference import forward_bytes
from mtlora.kernels import status
from mtlora.model.mtlora import build_model
from mtlora.vocabulary.errors import AdapterFileError, BackboneError, ImageError, MTLoRAError, TaskError
from mtlora.weights.adapter_file import load_adapter, read_manifest, save_adapter
from mtlora.weights.backbone import load_backbone, save_backbone
from mtlora.weights.bundled import find_adapter
from testing.published_checkpoints import publish, whole
from testing.small_models import SPEC, random_backbone, random_tensors

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

PARTS = ("trainable", "lora", "decoder", "extra", "total")

cli = typer.Typer()
for command in (convert.convert, files.forward, files.info, files.predict):
    cli.command()(command)


def run(*arguments: object) -> Result:
    """The command's result; errors raised on purpose come out as they are."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, MTLoRAError):
        raise result.exception
    return result


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled sets: a backbone and one set called `street`."""
    folder = tmp_path / "bundled"
    backbone = random_backbone(SPEC)
    save_backbone(backbone, folder / "backbone.safetensors")
    fingerprint = backbone.fingerprint(SPEC)
    tensors = random_tensors(SPEC)
    save_adapter(
        folder / "street.safetensors", SPEC, tensors, backbone_name="swin_test", backbone_fingerprint=fingerprint
    )
    monkeypatch.setenv("MTLORA_ADAPTERS", str(folder))
    monkeypatch.delenv("MTLORA_BACKBONE", raising=False)
    return folder


def test_convert_and_forward(tmp_path: Path) -> None:
    """Both files together compute what the model of the checkpoint's tensors computes."""
    tensors = whole(SPEC)
    checkpoint = publish(tmp_path / "c.pth", SPEC, tensors)
    adapter, backbone = tmp_path / "out" / "a.safetensors", tmp_path / "out" / "b.safetensors"
    result = run("convert", checkpoint, "--adapter-out", adapter, "--backbone-out", backbone, "--name", "rooms")
    assert result.exit_code == 0
    assert "semseg, saliency, normals" in result.output
    assert read_manifest(adapter).name == "rooms"

    x = torch.randn(2, 3, 64, 64)
    np.savez(tmp_path / "x.npz", input=x.numpy())
    files_given = ("--backbone", backbone, "--adapter", adapter, "--input", tmp_path / "x.npz")
    assert run("forward", *files_given, "--output", tmp_path / "y.npz", "--tasks", "sal,semseg").exit_code == 0
    model = build_model(load_backbone(backbone), load_adapter(adapter).manifest.spec)
    model.load_adapter_tensors({name: tensors[name] for name in model.adapter_tensors()})
    with torch.inference_mode():
        expected = model.eval()(x)
    with np.load(tmp_path / "y.npz") as logits:
        assert set(logits) == {"logits_saliency", "logits_semseg"}
        for task in ("saliency", "semseg"):
            np.testing.assert_allclose(logits[f"logits_{task}"], expected[task].numpy(), atol=1e-5)


def test_convert_to_half(tmp_path: Path) -> None:
    checkpoint = publish(tmp_path / "c.pth", SPEC, whole(SPEC))
    adapter, backbone = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run("convert", checkpoint, "--adapter-out", adapter, "--backbone-out", backbone, "--dtype", "float16")
    assert {tensor.dtype for tensor in load_adapter(adapter).tensors.values()} == {torch.float16}


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((3, 64, 64), np.float32), "got float32"), (np.zeros((1, 3, 64, 64), np.int32), "got int32")],
)
def test_forward_refuses_other_arrays(tmp_path: Path, bundle: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "x.npz", input=array)
    with pytest.raises(MTLoRAError, match=message):
        run(
            *("forward", "--backbone", bundle / "backbone.safetensors", "--adapter", bundle / "street.safetensors"),
            *("--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz"),
        )


def test_info_of_an_adapter_set(bundle: Path) -> None:
    described = json.loads(run("info", "street", "--json").output)
    model = build_model(random_backbone(SPEC), SPEC)
    assert described["kind"] == "adapter"
    assert described["digest"] == load_adapter(bundle / "street.safetensors").digest
    assert [task["task"] for task in described["tasks"]] == ["semseg", "saliency", "normals"]
    assert described["counts"]["total"] == sum(parameter.numel() for parameter in model.parameters())
    assert set(described["counts"]) == set(PARTS)
    assert described["device_bytes"]["lowrank"] < described["device_bytes"]["merged"]
    assert described["forward_bytes"] == forward_bytes(SPEC, SPEC.task_names)
    text = run("info", bundle / "street.safetensors").output
    assert "task semseg, outputs 21, ranks 2 2 2 2, decoder hrnet" in text
    assert "{" not in text and "[" not in text
    assert f"trainable {described['counts']['trainable']:,}" in text


@pytest.mark.skipif(status().instruction_set is None, reason="the page has the numbers of native kernels")
def test_the_bundled_set_takes_what_the_page_says() -> None:
    described = json.loads(run("info", "default", "--json").output)
    (line,) = (line for line in PAGE.read_text().splitlines() if line.startswith("mtlora info default "))
    form = "bytes: {bytes}, device_bytes: merged {merged:,}, lowrank {lowrank:,}, …; forward_bytes: {forward_bytes}"
    assert line.endswith(f"# {form.format(**described, **described['device_bytes'])}")


def test_info_of_a_backbone(bundle: Path) -> None:
    described = json.loads(run("info", bundle / "backbone.safetensors", "--json").output)
    assert (described["kind"], described["backbone"]["embed_dim"]) == ("backbone", 8)
    recorded = read_manifest(bundle / "street.safetensors").backbone_fingerprint
    assert described["fingerprints"]["mtlora"] == recorded  # so that a reader can see which sets fit
    assert described["fingerprints"]["mtlora_plus"] != recorded


def test_info_of_neither(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises((AdapterFileError, BackboneError)):
        run("info", tmp_path / "x.safetensors")
    with pytest.raises(AdapterFileError, match=r"no adapter set is called 'rooms'; bundled in .*: street"):
        run("info", "rooms")
    with pytest.raises(AdapterFileError, match="there is no adapter file"):
        find_adapter(tmp_path / "none.safetensors")


def test_predict(tmp_path: Path, bundle: Path) -> None:
    """PNGs of the photos' size, one per task; equal stems keep their suffixes apart."""
    for name in ("a.png", "b.jpg", "b.png"):
        Image.new("RGB", (50, 30), (10, 90, 200)).save(tmp_path / name)
    photos = [tmp_path / name for name in ("a.png", "b.jpg", "b.png")]
    result = run("predict", *photos, "--adapter", "street", "--tasks", "semseg,normals", "--out", tmp_path / "maps")
    assert result.exit_code == 0
    written = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert written == [f"{base}.{task}.png" for base in ("a", "b.jpg", "b.png") for task in ("normals", "semseg")]
    with Image.open(tmp_path / "maps" / "a.semseg.png") as image:
        assert (image.mode, image.size) == ("P", (50, 30))


def test_predict_in_tiles(tmp_path: Path, bundle: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)).save(photo)

    def written(name: str, *tiles: str) -> bytes:
        arguments = ("predict", photo, "--adapter", "street", "--tasks", "normals", "--out", tmp_path / name, *tiles)
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return (tmp_path / name / "a.normals.png").read_bytes()

    whole, one, tiled = written("whole"), written("one", "--tiles", "1x1"), written("tiled", "--tiles", "2x3")
    assert one == whole
    assert tiled != whole
    with Image.open(io.BytesIO(tiled)) as image:
        assert image.size == (90, 60)
    with pytest.raises(ImageError, match="rows x columns such as 2x3"):
        run("predict", "gone.png", "--adapter", "street", "--out", tmp_path / "x", "--tiles", "2by3")


@pytest.mark.parametrize("tool", ["coco", "labelstudio", "cvat", "labelme"])
def test_predict_for_a_labelling_tool(tool: str, tmp_path: Path, bundle: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(photo)
    result = run("predict", photo, "--adapter", "street", "--out", tmp_path / "maps", "--as", tool)
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "maps").glob(f"{tool}.*"))
    assert written
    assert all(str(tmp_path / "maps" / name) in result.stdout.splitlines() for name in written)


@pytest.mark.parametrize("tool", ["yolo", "coco=x"])
def test_other_tools_are_refused_before_anything_is_predicted(tool: str, tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(MTLoRAError, match="--as is one of coco, labelstudio, cvat, labelme"):
        run("predict", "gone.png", "--adapter", "street", "--out", tmp_path / "maps", "--as", tool)
    assert not (tmp_path / "maps").exists()


def test_a_tool_needs_maps_of_areas(tmp_path: Path, bundle: Path) -> None:
    photo = tmp_path / "a.png"
    Image.new("RGB", (50, 40)).save(photo)
    with pytest.raises(TaskError, match="no map of normals is areas: ask for semseg"):
        run("predict", photo, "--adapter", "street", "--tasks", "normals", "--out", tmp_path / "m", "--as", "coco")


def test_predict_goes_on_after_a_bad_photo(tmp_path: Path, bundle: Path) -> None:
    Image.new("RGB", (50, 30)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="1 of 2 photos"):
        run("predict", tmp_path / "bad.png", tmp_path / "good.png", "--adapter", "street", "--out", tmp_path / "maps")
    assert (tmp_path / "maps" / "good.semseg.png").is_file()


def test_predict_needs_known_tasks_and_a_backbone(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(TaskError, match="it has semseg, saliency, normals"):
        run("predict", "x.png", "--adapter", "street", "--tasks", "depth", "--out", tmp_path)
    (bundle / "backbone.safetensors").unlink()
    with pytest.raises(BackboneError, match="give one with --backbone or MTLORA_BACKBONE"):
        run("predict", "x.png", "--adapter", "street", "--out", tmp_path)


def test_info_without_a_file_tells_which_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLORA_NATIVE", "0")
    assert "native_kernels: none\nwhy: turned off by MTLORA_NATIVE=0" in run("info").stdout
    monkeypatch.delenv("MTLORA_NATIVE")
    assert json.loads(run("info", "--json").stdout)["why"] == status().reason
