"""Laws of gates: all open is the plain model, closed is the identity, and no image minds its batch."""

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtlora.model.gates import Gates, StageGates
from mtlora.model.gating import Decided
from mtlora.model.mtlora import MTLoRAModel
from mtlora.model.swin import encode
from mtlora.vocabulary.compute_costs import stage_grids
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task
from testing.examples import examples
from testing.factories import adapter_spec, backbone_spec, make_backbone, make_model
from testing.policies import open_gates, random_gates, rows
from tests.mtlora.model.test_mtlora import specs

SOME = settings(max_examples=examples(15), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def features(model: MTLoRAModel, x: torch.Tensor, gates: Gates | None) -> list[torch.Tensor]:
    """Everything that the decoders get, and the shared path."""
    spec = model.spec
    decision = None if gates is None else Decided(gates)
    with torch.inference_mode():
        stages = encode(
            model.backbone, x, spec.task_names, mode=spec.mode, all_tasks=spec.task_names, decision=decision
        )
    return [tensor for stage in stages for tensor in (stage.shared, *stage.by_task.values())]


@given(spec=specs(), windows=st.booleans())
@SOME
def test_all_open_is_the_plain_model_to_the_bit(spec: AdapterSpec, windows: bool) -> None:
    model = make_model(make_backbone(spec.backbone), spec)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        plain, gated = model(x), model(x, gates=open_gates(spec, 2, windows=windows))
    assert all(torch.equal(plain[task], gated[task]) for task in spec.task_names)


@given(spec=specs(), windows=st.booleans(), seed=st.integers(0, 2**20))
@SOME
def test_an_image_does_not_mind_its_batch(spec: AdapterSpec, windows: bool, seed: int) -> None:
    model = make_model(make_backbone(spec.backbone), spec)
    x, gates = torch.randn(3, 3, 64, 64), random_gates(spec, 3, seed, windows=windows)
    together = features(model, x, gates)
    shuffled = features(model, x[[2, 0]], rows(gates, [2, 0]))
    alone = features(model, x[[1]], rows(gates, [1]))
    for all_three, two, one in zip(together, shuffled, alone, strict=True):
        torch.testing.assert_close(two, all_three[[2, 0]], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one, all_three[[1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", SharedMode)
def test_a_closed_encoder_only_merges_patches(mode: SharedMode) -> None:
    """With every block closed nothing is left but patch embedding and merging, for all streams alike."""
    model = make_model(make_backbone(), adapter_spec(mode=mode))
    x = torch.randn(2, 3, 64, 64)
    gates = random_gates(model.spec, 2, 0, windows=True, share=0.0)
    with torch.inference_mode():
        left = model.backbone.patch_embed(x)
        for stage, found in enumerate(_by_stage(model, x, gates)):
            left = model.backbone.layers[stage + 1].downsample(left) if stage < 3 else left
            assert all(torch.equal(each, left) for each in found)


def _by_stage(model: MTLoRAModel, x: torch.Tensor, gates: Gates) -> list[list[torch.Tensor]]:
    names = model.spec.task_names
    stages = encode(model.backbone, x, names, mode=model.spec.mode, all_tasks=names, decision=Decided(gates))
    return [[stage.shared, *stage.by_task.values()] for stage in stages]


@pytest.mark.parametrize("block", [0, 1], ids=["plain", "shifted"])
def test_a_closed_window_is_the_identity_for_its_tokens_alone(block: int) -> None:
    """One closed window of a block: its tokens keep the input, all others have what the whole block gives them."""
    model = make_model(make_backbone(), adapter_spec())
    x = torch.randn(1, 3, 64, 64)
    swin_block = model.backbone.layers[0].blocks[block]
    gates = open_gates(model.spec, 1, windows=True)
    assert gates[0].windows is not None
    gates[0].blocks[:, 1 - block] = False  # only the block in question is left of the stage
    gates[0].windows[0, block, 6] = False  # row 1, column 2 of 4 x 4 windows
    shift, _ = swin_block.shift_size
    assert (shift > 0) == (block == 1)
    with torch.inference_mode():
        before = model.backbone.patch_embed(x)
        whole = swin_block(before)
        expected = whole.clone()
        down = [(4 + shift + i) % 16 for i in range(4)]
        right = [(8 + shift + i) % 16 for i in range(4)]
        for row in down:
            expected[0, row, right] = before[0, row, right]
        expected = model.backbone.layers[1].downsample(expected)
        found = _by_stage(model, x, gates)[0][0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_closed_stream_is_the_shared_input_of_its_block() -> None:
    model = make_model(make_backbone(), adapter_spec())
    x = torch.randn(2, 3, 64, 64)
    gates = open_gates(model.spec, 2, windows=False)
    task = model.spec.task_names[0]
    gates[3].streams[task] = torch.tensor([True, False])
    plain = _stages(model, x, None)[3]
    found = _stages(model, x, gates)[3]
    without = open_gates(model.spec, 2, windows=False)
    without[3].blocks[:] = False  # stage 3 has one block: its input is what is left without it
    assert torch.equal(found[task][0], plain[task][0])
    assert torch.equal(found[task][1], _stages(model, x, without)[3][task][1])
    others = [other for other in model.spec.task_names if other is not task]
    assert all(torch.equal(found[other], plain[other]) for other in others)


def _stages(model: MTLoRAModel, x: torch.Tensor, gates: Gates | None) -> list[dict[Task, torch.Tensor]]:
    names, decision = model.spec.task_names, None if gates is None else Decided(gates)
    stages = encode(model.backbone, x, names, mode=model.spec.mode, all_tasks=names, decision=decision)
    return [stage.by_task for stage in stages]


def test_gates_as_numbers_in_training_give_the_same_bits() -> None:
    """Training multiplies by 0 and 1 where inference chooses: the model that is trained is the one that is served."""
    model = make_model(make_backbone(), adapter_spec())
    x, gates = torch.randn(2, 3, 64, 64), random_gates(model.spec, 2, 3, windows=True)
    numbers = [
        StageGates(
            stage.blocks.float(),
            None if stage.windows is None else stage.windows.float(),
            {task: own.float() for task, own in stage.streams.items()},
        )
        for stage in gates
    ]
    first, second, third, fourth = numbers
    both = zip(features(model, x, gates), features(model, x, (first, second, third, fourth)), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s._replace(blocks=s.blocks[:, :1]), r"stage 0: blocks must be \[2, 2\], got \[2, 1\]"),
        (lambda s: s._replace(windows=s.windows[..., :3]), r"stage 0: windows must be \[2, 2, 16\], got \[2, 2, 3\]"),
        (lambda s: s._replace(streams={Task.SEMSEG: s.blocks}), r"stream of semseg must be \[2\], got \[2, 2\]"),
    ],
    ids=["blocks", "windows", "streams"],
)
def test_gates_of_another_shape_are_refused(change: Any, message: str) -> None:
    model = make_model(make_backbone(), adapter_spec())
    first, second, third, fourth = open_gates(model.spec, 2, windows=True)
    with pytest.raises(MTLoRAError, match=message):
        model(torch.zeros(2, 3, 64, 64), gates=(change(first), second, third, fourth))


@pytest.mark.parametrize(("image_size", "window"), [(32, 2), (64, 2), (128, 2), (64, 4), (128, 4), (224, 7)])
def test_grids_are_those_of_the_model(image_size: int, window: int) -> None:
    shape = backbone_spec(window_size=window, depths=(2, 2, 2, 2))
    spec = adapter_spec(shape, image_size=image_size)
    model = make_model(make_backbone(shape, image_size=image_size), spec)
    for stage, grid in zip(model.backbone.layers, stage_grids(spec), strict=True):
        for number, block in enumerate(stage.blocks):
            assert block.input_resolution == (grid.side, grid.side)
            assert block.window_size == (grid.window, grid.window)
            assert block.shift_size == (grid.shift_of(number), grid.shift_of(number))
