import json
from typing import Any

import pytest

from mtlora.vocabulary.errors import SpecError, TaskError
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, ClassSpec, TaskSpec, familiar_classes
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, backbone_spec

SWIN_T = {"name": "swin_t", "embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}


def test_swin_t_shapes() -> None:
    spec = BackboneSpec(**SWIN_T)
    assert spec.stage_dims == (96, 192, 384, 768)
    assert spec.feature_dims == (192, 384, 768, 768)
    assert spec.stage_sides(448) == (112, 56, 28, 14)
    assert spec.feature_sides(448) == (56, 28, 14, 14)


@pytest.mark.parametrize("size", [224, 448, 672])
def test_input_sides_that_windows_tile(size: int) -> None:
    BackboneSpec(**SWIN_T).check_image_size(size)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (230, "multiple of 32 px from 32 to 4096, got 230"),
        (0, "got 0"),
        (256, "gives 64 tokens in stage 0, which windows of 7 do not tile; multiples of 224 px always work"),
    ],
)
def test_input_sides_that_they_do_not(size: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BackboneSpec(**SWIN_T).check_image_size(size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": (3, 6, 12, 25)}, "stage 3: 768 channels cannot be split over 25 heads"),
        ({"depths": (2, 0, 6, 2)}, r"every stage needs 1 to 64 blocks, got depths \(2, 0, 6, 2\)"),
        ({"window_size": 0}, "window_size: Input should be greater than or equal to 2"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_backbones_that_cannot_exist(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        BackboneSpec(**(SWIN_T | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": (4, 4, 4, -1)}, r"shared: ranks must be 0 to 4096, got \(4, 4, 4, -1\)"),
        ({"tasks": ()}, "tasks: Tuple should have at least 1 item"),
        ({"tasks": (Task.DEPTH, Task.DEPTH)}, "tasks must differ, got depth, depth"),
        ({"image_size": 96}, "gives 6 tokens in stage 2"),
        ({"dropout": (0, 0, 0, 1.0)}, r"dropout must be in \[0, 1\)"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be positive"),
        ({"scaling": (1.0, float("nan"), 1.0, 1.0)}, "scaling.1: Input should be a finite number"),
        ({"decoder_channels": (0, 1, 1, 1)}, "decoder channels must be 1 to 4096"),
    ],
)
def test_adapter_sets_that_cannot_exist(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        adapter_spec(**change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": Task.NORMALS, "outputs": 4}, "task normals has 3 outputs, got 4"),
        ({"task": Task.SEMSEG, "outputs": 2}, "task semseg has 2 outputs but 0 classes"),
        (
            {"task": Task.DEPTH, "outputs": 1, "classes": (ClassSpec(name="x", color=(0, 0, 0)),)},
            "depth has no classes",
        ),
        ({"task": "pose", "outputs": 1}, "task: Input should be 'semseg', 'human_parts'"),
    ],
)
def test_tasks_that_cannot_exist(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TaskSpec(ranks=(1, 1, 1, 1), scaling=(1, 1, 1, 1), **fields)


def test_colours_are_bytes() -> None:
    with pytest.raises(SpecError, match=r"class 'sky': colour parts must be 0..255, got \(0, 0, 256\)"):
        ClassSpec(name="sky", color=(0, 0, 256))


def test_familiar_names_keep_their_colours() -> None:
    classes = familiar_classes(("background", "helmet", "person"))
    assert [c.color for c in classes] == [(0, 0, 0), (128, 0, 0), (192, 128, 128)]
    assert familiar_classes(("aeroplane", "wing"))[1].color == (0, 0, 0)


def test_json_round_trip_and_frozen() -> None:
    spec = adapter_spec(adapt_reduction=True, learned_scaling=True)
    assert AdapterSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ValueError, match="frozen"):
        spec.image_size = 32


def test_json_faults_are_named() -> None:
    with pytest.raises(SpecError, match="BackboneSpec: embed_dim: Field required"):
        BackboneSpec.from_json('{"name": "x", "depths": [1,1,1,1], "num_heads": [1,1,1,1], "window_size": 7}')
    with pytest.raises(SpecError, match="Invalid JSON"):
        AdapterSpec.from_json("{")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": True}, "image_size: Input should be a valid integer, got true"),
        ({"image_size": "64"}, "image_size: Input should be a valid integer, got '64'"),
        ({"image_size": 64.0}, "image_size: Input should be a valid integer, got 64.0"),
        ({"antialias": 1}, "antialias: Input should be a valid boolean, got 1"),
        ({"antialias": "true"}, "antialias: Input should be a valid boolean, got 'true'"),
        ({"ranks": [4, 4, 4, True]}, "ranks.3: Input should be a valid integer, got true"),
        ({"scaling": [4, 4, 4, "4"]}, "scaling.3: Input should be a valid number, got '4'"),
        ({"scaling": [4, 4, 4, True]}, "scaling.3: Input should be a valid number, got true"),
        ({"std": [0.2, 0.2, float("nan")]}, "std.2: Input should be a finite number, got NaN"),
        ({"mean": [0.2, 0.2, float("inf")]}, "mean.2: Input should be a finite number, got Infinity"),
    ],
)
def test_json_of_another_type_is_refused_by_name_and_says_what_came(change: dict[str, Any], words: str) -> None:
    document = json.dumps({**json.loads(adapter_spec().to_json()), **change})
    with pytest.raises(SpecError) as caught:
        AdapterSpec.from_json(document)
    assert str(caught.value) == f"AdapterSpec: {words}"


def test_whole_numbers_of_json_are_numbers_too() -> None:
    document = {**json.loads(adapter_spec().to_json()), "scaling": [4, 4, 4, 4]}
    assert AdapterSpec.from_json(json.dumps(document)).scaling == (4.0, 4.0, 4.0, 4.0)


def test_tasks_are_found_by_name() -> None:
    spec = adapter_spec(backbone_spec(), tasks=(Task.EDGE, Task.DEPTH))
    assert spec.select(None) == (Task.EDGE, Task.DEPTH)
    assert spec.select((Task.DEPTH,)) == (Task.DEPTH,)
    with pytest.raises(TaskError, match="has no task 'normals'; it has edge, depth"):
        spec.select((Task.NORMALS,))
