"""The noise of gates: its distribution, and what is said where given noise does not fit."""

import math

import pytest
import torch

from mtlora.adamtl.gates import gate
from mtlora.adamtl.noise import BatchNoise, GivenNoise, ImageNoise, logistic
from mtlora.vocabulary.errors import MTLoRAError


def test_noise_is_logistic() -> None:
    """Quartiles of the logistic distribution are -ln 3, 0 and ln 3."""
    drawn = logistic((200_000,), torch.Generator().manual_seed(1))
    for share, quantile in ((0.25, -math.log(3)), (0.5, 0.0), (0.75, math.log(3))):
        assert float((drawn < quantile).float().mean()) == pytest.approx(share, abs=0.01)


def test_gates_open_as_often_as_their_logit_says() -> None:
    noise = logistic((200_000,), torch.Generator().manual_seed(2))
    gates = gate(torch.full_like(noise, 0.8), noise, hard=True)
    assert float(gates.mean()) == pytest.approx(1 / (1 + math.exp(-0.8)), abs=0.01)


def test_gate_values_and_gradients() -> None:
    logit = torch.tensor([-1.0, 0.0, 1e-6, 2.0], requires_grad=True)
    hard = gate(logit, torch.zeros(4), hard=True)
    assert hard.tolist() == [0, 0, 1, 1]
    hard.sum().backward()
    soft = torch.sigmoid(logit.detach() / 5)
    torch.testing.assert_close(logit.grad, soft * (1 - soft) / 5)
    torch.testing.assert_close(gate(logit.detach(), torch.zeros(4), hard=False), soft)


def test_a_seed_and_an_image_give_one_noise() -> None:
    rows = torch.arange(3)
    first, again = (ImageNoise.seeded(4, range(3)).of_blocks("shared", 0, rows, 5) for _ in range(2))
    later = ImageNoise.seeded(4, range(2, 4)).of_blocks("shared", 0, torch.tensor([0]), 5)
    assert torch.equal(first, again)
    assert torch.equal(first[2], later[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, ImageNoise.seeded(5, range(3)).of_blocks("shared", 0, rows, 5))


def test_noise_of_a_batch_has_its_shape() -> None:
    noise = BatchNoise(torch.Generator().manual_seed(0))
    assert noise.of_blocks("shared", 0, torch.arange(2), 5).shape == (2, 5)
    assert noise.of_tokens("shared", 0, 0, torch.arange(2), 7).shape == (2, 7)


def test_given_noise_that_does_not_fit() -> None:
    rows = torch.arange(2)
    tokens = torch.zeros(2, 3, 4)
    tokens[1, 1] = torch.nan
    noise = GivenNoise({("shared", 0): torch.zeros(2, 3)}, {("shared", 0): tokens})
    assert noise.of_tokens("shared", 0, 1, rows[:1], 4).tolist() == [[0, 0, 0, 0]]
    with pytest.raises(MTLoRAError, match="token_noise/shared/s0, block 1 is NaN"):
        noise.of_tokens("shared", 0, 1, rows, 4)
    with pytest.raises(MTLoRAError, match="none for block_noise/shared/s1"):
        noise.of_blocks("shared", 1, rows, 3)
    with pytest.raises(MTLoRAError, match=r"must be \[B, 4\], got \[2, 3\]"):
        noise.of_blocks("shared", 0, rows, 4)
    with pytest.raises(MTLoRAError, match=r"must be \[B, D, 4\] with D above 3"):
        noise.of_tokens("shared", 0, 3, rows, 4)
    with pytest.raises(MTLoRAError, match="generators for 1 images, got image 1"):
        ImageNoise.seeded(0, range(1)).of_blocks("shared", 0, rows, 4)
