"""Published selectors on a frozen Swin with pairs, against the rules of the publication written out image by image."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mtlora.model.gating import token_mask
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.model.policy.plan import shares
from mtlora.model.policy.published import PublishedPolicy
from mtlora.model.swin import encode
from mtlora.training.pretraining.resolution import set_side
from mtlora.vocabulary.compute_costs import mlp_parts, multiply_adds
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import PolicyMode, PolicySpec, Residual, policy_shapes
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, make_backbone
from testing.policies import pooled, published, with_policy

NONE = (0, 0, 0, 0)
SHAPES = {
    "both": published(),
    "blocks": published(tokens=False),
    "tokens": published(blocks=False),
    "as published": published(residual=Residual.PUBLISHED),
    "per task": published(mode=PolicyMode.PER_TASK, residual=Residual.PUBLISHED),
}


def model_of(shape: PolicySpec, seed: int = 1, **changes: Any) -> MTLoRAModel:
    return with_policy(make_backbone(), adapter_spec(**changes), shape, seed=seed)


def _shape(model: MTLoRAModel) -> PolicySpec:
    assert isinstance(model.policy, PublishedPolicy)
    return model.policy.policy


def oracle(
    model: MTLoRAModel, image: Tensor, tasks: list[Task], thresholds: tuple[float, float]
) -> tuple[Tensor, list[float]]:
    """One image: the residual stream of stage 3, and block by block the part of its tokens that its MLP saw."""
    state, shape = model.state_dict(), _shape(model)
    owners = [f"{task.value}." for task in tasks] if shape.mode is PolicyMode.PER_TASK else [""]

    def two_layers(name: str, x: Tensor) -> Tensor:
        units = (x @ state[f"{name}.hidden.weight"].T + state[f"{name}.hidden.bias"]).clamp(min=0)
        units = units.flatten() if ".blocks." in name else units
        found: Tensor = units @ state[f"{name}.out.weight"].T + state[f"{name}.out.bias"]
        return found

    x = model.backbone.patch_embed(image[None])
    went = []
    for stage, layer in enumerate(model.backbone.layers):
        x = layer.downsample(x)
        rows = x.flatten(0, 2)
        opened = torch.ones(len(layer.blocks), dtype=torch.bool)
        if shape.blocks:
            each = [two_layers(f"policy.blocks.{owner}{stage}", rows) > thresholds[0] for owner in owners]
            opened = torch.stack(each).any(dim=0)
        for number, block in enumerate(layer.blocks):
            mask = torch.ones(len(rows), 1, dtype=torch.bool)
            if shape.tokens:
                tokens = x.flatten(0, 2)
                each = [two_layers(f"policy.tokens.{owner}{stage}", tokens) > thresholds[1] for owner in owners]
                mask = torch.stack(each).any(dim=0)
            if not opened[number] or not mask.any():
                went.append(0.0)
                continue
            went.append(float(mask.float().mean()))
            z = x + block._attn(block.norm1(x))
            normed = block.norm2(z)
            other = normed if shape.residual is Residual.PUBLISHED else torch.zeros_like(normed)
            x = z + torch.where(mask.view(1, *x.shape[1:3], 1), block.mlp(normed), other)
    return x, went


@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (-0.4, 0.3), (0.4, -9.0), (-9.0, 9.0)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_features_are_those_of_the_publications_rules(shape: PolicySpec, thresholds: tuple[float, float]) -> None:
    """Without pairs the encoder is AdaMTL's; three images at once give what each gives alone."""
    model = model_of(shape, ranks=NONE)
    x, tasks = torch.randn(3, 3, 64, 64), [Task.SEMSEG, Task.NORMALS]
    decision = model.published_decision(tasks, thresholds)
    with torch.inference_mode():
        stages = encode(
            model.backbone, x, tasks, mode=model.spec.mode, all_tasks=model.spec.task_names, decision=decision
        )
        for number in range(3):
            expected, went = oracle(model, x[number], tasks, thresholds)
            torch.testing.assert_close(stages[3].shared[[number]], expected, rtol=1e-4, atol=1e-4)
            parts = [part for part, depth in zip(mlp_parts(model.spec), model.spec.backbone.depths, strict=True)
                     for _ in range(depth)]  # fmt: skip
            wanted = [1 - part * (1 - seen) if seen else 0.0 for part, seen in zip(parts, went, strict=True)]
            found = torch.cat([stage[number] for stage in decision.open_shares()])
            torch.testing.assert_close(found, torch.tensor(wanted))


