"""What a pooled policy reads, and that its plan keeps the budget, image by image."""

from itertools import pairwise

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.model.policy.cells import cells_of
from mtlora.model.policy.plan import shares
from mtlora.model.policy.pooled import TwoLayers
from mtlora.training.pretraining.resolution import set_side
from mtlora.vocabulary.compute_costs import ComputeCosts, StageGrid, multiply_adds, stage_grids
from mtlora.vocabulary.errors import MTLoRAError, SpecError
from mtlora.vocabulary.policy import PolicyMode, PolicySpec, policy_shapes
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from testing.examples import examples
from testing.factories import adapter_spec, backbone_spec, make_backbone
from testing.policies import pooled, rows, with_policy
from tests.mtlora.model.test_mtlora import specs

SOME = settings(max_examples=examples(12), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])

policies = st.builds(
    pooled,
    mode=st.sampled_from(PolicyMode),
    hidden=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    blocks=st.just(True),
    windows=st.booleans(),
) | st.builds(pooled, mode=st.sampled_from(PolicyMode), blocks=st.just(False), windows=st.just(True))


def small(policy: PolicySpec | None = None, *, seed: int = 1) -> MTLoRAModel:
    return with_policy(make_backbone(), adapter_spec(), policy or pooled(), seed=seed)


def network(model: MTLoRAModel) -> TwoLayers:
    """What decides blocks."""
    found = model.get_submodule("policy.blocks")
    assert isinstance(found, TwoLayers)
    return found


@pytest.mark.parametrize("shift", [0, 1])
def test_statistics_are_of_the_area_under_a_window(shift: int) -> None:
    """Stage 1, windows of 2 tokens: 4 x 4 patches each; the windows of a shifted block wrap around."""
    patches = torch.randn(2, 16, 16, 3)
    grids = StageGrid(16, 4, 2), StageGrid(8, 2, 1), StageGrid(4, 4, 0), StageGrid(2, 2, 0)
    found = cells_of(grids, 16).statistics(patches, windows=True).windows[1, shift]
    assert found.shape == (2, 16, 6)
    lines = [(12 + 2 * shift + i) % 16 for i in range(4)]  # row 3, column 3 of 4 x 4: the one that wraps
    area = patches[:, lines][:, :, lines].flatten(1, 2)
    torch.testing.assert_close(found[:, 15, :3], area.mean(dim=1))
    torch.testing.assert_close(found[:, 15, 3:], area.std(dim=1, correction=0), rtol=1e-3, atol=1e-3)


def test_patches_that_padding_added_do_not_count() -> None:
    """28 patches a side make 4 tokens a side in stage 3, which would cover 32."""
    patches = torch.full((1, 28, 28, 2), 5.0)
    grids = StageGrid(28, 7, 3), StageGrid(14, 7, 3), StageGrid(7, 7, 0), StageGrid(4, 4, 0)
    found = cells_of(grids, 28).statistics(patches, windows=True).windows[3, 0]
    torch.testing.assert_close(found[0, 0], torch.tensor([5.0, 5.0, 1e-3, 1e-3]), rtol=1e-4, atol=1e-3)


@given(spec=specs(), policy=policies)
@SOME
def test_tensors_are_those_of_the_format(spec: AdapterSpec, policy: PolicySpec) -> None:
    model = build_model(make_backbone(spec.backbone), spec, policy=policy)
    assert {name: tuple(t.shape) for name, t in model.policy_tensors().items()} == policy_shapes(spec, policy)


@given(spec=specs(), policy=policies, compute=st.floats(0.05, 0.99), data=st.data())
@SOME
def test_no_image_gets_more_than_the_budget_nor_wastes_a_window(
    spec: AdapterSpec, policy: PolicySpec, compute: float, data: st.DataObject
) -> None:
    model = with_policy(make_backbone(spec.backbone), spec, policy)
    tasks = data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True))
    costs = multiply_adds(spec)
    gates = model.plan(torch.randn(3, 3, 64, 64), tasks, compute)
    spent = shares(gates, costs, tasks)
    assert (spent <= compute + 1e-6).all()
    whole = costs.all_blocks(tasks)
    for image in range(3):
        closed = [
            _price(costs, tasks, stage, block) / (grid.windows if policy.windows else 1) / whole
            for stage, grid in enumerate(stage_grids(spec))
            for block in range(spec.backbone.depths[stage])
            if not gates[stage].blocks[image, block]
        ]
        assert all(spent[image] + price > compute - 1e-6 for price in closed)


