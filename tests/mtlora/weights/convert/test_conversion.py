"""Published checkpoints come back as the sets they were made from; what cannot be converted is listed."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from mtlora.vocabulary.errors import ConversionError
from mtlora.vocabulary.spec import AdapterSpec, SharedMode, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.checkpoint.container import open_checkpoint
from mtlora.weights.convert import Converted, convert_checkpoint
from mtlora.weights.convert.config import Config
from mtlora.weights.convert.describe import NYUD_CLASSES, classes_of
from testing.examples import examples
from testing.paths import DOCS, GOLDEN
from testing.published_checkpoints import publish, published_config, published_names, whole
from testing.small_models import SPEC
from testing.strategies import adapter_specs


def comparable(spec: AdapterSpec) -> AdapterSpec:
    """A spec without what a checkpoint cannot tell: the backbone's name, axes, antialiasing."""
    tasks = tuple(task.model_copy(update={"axes": ""}) for task in spec.tasks)
    backbone = spec.backbone.model_copy(update={"name": "x"})
    return spec.model_copy(update={"tasks": tasks, "backbone": backbone, "antialias": False})


def change(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The configuration with one value changed, or removed where `value` is None."""
    *parents, last = path.split(".")
    node = config
    for part in parents:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return config


def same(converted: Converted, tensors: dict[str, Tensor]) -> bool:
    """Whether adapter and backbone hold exactly these values."""
    encoder = {f"backbone.{name}": tensor for name, tensor in converted.backbone.tensors.items()}
    found = encoder | converted.tensors
    return found.keys() == tensors.keys() and all(torch.equal(found[name], value) for name, value in tensors.items())


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(spec=adapter_specs(linear_ranks=False))
def test_convert_turns_publish_round(tmp_path: Path, spec: AdapterSpec) -> None:
    """For every mode, decoder, switch and set of tasks."""
    tensors = whole(spec)
    converted = convert_checkpoint(publish(tmp_path / "c.pth", spec, tensors))
    assert comparable(converted.spec) == comparable(spec)
    assert same(converted, tensors)


LINEARS = {
    "layers.0.blocks.0.attn.qkv": 1,
    "layers.1.blocks.0.mlp.fc1": 0,
    "layers.2.blocks.0.mlp.fc2": 7,
}
TASK_LINEARS = {"layers.1.blocks.0.attn.proj": 5, "layers.1.blocks.0.mlp.fc2": 0}


def with_ranks(spec: AdapterSpec, said: str = "matrix") -> AdapterSpec:
    """The spec with other ranks for some linears, of all tasks but the first for some too."""
    first, *others = spec.tasks
    tasks = (first, *(TaskSpec(**{**dict(task), "linear_ranks": TASK_LINEARS}) for task in others))
    return AdapterSpec(**{**dict(spec), "mode": said, "tasks": tasks, "linear_ranks": LINEARS})


@pytest.mark.parametrize("mode", ["matrix", "matrixv2"])
def test_ranks_that_differ_within_a_stage_are_ranks_of_linears(tmp_path: Path, mode: str) -> None:
    """The tensors say them; a pair that is not there has rank 0."""
    spec = with_ranks(SPEC, mode)
    tensors = whole(spec)
    converted = convert_checkpoint(publish(tmp_path / "c.pth", spec, tensors))
    assert comparable(converted.spec) == comparable(spec)
    assert dict(converted.spec.linear_ranks) == LINEARS
    assert same(converted, tensors)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "data parallel"])
def test_containers(tmp_path: Path, zipped: bool, prefix: str) -> None:
    tensors = whole(SPEC)
    converted = convert_checkpoint(publish(tmp_path / "c.pth", SPEC, tensors, prefix=prefix, zipped=zipped))
    assert same(converted, tensors)
    assert converted.provenance == {
        "source": "published checkpoint",
        "file": "c.pth",
        "epoch": 3,
        "max_accuracy": 12.5,
    }


def test_half_precision_and_strides(tmp_path: Path) -> None:
    """Tensors stored as float16, transposed, or as a part of a larger storage."""
    tensors = whole(SPEC)
    name = "backbone.layers.1.blocks.0.mlp.fc1.weight"
    odd = {name: tensors[name].half(), "backbone.layers.0.blocks.0.attn.proj.weight": torch.randn(8, 8).T}
    odd["backbone.layers.0.blocks.0.norm1.bias"] = torch.randn(3, 8)[1]
    converted = convert_checkpoint(publish(tmp_path / "c.pth", SPEC, tensors | odd))
    assert same(converted, tensors | {key: value.float() for key, value in odd.items()})


def test_some_tasks_only(tmp_path: Path) -> None:
    path = publish(tmp_path / "c.pth", SPEC, whole(SPEC))
    converted = convert_checkpoint(path, tasks=[Task.NORMALS, Task.SEMSEG])
    assert converted.spec.task_names == (Task.SEMSEG, Task.NORMALS)
    assert not any("saliency" in name for name in converted.tensors)


def test_mode_addition_needs_all_its_tasks(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"mode": SharedMode.ADDITION})
    path = publish(tmp_path / "c.pth", spec, whole(spec))
    assert convert_checkpoint(path, tasks=[Task.NORMALS, Task.SALIENCY, Task.SEMSEG]).spec.mode is SharedMode.ADDITION
    with pytest.raises(ConversionError, match="mode addition sums the outputs"):
        convert_checkpoint(path, tasks=[Task.NORMALS])


def test_config_beside_the_checkpoint(tmp_path: Path) -> None:
    """A state dict alone, with a YAML; and a YAML that corrects what a checkpoint says."""
    tensors = whole(SPEC)
    names = published_names(SPEC, list(tensors))
    torch.save({names[name]: tensor for name, tensor in tensors.items()}, tmp_path / "weights.pth")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(published_config(SPEC)))
    converted = convert_checkpoint(tmp_path / "weights.pth", config=tmp_path / "c.yaml")
    assert same(converted, tensors)
    with pytest.raises(ConversionError, match="no configuration; give one with --config"):
        convert_checkpoint(tmp_path / "weights.pth")
    (tmp_path / "scale.yaml").write_text("MODEL: {MTLORA: {SHARED_SCALE: [2.0]}}")
    path = publish(tmp_path / "c.pth", SPEC, tensors)
    assert convert_checkpoint(path, config=tmp_path / "scale.yaml").spec.scaling == (2.0, 2.0, 2.0, 2.0)


def test_without_ranks_per_task_the_shared_rank_holds(tmp_path: Path) -> None:
    tasks = tuple(task.model_copy(update={"ranks": SPEC.ranks}) for task in SPEC.tasks)
    spec = SPEC.model_copy(update={"tasks": tasks})
    config = change(published_config(spec), "MODEL.MTLORA.R_PER_TASK", None)
    config["MODEL"]["MTLORA"]["R"] = list(spec.ranks)
    converted = convert_checkpoint(publish(tmp_path / "c.pth", spec, whole(spec), config=config))
    assert converted.spec.tasks[0].ranks == converted.spec.ranks == SPEC.ranks


def test_one_scale_for_all_tasks(tmp_path: Path) -> None:
    config = change(published_config(SPEC), "MODEL.MTLORA.SCALE_PER_TASK", None)
    config["MODEL"]["MTLORA"]["TASK_SCALE"] = [3]
    converted = convert_checkpoint(publish(tmp_path / "c.pth", SPEC, whole(SPEC), config=config))
    assert {task.scaling for task in converted.spec.tasks} == {(3.0, 3.0, 3.0, 3.0)}


@pytest.mark.parametrize("replacement", [".", ".linear."], ids=["plain linears", "adapters without pairs"])
def test_blocks_that_an_early_version_left_alone(tmp_path: Path, replacement: str) -> None:
    """It adapted only the last block of a stage; a pair of zeros elsewhere computes the same."""
    tensors = whole(SPEC)
    names, early = published_names(SPEC, list(tensors)), "layers.2.blocks.0."  # of two blocks
    state = {
        (names[name].replace(".linear.", replacement) if early in name else names[name]): tensor
        for name, tensor in tensors.items()
        if not (early in name and ".shared." in name)
    }
    torch.save({"model": state, "config": published_config(SPEC)}, tmp_path / "c.pth")
    converted = convert_checkpoint(tmp_path / "c.pth")
    zero = {n: torch.zeros_like(t) if early in n and ".shared." in n else t for n, t in tensors.items()}
    assert same(converted, zero)
    assert converted.provenance["pairs_of_zeros"] == 4
    last = "layers.2.blocks.1.mlp.fc1."
    state = {key.replace(".linear.", ".") if last in key else key: t for key, t in state.items()}
    state = {key: tensor for key, tensor in state.items() if not (last in key and "lora" in key)}
    torch.save({"model": state, "config": published_config(SPEC)}, tmp_path / "c.pth")
    with pytest.raises(ConversionError, match=r"missing tensor .*\.2\.blocks\.1\.mlp\.fc1\.shared\.lora_a"):
        convert_checkpoint(tmp_path / "c.pth")


def test_big_endian_checkpoint(tmp_path: Path) -> None:
    """Written on another machine: every number's bytes the other way round."""
    tensors = whole(SPEC)
    good, path = publish(tmp_path / "good.pth", SPEC, tensors), tmp_path / "c.pth"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("/byteorder"):
                content = b"big"
            elif "/data/" in entry.filename:  # the integers among them are not wanted
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            new.writestr(entry.filename, content)
    assert same(convert_checkpoint(path), tensors)


UNSUPPORTED: dict[str, tuple[str, Any, str]] = {
    "another encoder": ("MODEL.TYPE", "swinv2", "MODEL.TYPE: 'swinv2' is not supported"),
    "split qkv": ("MODEL.MTLORA.SPLIT_QKV", True, "SPLIT_QKV"),
    "absolute positions": ("MODEL.SWIN.APE", True, "APE"),
    "shared projections": ("MODEL.PER_TASK_DOWNSAMPLER", False, "PER_TASK_DOWNSAMPLER"),
    "no projections": ("MODEL.DECODER_DOWNSAMPLER", False, "DECODER_DOWNSAMPLER"),
    "no adapters": ("MODEL.MTLORA.ENABLED", False, "ENABLED: False is not supported"),
    "another decoder": ("MODEL.DECODER_HEAD.sal", "updecoder", "DECODER_HEAD.sal: 'updecoder' is not supported"),
    "another mode": ("MODEL.MTLORA.SHARED_MODE", "magic", "SHARED_MODE: unknown mode 'magic'"),
    "an unknown task": ("TASKS", ["semseg", "flow"], "unknown task 'flow'"),
    "no input side": ("DATA.IMG_SIZE", None, "IMG_SIZE is missing"),
    "an impossible side": ("DATA.IMG_SIZE", 100, "multiple of 32"),
    "no scale": ("MODEL.MTLORA.SHARED_SCALE", None, "SHARED_SCALE is missing"),
    "a scale of text": ("MODEL.MTLORA.SHARED_SCALE", "four", "expected one or four of float, got 'four'"),
    "a wrong rank": ("MODEL.MTLORA.R_PER_TASK.shared", [3, 3, 5, 3], "shared rank of stage 2: config says 5"),
    "a wrong task rank": (
        "MODEL.MTLORA.R_PER_TASK.sal",
        1,
        "tasks.saliency rank of stage 0: config says 1",
    ),
    "wrong depths": ("MODEL.SWIN.DEPTHS", [1, 1, 6, 1], r"DEPTHS says \(1, 1, 6, 1\), the tensors have"),
    "a wrong window": (
        "MODEL.SWIN.WINDOW_SIZE",
        4,
        r"bias_table: shape \[9, 1\], expected \[49, 1\]",
    ),
    "wrong outputs": ("TASKS_CONFIG.ALL_TASKS.NUM_OUTPUT.semseg", 40, "says 40 outputs, the decoder has 21"),
    "a task too many": ("TASKS", ["semseg", "sal", "normals", "edge"], "missing tensor decoders.edge"),
    "a task too few": ("TASKS", ["semseg", "sal"], "left over: downsampler.normals.downsample_0.weight"),
    "a switch too few": ("MODEL.MTLORA.QKV_ENABLED", False, "left over: .*qkv.lora_shared_A"),
    "a switch too many": ("MODEL.MTLORA.DOWNSAMPLER_ENABLED", True, "missing tensor .*reduction.shared.lora_a"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_converted_is_said(tmp_path: Path, case: str) -> None:
    path, value, message = UNSUPPORTED[case]
    config = change(published_config(SPEC), path, value)
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(publish(tmp_path / "c.pth", SPEC, whole(SPEC), config=config))


def test_all_problems_at_once(tmp_path: Path) -> None:
    config = change(published_config(SPEC), "MODEL.SWIN.APE", True)
    config["DATA"]["IMG_SIZE"] = None
    checkpoint = {
        "config": config,
        "model": {"backbone.absolute_pos_embed": torch.zeros(1), "head.weight": torch.ones(1)},
    }
    torch.save(checkpoint, tmp_path / "c.pth")
    with pytest.raises(ConversionError) as caught:
        convert_checkpoint(tmp_path / "c.pth")
    text = "\n".join(caught.value.problems)
    for part in ("absolute_pos_embed", "head.weight", "APE", "IMG_SIZE", "Swin encoder"):
        assert part in text


def test_unknown_decoder_parts(tmp_path: Path) -> None:
    tensors = whole(SPEC)
    names, path = published_names(SPEC, list(tensors)), tmp_path / "c.pth"
    state = {names[name]: tensor for name, tensor in tensors.items()}
    state["decoders.decoders.semseg.auxiliary.weight"] = torch.zeros(1)
    torch.save({"model": state, "config": published_config(SPEC)}, path)
    with pytest.raises(ConversionError, match=r"unknown tensor 'decoders\.decoders\.semseg\.auxiliary\.weight'"):
        convert_checkpoint(path)


def test_class_names() -> None:
    assert [c.name for c in classes_of(Task.SEMSEG, 21)][:2] == ["background", "aeroplane"]
    assert tuple(c.name for c in classes_of(Task.SEMSEG, 40)) == NYUD_CLASSES
    assert [c.name for c in classes_of(Task.SEMSEG, 3)] == ["class 0", "class 1", "class 2"]
    assert [c.name for c in classes_of(Task.HUMAN_PARTS, 7)][1] == "head"
    assert classes_of(Task.NORMALS, 3) == ()


@pytest.mark.parametrize("case", ["tiny_w4_r8", "plus_w7_r4"])
def test_published_code_s_own_checkpoints(case: str) -> None:
    """Recorded from the published code: see tests/data/golden/README.md. Exactness is tested in test_golden."""
    converted = convert_checkpoint(GOLDEN / f"{case}.pth")
    assert converted.spec.task_names == (Task.SEMSEG, Task.NORMALS, Task.SALIENCY, Task.HUMAN_PARTS)
    state = open_checkpoint(GOLDEN / f"{case}.pth").document["model"]
    kept = {
        name for name in state if not name.endswith(("attn_mask", "relative_position_index", "num_batches_tracked"))
    }
    assert len(kept) == len(converted.tensors.keys() | {f"backbone.{name}" for name in converted.backbone.tensors})


def test_every_setting_that_is_read_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    look = Config.look

    def noting(self: Config, path: str) -> Any:
        read.add(path)
        return look(self, path)

    monkeypatch.setattr(Config, "look", noting)
    config = change(published_config(SPEC), "MODEL.MTLORA.SCALE_PER_TASK", None)
    convert_checkpoint(publish(tmp_path / "c.pth", SPEC, whole(SPEC), config=config))
    page = (DOCS / "conversion.md").read_text()
    settings_read = {part for path in read for part in path.split(".") if part.isupper()}
    assert len(settings_read) > 30
    assert [setting for setting in sorted(settings_read) if setting not in page] == []