@pytest.mark.parametrize("shape", [*SHAPES.values(), published(hidden=(1, 7))])
def test_tensors_are_those_of_the_format_and_fresh_gates_open(shape: PolicySpec) -> None:
    model = build_model(make_backbone(), adapter_spec(), policy=shape).eval()
    assert {name: tuple(t.shape) for name, t in model.policy_tensors().items()} == policy_shapes(model.spec, shape)
    x = torch.randn(2, 3, 64, 64)
    decision = model.published_decision(None, (0.0, 0.0))
    with torch.inference_mode():
        plain = model.coarse_logits(x)
        gated = model.decided_logits(x, model.spec.task_names, decision)
    for task in plain:
        torch.testing.assert_close(gated[task], plain[task], rtol=1e-4, atol=1e-5)
    spent = shares(decision.gates, multiply_adds(model.spec), model.spec.task_names, decision.open_shares())
    torch.testing.assert_close(spent, torch.ones(2, dtype=torch.float64))


def test_a_tasks_own_gate_closes_its_stream() -> None:
    model = model_of(published(mode=PolicyMode.PER_TASK, tokens=False))
    with torch.no_grad():
        for name, tensor in model.policy_tensors().items():
            tensor.fill_(0.0 if not name.endswith("out.bias") else (1.0 if "semseg" in name else -1.0))
    decision = model.published_decision([Task.SEMSEG, Task.NORMALS], (0.0, 0.0))
    with torch.inference_mode():
        model.decided_logits(torch.randn(1, 3, 64, 64), (Task.SEMSEG, Task.NORMALS), decision)
    for stage in decision.gates:
        assert stage.blocks.all() and stage.streams[Task.SEMSEG].all() and not stage.streams[Task.NORMALS].any()


@pytest.mark.parametrize("mode", PolicyMode)
def test_every_selector_learns(mode: PolicyMode) -> None:
    """Hard gates pass gradients to all selectors, whatever other tasks open; the same noise gives the same gates."""
    model = build_model(make_backbone(), adapter_spec(), policy=published(mode=mode))
    x = torch.randn(4, 3, 64, 64)
    found, some = [], []
    for _ in range(2):
        torch.manual_seed(3)
        decision = model.training_decision(0.5)
        logits = model.decided_logits(x, model.spec.task_names, decision)
        share = shares(decision.gates, multiply_adds(model.spec), model.spec.task_names, decision.open_shares())
        found.append(share.detach())
    assert torch.equal(*found) and all(set(s.blocks.unique().tolist()) <= {0.0, 1.0} for s in decision.gates)
    (share.sum() + sum(each.square().mean() for each in logits.values())).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("policy.") and name.endswith("out.bias"):
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            some.append(bool(parameter.grad.abs().sum() > 0))
    assert all(some)


def test_block_selectors_fit_one_side_only() -> None:
    model = model_of(published())
    with set_side(model, 128), pytest.raises(MTLoRAError, match="selector for 256 tokens cannot read 1024"):
        decision = model.published_decision(None, (0.0, 0.0))
        model.decided_logits(torch.zeros(1, 3, 128, 128), model.spec.task_names, decision)


def test_kinds_are_not_mixed_up() -> None:
    x = torch.zeros(1, 3, 64, 64)
    with pytest.raises(MTLoRAError, match="a published policy decides stage by stage"):
        model_of(published())(x, compute=0.5)
    with pytest.raises(MTLoRAError, match="a pooled policy decides before stage 0"):
        model_of(pooled()).published_decision(None, (0.0, 0.0))


def test_masks_of_whole_blocks_spread_over_all_tokens() -> None:
    model = model_of(pooled(windows=False))
    gates = model.plan(torch.randn(2, 3, 64, 64), None, 0.5)
    mask = token_mask(gates[0], 1, model.backbone.layers[0].blocks[1], torch.zeros(2, 16, 16, 8))
    assert mask.shape == (2, 1, 1, 1) and torch.equal(mask[:, 0, 0, 0], gates[0].blocks[:, 1])