def _price(costs: ComputeCosts, tasks: list[Task], stage: int, block: int) -> float:
    last = block + 1 == len(costs.blocks[stage])
    return costs.blocks[stage][block] + (sum(costs.streams[task][stage] for task in tasks) if last else 0)


@given(policy=policies, compute=st.floats(0.1, 0.9))
@SOME
def test_a_plan_is_of_its_image_alone(policy: PolicySpec, compute: float) -> None:
    """To the bit: logits of any batch are those of the image by itself."""
    model, x = small(policy), torch.randn(4, 3, 64, 64)
    together = model.policy_logits(x, compute)
    for image in range(4):
        alone = model.policy_logits(x[[image]], compute)
        assert all(torch.equal(one, all_four[[image]]) for one, all_four in zip(alone, together, strict=True))
    shuffled = model.plan(x[[3, 1]], None, compute)
    for one, other in zip(shuffled, rows(model.plan(x, None, compute), [3, 1]), strict=True):
        assert torch.equal(one.blocks, other.blocks)
        assert (one.windows is None) == (other.windows is None)
        assert one.windows is None or torch.equal(one.windows, other.windows)  # type: ignore[arg-type]
        assert all(torch.equal(one.streams[task], other.streams[task]) for task in one.streams)


def test_a_whole_budget_asks_no_policy() -> None:
    model, x = small(), torch.randn(2, 3, 64, 64)
    plain = model(x)
    model.policy = None
    found = model(x, compute=1)
    assert all(torch.equal(plain[task], found[task]) for task in plain)
    with pytest.raises(MTLoRAError, match=r"no policy.*compute must be 1"):
        model(x, compute=0.5)


def test_what_is_worth_more_opens_first() -> None:
    """Bias alone decides: block k of the encoder gets logit -k, so the first ones open, whatever the photo shows."""
    model = small(pooled(windows=False))
    blocks = network(model)
    with torch.no_grad():
        blocks.out.weight.zero_()
        blocks.out.bias.copy_(-torch.arange(6.0))
    costs = ComputeCosts(((1.0, 1.0), (1.0,), (1.0, 1.0), (1.0,)), {})
    gates = model.plan(torch.randn(1, 3, 64, 64), None, 0.55, costs)
    assert torch.cat([stage.blocks[0] for stage in gates]).tolist() == [True] * 3 + [False] * 3


def test_ties_go_to_the_earlier_window() -> None:
    """A fresh policy gives every window the same odds: they open in the order of cost, stage, block, window."""
    model = build_model(make_backbone(), adapter_spec(), policy=pooled()).eval()
    costs = ComputeCosts(((1.0, 1.0), (1.0,), (1.0, 1.0), (1.0,)), {})
    gates = model.plan(torch.randn(1, 3, 64, 64), None, 0.25, costs)
    assert gates[0].windows is not None
    assert gates[0].windows[0].flatten().tolist() == [True] * 24 + [False] * 8
    assert not any(stage.blocks.any() for stage in gates[1:])


def test_dear_blocks_wait() -> None:
    """Of equal odds the cheap block wins: order is by odds for the cost, here milliseconds of a table."""
    model = build_model(make_backbone(), adapter_spec(), policy=pooled(windows=False)).eval()
    costs = ComputeCosts(((9.0, 9.0), (1.0,), (9.0, 9.0), (2.0,)), {})
    gates = model.plan(torch.randn(1, 3, 64, 64), None, 3 / 39, costs)
    assert [stage.blocks[0].tolist() for stage in gates] == [[False, False], [True], [False, False], [True]]


