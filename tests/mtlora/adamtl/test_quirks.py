"""Every quirk of the published code, with and without; numbers are worked out by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mtlora.adamtl.block import run_masked, run_open
from mtlora.adamtl.cost import multiply_adds
from mtlora.adamtl.decisions import Decisions, StageDecisions
from mtlora.adamtl.decoder import FusionDecoder
from mtlora.adamtl.gates import union
from mtlora.adamtl.losses import efficiency_loss, overlap_loss
from mtlora.adamtl.model import AdaModel, build_ada_model
from mtlora.adamtl.noise import NoNoise
from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.spec import AdaSpec, AdaTask, Efficiency, LayerLoss, Policy
from mtlora.adamtl.statistics import statistics
from mtlora.adamtl.steps import parameter_groups
from mtlora.model.swin import attention_part
from mtlora.vocabulary.tasks import Task
from testing.ada_models import SPEC, random_ada_tensors, random_images

TESTED = {
    "noise_in_evaluation",
    "reinterpreted_features",
    "closed_tokens_add_norm",
    "token_training_skips_blocks",
    "early_exit_per_batch",
    "counts_tokens_of_closed_blocks",
    "clipped_union",
    "hard_tokens_in_pretraining",
    "hard_gates_of_other_tasks",
    "weights_on_shares",
    "overlap_without_gradient",
    "closed_blocks_listed_twice",
    "block_selectors_cost_nothing",
    "decay_of_position_tables",
}
both = pytest.mark.parametrize("on", [True, False], ids=["published", "corrected"])


def with_quirk(name: str, on: bool, **changes: object) -> AdaSpec:
    """The small spec with one quirk, or without any."""
    assert name in TESTED
    return SPEC.switched(quirks=Quirks(**{name: on}), **changes)


def model_of(spec: AdaSpec) -> AdaModel:
    return build_ada_model(spec, random_ada_tensors(spec))


def test_every_quirk_is_tested_here() -> None:
    assert set(Quirks.model_fields) == TESTED
    assert set(Quirks.published().model_dump().values()) == {True}
    assert set(Quirks().model_dump().values()) == {False}


@both
def test_noise_in_evaluation(on: bool) -> None:
    model, x = model_of(with_quirk("noise_in_evaluation", on)), random_images(SPEC, 1)
    with torch.inference_mode():
        first, second, quiet = model(x), model(x), model(x, noise=NoNoise())
    same = [torch.equal(a.tokens, b.tokens) for a, b in zip(first.decisions, second.decisions, strict=True)]
    assert all(same) is not on
    if not on:
        assert torch.equal(first.logits[Task.SEMSEG], quiet.logits[Task.SEMSEG])


@both
def test_reinterpreted_features(on: bool) -> None:
    """Memory read as it is: the decoder sees at (c, y, x) what lies at offset (c * 4 + y * 2 + x) of the tokens."""
    torch.manual_seed(0)
    decoder = FusionDecoder((3, 3, 3, 3), 2, 1, reinterpret=on).eval()
    tokens = torch.arange(12.0).view(1, 4, 3)  # [B, L, F]
    seen: list[Tensor] = []
    decoder.scales[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    decoder([tokens] * 4, (2, 2, 2, 2))
    first_channel = [[0.0, 1.0], [2.0, 3.0]] if on else [[0.0, 3.0], [6.0, 9.0]]
    assert seen[0][0, 0].tolist() == first_channel


@both
@pytest.mark.parametrize("training", [True, False])
def test_closed_tokens_add_norm(on: bool, training: bool) -> None:
    spec = with_quirk("closed_tokens_add_norm", on)
    block = model_of(spec).backbone.layers[0].blocks[0]
    x = torch.randn(1, 16, 16, 8)
    mask = torch.zeros(1, 256)
    mask[0, 5] = 1
    with torch.inference_mode():
        if training:
            y = run_masked(block, x, mask, closed_add_norm=on, exit_per_batch=False)
        else:
            y = run_open(block, x, mask != 0, closed_add_norm=on)
        attended = attention_part(block, x)
        closed = attended + block.norm2(attended) if on else attended
        opened = attended + block.mlp(block.norm2(attended))
    expected = torch.where(mask.view(1, 16, 16, 1) > 0, opened, closed)
    torch.testing.assert_close(y, expected)


@both
def test_token_training_skips_blocks(on: bool) -> None:
    model = model_of(with_quirk("token_training_skips_blocks", on, ada_blocks=False)).train()
    output = model(random_images(SPEC, 2), noise=NoNoise())
    torch.stack([each.square().mean() for each in output.logits.values()]).sum().backward()
    blocks = [p.grad for n, p in model.named_parameters() if n.startswith("backbone.layers") and ".blocks." in n]
    assert all(gradient is None for gradient in blocks) is on
    assert model.backbone.patch_embed.proj.weight.grad is not None


@both
def test_early_exit_per_batch(on: bool) -> None:
    block = model_of(with_quirk("early_exit_per_batch", on)).backbone.layers[0].blocks[0]
    x = torch.randn(2, 16, 16, 8)
    mask = torch.zeros(2, 256)
    mask[1] = 1  # image 0 has no open token, image 1 has
    with torch.inference_mode():
        y = run_masked(block, x, mask, closed_add_norm=True, exit_per_batch=on)
        nobody = run_masked(block, x, torch.zeros(2, 256), closed_add_norm=True, exit_per_batch=on)
        attended = attention_part(block, x)
        expected = attended[0] + block.norm2(attended[0]) if on else x[0]
    torch.testing.assert_close(y[0], expected)
    assert torch.equal(nobody, x)


def decisions_of(
    spec: AdaSpec, blocks: Sequence[Sequence[float]], tokens: Sequence[Sequence[float]], owners: int = 0
) -> Decisions:
    """Of one image. tokens: the share of open tokens in every block; owners: so many with the same token gates."""
    decisions = []
    for stage, (gates, shares) in enumerate(zip(blocks, tokens, strict=True)):
        decided = StageDecisions(torch.tensor([list(gates)]).float())
        for share in shares:
            count = spec.stage_tokens[stage]
            used = (torch.arange(count) < share * count).float()[None]
            decided.add_block(used, {}, dict.fromkeys(spec.owners[:owners], used))
        decisions.append(decided)
    return decisions


def only_tokens(layers: LayerLoss, *, weighted: bool) -> Efficiency:
    return Efficiency(tokens_target=0.5, blocks_target=0.75, layers=layers, weighted=weighted)


@both
def test_counts_tokens_of_closed_blocks(on: bool) -> None:
    """Stages of 256, 64, 16 and 4 tokens with 1, 2, 2 and 1 blocks: 256 + 128 + 32 + 4 = 420 in all."""
    efficiency = only_tokens(LayerLoss.PLAIN, weighted=False)
    spec = with_quirk("counts_tokens_of_closed_blocks", on, efficiency=efficiency)
    decisions = decisions_of(spec, [[1], [1, 0], [1, 0], [1]], [[0.5], [1, 1], [1, 1], [0]])
    opened = 128 + 128 + 32 if on else 128 + 64 + 16
    expected = (4 / 6 - 0.75) ** 2 + (opened / 420 - 0.5) ** 2
    assert efficiency_loss(spec, decisions).item() == pytest.approx(expected, rel=1e-5)


@both
def test_clipped_union(on: bool) -> None:
    """Both open: as published no gradient, since the sum is 2; one open: the first sum is 1, so there is one."""
    gates = [torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5], requires_grad=True) for _ in range(2)]
    with torch.no_grad():
        gates[1].copy_(torch.tensor([1.0, 0.0, 1.0, 0.0, 0.75]))
    united = union(gates, clipped=on)
    assert united.tolist() == [1, 1, 1, 0, 1.0 if on else 0.875]
    united.sum().backward()
    first, second = (gate.grad for gate in gates)
    assert first is not None and second is not None
    assert first.tolist() == ([0, 1, 1, 1, 0] if on else [0, 1, 0, 1, 0.25])
    assert second.tolist() == ([0, 1, 1, 1, 0] if on else [0, 0, 1, 1, 0.5])


def test_a_clipped_union_depends_on_the_order_of_tasks() -> None:
    """Three tasks, the last two open: of the first two sums one is 1 and passes a gradient to the first task alone."""

    def gradients(values: Sequence[float], clipped: bool) -> list[float]:
        gates = [torch.tensor(value, requires_grad=True) for value in values]
        union(gates, clipped=clipped).backward()
        return [float(gate.grad) if gate.grad is not None else 0.0 for gate in gates]

    assert gradients([0.0, 0.0, 1.0], clipped=True) == [1, 1, 1]
    assert gradients([0.0, 1.0, 1.0], clipped=True) == [0, 0, 0]
    assert gradients([0.5, 0.25, 0.5], clipped=True) == [0, 0, 0]
    assert gradients([0.5, 0.25, 0.5], clipped=False) == [0.375, 0.25, 0.375]


@both
def test_hard_tokens_in_pretraining(on: bool) -> None:
    spec = with_quirk("hard_tokens_in_pretraining", on, policy=Policy.SINGLE, adaptive=False, hard=False)
    output = model_of(spec).train()(random_images(SPEC, 1))
    gates = torch.cat([decided.token_gates["shared"].flatten() for decided in output.decisions])
    assert bool(((gates == 0) | (gates == 1)).all()) is on
    blocks = torch.cat([decided.block_gates["shared"].flatten() for decided in output.decisions])
    assert not bool(((blocks == 0) | (blocks == 1)).any())


@both
def test_hard_gates_of_other_tasks(on: bool) -> None:
    model = model_of(with_quirk("hard_gates_of_other_tasks", on, hard=False)).train()
    decisions = model(random_images(SPEC, 1), task=Task.SEMSEG).decisions
    own, other = (
        torch.cat([decided.block_gates[owner].flatten() for decided in decisions]) for owner in ("semseg", "saliency")
    )
    assert bool(((other == 0) | (other == 1)).all()) is on
    assert not bool(((own == 0) | (own == 1)).any())
    assert all(torch.equal(decided.blocks, decided.block_gates["semseg"]) for decided in decisions)


@both
def test_weights_on_shares(on: bool) -> None:
    efficiency = only_tokens(LayerLoss.PER_LAYER, weighted=True)
    spec = with_quirk("weights_on_shares", on, efficiency=efficiency)
    decisions = decisions_of(spec, [[1], [1, 1], [1, 1], [1]], [[0.5], [1, 0], [1, 0.5], [0.5]])
    blocks = (1 - 0.75) ** 2
    if on:
        shares = [96 * 0.5, 192 * 1, 0, 384 * 1, 384 * 0.5, 768 * 0.5]
        expected = sum((share - 0.5) ** 2 for share in shares) / 6
    else:
        expected = (192 * 0.25 + 192 * 0.25 + 384 * 0.25) / (96 + 2 * 192 + 2 * 384 + 768)
    assert efficiency_loss(spec, decisions).item() == pytest.approx(blocks + expected, rel=1e-5)


@both
def test_overlap_without_gradient(on: bool) -> None:
    """Tasks agree about all but one token of stage 0, which has 256 of 420; weighted, 96 · 256 of 96 · 256 + …"""
    efficiency = Efficiency(weighted=True, overlap_weight=1.0)
    spec = with_quirk("overlap_without_gradient", on, efficiency=efficiency)
    decisions = decisions_of(spec, [[1], [1, 1], [1, 1], [1]], [[0.5], [1, 0], [1, 0.5], [0.5]], owners=2)
    gate = decisions[0].token_gates["saliency"].clone()
    gate[0, 0, 0] = 0  # the other task has 1
    gate.requires_grad_()
    decisions[0].token_gates["saliency"] = gate
    loss = overlap_loss(spec, decisions)
    total = 96 * 256 + 192 * 128 + 384 * 32 + 768 * 4
    agreeing = 419 if on else total - 96
    assert loss.item() == pytest.approx((agreeing / total - 1) ** 2, rel=1e-4)
    assert loss.requires_grad is not on
    if not on:
        loss.backward()
        assert gate.grad is not None
        assert gate.grad[0, 0, 0] < 0  # opening it would bring the tasks together


@both
def test_closed_blocks_listed_twice(on: bool) -> None:
    spec = with_quirk("closed_blocks_listed_twice", on, adaptive=False)
    decisions = decisions_of(spec, [[1], [0, 1], [1, 1], [0]], [[0.5], [1, 1], [0, 0], [1]])
    counts = statistics(spec, decisions)
    assert counts.tokens.tolist() == [128 + 128 + 4]
    assert counts.all_tokens.tolist() == [420 + (64 + 4 if on else 0)]
    assert counts.blocks.tolist() == [4]


@both
def test_block_selectors_cost_nothing(on: bool) -> None:
    """A selector: tokens · C · hidden + tokens · hidden · D, for each of two tasks; hidden 3."""
    spec = with_quirk("block_selectors_cost_nothing", on)
    decisions = decisions_of(spec, [[1], [1, 1], [1, 1], [1]], [[1], [1, 1], [1, 1], [1]], owners=2)
    free = multiply_adds(with_quirk("block_selectors_cost_nothing", True), decisions)
    stages = ((256, 8, 1), (64, 16, 2), (16, 32, 2), (4, 64, 1))
    cost = 2 * sum(tokens * width * 3 + tokens * 3 * depth for tokens, width, depth in stages)
    assert (multiply_adds(spec, decisions) - free).tolist() == [0 if on else cost]


@both
def test_decay_of_position_tables(on: bool) -> None:
    model = model_of(with_quirk("decay_of_position_tables", on))
    decaying, others = parameter_groups(model)
    table = model.backbone.layers[0].blocks[0].attn.relative_position_bias_table
    assert any(parameter is table for parameter in decaying["params"]) is on
    assert any(parameter is table for parameter in others["params"]) is not on
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)


def test_a_spec_is_without_quirks_unless_it_says_so() -> None:
    spec = AdaSpec(
        backbone=SPEC.backbone, image_size=64, tasks=(AdaTask(task=Task.DEPTH, outputs=1),), decoder_channels=2
    )
    assert spec.quirks == Quirks()
