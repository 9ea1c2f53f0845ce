"""A set's tensors in one piece of memory: sets are put side by side for a batch with one copy each.

That is how a GPU likes it: hundreds of small copies cost more there than the products that they are for.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtlora.inference.prepare.layers import mapped

ALIGNED = 64  # elements: kernels read whole 16 bytes, and fastest where tensors begin on a cache line


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor of a set lies. shape: without the first dimension, that of sets."""

    start: int
    shape: tuple[int, ...]

    def of(self, flats: Tensor) -> Tensor:
        """The tensors of some sets as a view. flats: [n, size] -> [n, *shape]."""
        return flats[:, self.start : self.start + math.prod(self.shape)].view(len(flats), *self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the tensors of a nested value lie; equal for sets of one shape. Make it with `flatten`."""

    template: Any  # the value with a `Place` for each tensor of a set's own; shared tensors are in it as they are
    size: int  # elements

    def of(self, flats: Tensor) -> Any:
        """The value for several sets at once. flats: [n, size]."""
        return mapped(self.template, lambda place: place.of(flats), (Place,))


def flatten(value: Any, shared: Iterable[Tensor], dtype: torch.dtype) -> tuple[Tensor, Layout]:
    """A nested value whose own tensors have a first dimension of one, in one tensor [size], and how to read that."""
    known = {id(tensor) for tensor in shared}
    own: list[tuple[Place, Tensor]] = []
    size = 0

    def place(tensor: Tensor) -> Tensor | Place:
        nonlocal size
        if id(tensor) in known:
            return tensor
        own.append((Place(size, tuple(tensor.shape[1:])), tensor))
        size += -(-tensor.numel() // ALIGNED) * ALIGNED
        return own[-1][0]

    layout = Layout(mapped(value, place), size)
    device = own[0][1].device if own else None
    flat = torch.zeros(size, dtype=dtype, device=device)
    for at, tensor in own:
        at.of(flat[None]).copy_(tensor)
    return flat, layout
