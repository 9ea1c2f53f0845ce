"""Shares of multiply-adds against counts by hand."""

import torch

from mtlora.model.gates import Gates, StageGates
from mtlora.model.policy.plan import shares
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.spec import SharedMode
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, backbone_spec
from testing.gated import open_gates

TASKS = (Task.SEMSEG, Task.NORMALS)


def test_costs_by_hand() -> None:
    """64 px, width 8, windows of 4 x 4, MLP 4 times as wide; pairs of rank 2 in proj, fc1 and fc2 of last blocks."""
    costs = multiply_adds(adapter_spec())
    linears, attention = 12 * 8 * 8, 2 * 16 * 8
    assert costs.blocks[0] == (256 * (linears + attention),) * 2
    assert {costs.streams[task][0] for task in TASKS} == {256 * 2 * (16 + 40 + 40)}
    # stage 3: 2 x 2 tokens, one window of 2 x 2
    assert costs.blocks[3] == (4 * (12 * 64 * 64 + 2 * 4 * 64),)


def test_in_mode_addition_all_pairs_belong_to_the_block() -> None:
    costs = multiply_adds(adapter_spec(mode=SharedMode.ADDITION))
    plain, last = costs.blocks[0]
    assert last - plain == 4 * 256 * 2 * (16 + 40 + 40)
    assert {sum(stages) for stages in costs.streams.values()} == {0.0}


def gates_with(stage: StageGates) -> Gates:
    _, *rest = open_gates(adapter_spec())
    return (stage, *rest)  # type: ignore[return-value]


def test_share_of_open_gates_is_one() -> None:
    assert shares(open_gates(adapter_spec()), multiply_adds(adapter_spec()), TASKS).tolist() == [1.0]


def test_blocks_windows_and_streams() -> None:
    """Of stage 0: block 0 closed, of block 1 a quarter of the windows, of that one of two streams."""
    spec = adapter_spec()
    costs = multiply_adds(spec)
    total = costs.all_blocks(TASKS)
    windows = torch.zeros(1, 2, 16, dtype=torch.bool)
    windows[:, 1, :4] = True
    windows[:, 0] = True  # of a closed block
    own = StageGates(torch.tensor([[False, True]]), windows, {Task.NORMALS: torch.tensor([False])})
    left: float = total - sum(costs.blocks[0]) - sum(costs.streams[task][0] for task in TASKS)
    left += 0.25 * (costs.blocks[0][1] + costs.streams[Task.SEMSEG][0])
    share = shares(gates_with(own), costs, TASKS)
    assert share.dtype == torch.float64
    torch.testing.assert_close(share, torch.tensor([left / total], dtype=torch.float64))


def test_each_image_has_its_own() -> None:
    spec = adapter_spec(backbone_spec(depths=(1, 1, 1, 1)))
    stages = tuple(StageGates(torch.tensor([[True], [False]]), None, {}) for _ in range(4))
    assert shares(stages, multiply_adds(spec), TASKS).tolist() == [1.0, 0.0]