@given(seed=st.integers(1, 200), compute=st.floats(0.2, 0.9))
@SOME
def test_tasks_unite_in_any_order(seed: int, compute: float) -> None:
    model, x = small(pooled(mode=PolicyMode.PER_TASK), seed=seed), torch.randn(2, 3, 64, 64)
    tasks = [Task.NORMALS, Task.SEMSEG]
    one, other = model.plan(x, tasks, compute), model.plan(x, tasks[::-1], compute)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.blocks, b.blocks) and a.windows is not None and b.windows is not None
        assert torch.equal(a.windows, b.windows)
        assert all(torch.equal(a.streams[task], b.streams[task]) for task in tasks)


def test_a_tasks_own_gate_closes_its_stream() -> None:
    """Above a threshold: what semseg alone wants is computed for both, but normals' own stream is not."""
    model = small(pooled(mode=PolicyMode.PER_TASK, windows=False))
    names = model.spec.task_names
    blocks = network(model)
    with torch.no_grad():
        blocks.out.weight.zero_()
        bias = blocks.out.bias.view(len(names), 6)
        bias.fill_(-1.0)
        bias[names.index(Task.SEMSEG)] = 1.0
    gates = model.plan_above(torch.randn(1, 3, 64, 64), [Task.SEMSEG, Task.NORMALS], 0.5, 0.0)
    assert all(stage.blocks.all() for stage in gates)
    assert all(stage.streams[Task.SEMSEG].all() and not stage.streams[Task.NORMALS].any() for stage in gates)


def test_a_higher_threshold_never_opens_more() -> None:
    model, x = small(), torch.randn(3, 3, 64, 64)
    costs, names = multiply_adds(model.spec), model.spec.task_names
    found = [shares(model.plan_above(x, None, 0.5, t), costs, names) for t in (-9.0, -0.5, 0.0, 0.5, 9.0)]
    assert all((low >= high).all() for low, high in pairwise(found))
    assert found[0].tolist() == [1.0] * 3 and found[-1].tolist() == [0.0] * 3


@pytest.mark.parametrize("side", [32, 128, 192])
def test_another_resolution_has_a_plan_too(side: int) -> None:
    model = with_policy(
        make_backbone(backbone_spec(window_size=2)), adapter_spec(backbone_spec(window_size=2)), pooled()
    )
    with set_side(model, side):
        x = torch.randn(2, 3, side, side)
        gates = model.plan(x, None, 0.5)
        assert (shares(gates, multiply_adds(model.spec, side), model.spec.task_names) <= 0.5 + 1e-6).all()
        assert model(x, compute=0.5)[Task.SEMSEG].shape == (2, 21, side, side)


def test_costs_of_swin_tiny_are_the_known_ones() -> None:
    """AdaMTL counts 4.49 G multiply-adds for its encoder at 224 px: blocks, patch embedding, merging, and norms."""
    shape = backbone_spec(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7)
    none = adapter_spec(shape, image_size=224, ranks=(0, 0, 0, 0))
    costs = multiply_adds(none)
    assert costs.blocks[0][0] == 3136 * (12 * 96**2 + 2 * 49 * 96)
    others = 3136 * 48 * 96 + sum(3136 / 4**s * 2 * (96 * 2**s) ** 2 for s in range(3))
    assert costs.all_blocks(none.task_names) + others == pytest.approx(4.49e9, rel=2e-3)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (ComputeCosts(((1.0,), (1.0,), (1.0, 1.0), (1.0,)), {}), r"costs are of \(1, 1, 2, 1\) blocks"),
        (ComputeCosts(((1.0, 0.0), (1.0,), (1.0, 1.0), (1.0,)), {}), "costs must be above 0 and finite.*got 0.0"),
    ],
)
def test_costs_of_another_encoder_are_refused(costs: ComputeCosts, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        small().plan(torch.zeros(1, 3, 64, 64), None, 0.5, costs)


@pytest.mark.parametrize("compute", [0.0, 0.04, 1.01, float("nan")])
def test_budgets_that_cannot_be_are_refused(compute: float) -> None:
    with pytest.raises(SpecError, match=r"compute must be 0\.05 to 1, got"):
        small()(torch.zeros(1, 3, 64, 64), compute=compute)
