import math

import pytest
import torch
from torch import nn

from mtlora.training.run.optim import Muon, build_adamw, decays, learning_rate, orthogonalise
from mtlora.vocabulary.errors import TrainingError


def test_schedule_of_the_published_recipe() -> None:
    """Warm-up over the first steps, then half a cosine to the floor."""
    rates = [learning_rate(s, steps=100, peak=1.0, warmup=10, floor=0.01, start=0.001) for s in range(100)]
    assert rates[0] == pytest.approx(0.001 + 0.999 / 10)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.01 + 0.99 / 2)
    assert rates[99] == pytest.approx(0.01, abs=0.001)
    assert max(rates) == 1.0


def test_hold_keeps_the_peak() -> None:
    rates = [learning_rate(s, steps=100, peak=2.0, warmup=5, hold=0.6) for s in range(100)]
    assert set(rates[5:61]) == {2.0}
    assert rates[80] == pytest.approx(1.0)
    assert all(learning_rate(s, steps=9, peak=1.0, warmup=0, hold=1.0) == 1.0 for s in range(9))


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_needs_matrices_and_goes_downhill() -> None:
    target, weight = torch.randn(4, 6), nn.Parameter(torch.zeros(4, 6))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for _ in range(40):
        loss = (weight - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    with pytest.raises(TrainingError, match=r"matrices only, got \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def test_a_shared_muon_step_is_the_step_of_one_process() -> None:
    """Each process fills its share of the updates with zeros elsewhere; their sum is the whole update."""
    start = [torch.randn(4, 6), torch.randn(5, 3), torch.randn(2, 2)]
    grads = [torch.randn_like(t) for t in start]

    def stepped(rank: int, processes: int, others: torch.Tensor | None) -> tuple[list[torch.Tensor], torch.Tensor]:
        params = [nn.Parameter(t.clone()) for t in start]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        seen: list[torch.Tensor] = []

        def share(updates: torch.Tensor) -> None:
            seen.append(updates.clone())
            if others is not None:
                updates += others

        Muon(params, lr=0.1, rank=rank, processes=processes, share=share).step()
        return [p.detach() for p in params], seen[0]

    whole, _ = stepped(0, 1, None)
    _, second = stepped(1, 2, None)
    shared, first = stepped(0, 2, second)
    assert not (first.bool() & second.bool()).any()
    for a, b in zip(whole, shared, strict=True):
        torch.testing.assert_close(a, b)


def test_what_decays() -> None:
    assert decays("layers.0.weight", torch.zeros(2, 2))
    assert not decays("layers.0.bias", torch.zeros(2))
    assert not decays("attn.relative_position_bias_table", torch.zeros(4, 2))


def test_adamw_groups_and_nothing_to_train() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = build_adamw(module.named_parameters(), lr=1e-3, weight_decay=0.05)
    sizes = {g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    assert sizes == {0.05: 4, 0.0: 6}
    with pytest.raises(TrainingError, match="nothing to train"):
        build_adamw(module.requires_grad_(False).named_parameters(), lr=1e-3, weight_decay=0.0)
    assert math.isclose(optimizer.defaults["betas"][1], 0.999)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_matrices_are_orthogonalised_each_for_itself(shape: tuple[int, int]) -> None:
    several = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(several)
    for one, found in zip(several, together, strict=True):
        torch.testing.assert_close(found, orthogonalise(one), rtol=0, atol=1e-5)
