"""Conversion of AdaMTL checkpoints: what it makes of each training stage, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlora.adamtl.conversion import convert_adamtl, is_adamtl
from mtlora.adamtl.spec import LayerLoss, Policy
from mtlora.vocabulary.errors import ConversionError, TaskError, UnsafeCheckpointError
from mtlora.vocabulary.tasks import Task
from mtlora.weights.checkpoint.container import open_checkpoint
from testing.ada_models import SPEC, publish_ada, published_ada_config, random_ada_tensors
from testing.published_checkpoints import publish, whole
from testing.small_models import SPEC as SET_SPEC

Change = Callable[[dict[str, Any]], object]


def problems_of(path: Path, change: Change) -> str:
    """What is wrong with a checkpoint whose configuration was changed."""
    config = published_ada_config(SPEC)
    change(config)
    with pytest.raises(ConversionError) as caught:
        convert_adamtl(publish_ada(path, SPEC, random_ada_tensors(SPEC), config=config))
    return str(caught.value)


def test_kinds_of_checkpoints(tmp_path: Path) -> None:
    ours = publish_ada(tmp_path / "a.pth", SPEC, random_ada_tensors(SPEC))
    assert is_adamtl(open_checkpoint(ours))
    assert not is_adamtl(open_checkpoint(publish(tmp_path / "b.pth", SET_SPEC, whole(SET_SPEC))))


def test_stage_1_has_no_gates(tmp_path: Path) -> None:
    spec = SPEC.switched(adaptive=False, ada_blocks=False, ada_tokens=False)
    converted = convert_adamtl(publish_ada(tmp_path / "c.pth", spec, random_ada_tensors(spec)))
    found = converted.manifest.spec
    assert (found.adaptive, found.ada_blocks, found.ada_tokens) == (False, False, False)
    assert converted.manifest.provenance == {
        "source": "published checkpoint",
        "file": "c.pth",
        "epoch": 3,
        "max_accuracy": 12.5,
    }


def test_stage_2_needs_a_configuration(tmp_path: Path) -> None:
    path = publish_ada(tmp_path / "c.pth", SPEC, random_ada_tensors(SPEC), model_only=True)
    with pytest.raises(ConversionError, match="holds no configuration; give one with --config"):
        convert_adamtl(path)
    config = tmp_path / "c.yaml"
    config.write_text("DATA: {IMG_SIZE: 64}\nTRAIN: {POLICY: per_task, HARD_GUMBEL: false}\n")
    spec = convert_adamtl(path, config=config, name="mine").manifest.spec
    assert (spec.adaptive, spec.hard, spec.ada_blocks, spec.ada_tokens) == (False, False, True, True)
    assert (spec.policy, spec.block_hidden, spec.token_hidden) == (Policy.PER_TASK, 3, 4)
    assert spec.drop_path == 0.1  # the published default
    assert spec.task_names == (Task.SEMSEG, Task.SALIENCY)


def test_a_file_may_switch_gates_off(tmp_path: Path) -> None:
    """The published code leaves such selectors aside; the file has none."""
    path = publish_ada(tmp_path / "c.pth", SPEC, random_ada_tensors(SPEC))
    config = tmp_path / "c.yaml"
    config.write_text("TRAIN: {ADA_BLOCKS: false, MIXED_PER_LAYER_EFFICIENCY_LOSS: true}")
    converted = convert_adamtl(path, config=config)
    assert not any(name.startswith("policy.blocks") for name in converted.tensors)
    assert converted.manifest.provenance["selector_tensors_left_out"] == 2 * 4 * 4
    assert converted.manifest.spec.efficiency.layers is LayerLoss.MIXED


def test_fewer_tasks(tmp_path: Path) -> None:
    path = publish_ada(tmp_path / "c.pth", SPEC, random_ada_tensors(SPEC))
    with pytest.raises(ConversionError, match=r"all tasks .* decide together"):
        convert_adamtl(path, tasks=[Task.SALIENCY])
    with pytest.raises(TaskError, match="no task 'depth'"):
        convert_adamtl(path, tasks=[Task.DEPTH])
    single = SPEC.switched(policy=Policy.SINGLE)
    path = publish_ada(tmp_path / "s.pth", single, random_ada_tensors(single))
    converted = convert_adamtl(path, tasks=[Task.SALIENCY])
    assert converted.manifest.spec.task_names == (Task.SALIENCY,)
    assert not any("semseg" in name for name in converted.tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["DATA"].pop("IMG_SIZE"), "IMG_SIZE is missing"),
        (lambda c: c["DATA"].update(IMG_SIZE=48), "multiple of 32"),
        (lambda c: c["DATA"].update(IMG_SIZE=128), r"DECODER_PATCH_RES says \[2, 2, 4, 8\], .* \[4, 4, 8, 16\]"),
        (lambda c: c["MODEL"].update(TYPE="ada_swin2"), "MODEL.TYPE: 'ada_swin2' is not supported"),
        (lambda c: c["MODEL"]["SWIN"].update(PATCH_SIZE=8), "PATCH_SIZE: 8 is not supported, only 4"),
        (lambda c: c["MODEL"]["SWIN"].update(APE=True), "APE: True is not supported"),
        (lambda c: c["MODEL"]["SWIN"].update(EMBED_DIM=16), "EMBED_DIM says 16, the tensors have 8"),
        (lambda c: c["MODEL"]["SWIN"].update(DECODER_DIM=20), "says 20, so decoders 10 wide; the tensors have 6"),
        (lambda c: c["MODEL"]["SWIN"].update(WINDOW_SIZE=4), r"shape \[9, 1\], expected \[49, 1\]"),
        (lambda c: c["TRAIN"].update(POLICY="both"), "TRAIN.POLICY: 'both' is none of single, per_task"),
        (lambda c: c["TRAIN"].update(POLICY="single"), "not all of them are in the checkpoint"),
        (lambda c: c["TRAIN"].update(BLOCK_CONTROLLER_DIM=5), r"layers_controllers.*expected \[5, 8\]"),
        (lambda c: c["TRAIN"].update(TOKEN_CONTROLLER_DIM=True), "expected int, got True"),
        (lambda c: c["TRAIN"].update(TOKENS_EFFICIENCY_TARGET=2.0), "tokens_target: .*less than or equal to 1"),
        (lambda c: c.update(TASKS=["semseg", "sal", "depth"]), "task depth: .*the checkpoint has no decoder"),
        (lambda c: c.update(TASKS=["semseg", "flow"]), "unknown task 'flow'"),
        (lambda c: c.update(TASKS=["semseg"]), "left over: decoders.sal"),
        (lambda c: c["TASKS_CONFIG"]["ALL_TASKS"]["NUM_OUTPUT"].update(semseg=21), "says 21 outputs, .* has 3"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path: Path, change: Change, message: str) -> None:
    import re

    assert re.search(message, problems_of(tmp_path / "c.pth", change), re.DOTALL)


def test_selectors_that_are_missing(tmp_path: Path) -> None:
    """The published code would run with random ones."""
    without = SPEC.switched(ada_blocks=False)
    path = publish_ada(tmp_path / "c.pth", without, random_ada_tensors(without), config=published_ada_config(SPEC))
    with pytest.raises(ConversionError, match=r"(?s)missing tensor policy.blocks.*random ones") as caught:
        convert_adamtl(path)
    assert len(caught.value.problems) == 2 * 4 * 4 + 1


def test_tensors_that_are_wrong(tmp_path: Path) -> None:
    tensors = random_ada_tensors(SPEC)
    tensors["decoders.semseg.mix.bias"] = torch.full((6,), torch.inf)
    with pytest.raises(ConversionError, match=r"decoders.semseg.mix.bias: 6 of 6 values are not finite"):
        convert_adamtl(publish_ada(tmp_path / "c.pth", SPEC, tensors))
    tensors = random_ada_tensors(SPEC)
    tensors["decoders.semseg.mix.bias"] = torch.zeros(6, dtype=torch.int64)
    with pytest.raises(ConversionError, match="numbers of type int64"):
        convert_adamtl(publish_ada(tmp_path / "d.pth", SPEC, tensors))


def test_a_checkpoint_that_runs_something(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            import os

            return os.system, ("true",)

    path = tmp_path / "c.pth"
    torch.save({"model": {}, "config": Runs()}, path)
    with pytest.raises(UnsafeCheckpointError, match="system"):
        convert_adamtl(path)
