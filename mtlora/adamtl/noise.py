"""The noise of gates: none, drawn, or given. What is added to a logit follows a logistic distribution."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from mtlora.vocabulary.errors import MTLoRAError


class Noise(Protocol):
    """What is added to the logits of the images `rows` of a batch. rows: int64 [n], rising."""

    def of_blocks(self, owner: str, stage: int, rows: Tensor, blocks: int) -> Tensor:
        """Float [n, blocks], for all blocks of a stage."""

    def of_tokens(self, owner: str, stage: int, block: int, rows: Tensor, tokens: int) -> Tensor:
        """Float [n, tokens], for one block."""


class NoNoise:
    """Gates are open where their logit is above 0."""

    def of_blocks(self, owner: str, stage: int, rows: Tensor, blocks: int) -> Tensor:  # noqa: ARG002
        """Zeros [n, blocks]."""
        return torch.zeros(len(rows), blocks, device=rows.device)

    def of_tokens(self, owner: str, stage: int, block: int, rows: Tensor, tokens: int) -> Tensor:  # noqa: ARG002
        """Zeros [n, tokens]."""
        return torch.zeros(len(rows), tokens, device=rows.device)


class BatchNoise:
    """Drawn for all images together, in the order in which the published code draws. For training."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        """Draws from `generator`; None: from torch's own."""
        self._generator = generator

    def of_blocks(self, owner: str, stage: int, rows: Tensor, blocks: int) -> Tensor:  # noqa: ARG002
        """Fresh noise [n, blocks]."""
        return logistic((len(rows), blocks), self._generator).to(rows.device)

    def of_tokens(self, owner: str, stage: int, block: int, rows: Tensor, tokens: int) -> Tensor:  # noqa: ARG002
        """Fresh noise [n, tokens]."""
        return logistic((len(rows), tokens), self._generator).to(rows.device)


class ImageNoise:
    """Drawn for every image from a generator of its own, so that it does not depend on the others in the batch."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        """One generator for each image of the batch."""
        self._generators = tuple(generators)

    @classmethod
    def seeded(cls, seed: int, images: range) -> Self:
        """Noise of the images with these numbers in a series: the same whatever batches the series is cut into."""
        return cls([torch.Generator().manual_seed(seed * 1_000_003 + number) for number in images])

    def of_blocks(self, owner: str, stage: int, rows: Tensor, blocks: int) -> Tensor:  # noqa: ARG002
        """Fresh noise [n, blocks]."""
        return self._drawn(rows, blocks)

    def of_tokens(self, owner: str, stage: int, block: int, rows: Tensor, tokens: int) -> Tensor:  # noqa: ARG002
        """Fresh noise [n, tokens]."""
        return self._drawn(rows, tokens)

    def _drawn(self, rows: Tensor, width: int) -> Tensor:
        if len(rows) and int(rows[-1]) >= len(self._generators):
            raise MTLoRAError(f"there are generators for {len(self._generators)} images, got image {int(rows[-1])}")
        drawn = [logistic((width,), self._generators[row]) for row in rows.tolist()]
        return torch.stack(drawn).to(rows.device) if drawn else torch.zeros(0, width, device=rows.device)


class GivenNoise:
    """Recorded noise. NaN, or nothing at all, where a gate was not computed; an error if it is computed after all."""

    def __init__(self, blocks: Mapping[tuple[str, int], Tensor], tokens: Mapping[tuple[str, int], Tensor]) -> None:
        """By owner and stage: float [B, D] of blocks and [B, D, L] of tokens."""
        self._blocks = dict(blocks)
        self._tokens = dict(tokens)

    def images(self, start: int, stop: int) -> "GivenNoise":
        """The noise of some images of the batch."""
        return GivenNoise(
            {key: value[start:stop] for key, value in self._blocks.items()},
            {key: value[start:stop] for key, value in self._tokens.items()},
        )

    def of_blocks(self, owner: str, stage: int, rows: Tensor, blocks: int) -> Tensor:
        """The recorded noise [n, blocks]."""
        found = self._blocks.get((owner, stage))
        return _known(found, rows, (blocks,), f"block_noise/{owner}/s{stage}")

    def of_tokens(self, owner: str, stage: int, block: int, rows: Tensor, tokens: int) -> Tensor:
        """The recorded noise [n, tokens]."""
        found = self._tokens.get((owner, stage))
        name = f"token_noise/{owner}/s{stage}"
        if found is not None and (found.ndim != 3 or block >= found.shape[1]):
            raise MTLoRAError(f"{name} must be [B, D, {tokens}] with D above {block}, got {list(found.shape)}")
        return _known(found if found is None else found[:, block], rows, (tokens,), f"{name}, block {block}")


def logistic(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Float32 of the logistic distribution, the difference of two Gumbel variables, drawn in this order."""
    first = -torch.empty(shape).exponential_(generator=generator).log()
    return first + torch.empty(shape).exponential_(generator=generator).log()


def _known(noise: Tensor | None, rows: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    if noise is None:
        raise MTLoRAError(f"noise was given, but none for {name}, where gates are computed")
    if tuple(noise.shape[1:]) != shape or (len(rows) and len(noise) <= int(rows[-1])):
        raise MTLoRAError(f"the noise of {name} must be [B, {', '.join(map(str, shape))}], got {list(noise.shape)}")
    chosen = noise.to(rows.device)[rows]
    if bool(torch.isnan(chosen).any()):
        raise MTLoRAError(f"the noise of {name} is NaN for images whose gates are computed here")
    return chosen
