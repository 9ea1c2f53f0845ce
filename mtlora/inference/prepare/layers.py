"""The layers of a prepared set: plain values that hold tensors, each with one formula.

Tensors that belong to a set have a first dimension of one; several sets are run together by concatenating them there
(`stacked`), so one formula serves one set and a mixed batch. Tensors without that dimension are the backbone's own and
shared by all. Task-specific tensors of a set are stacked too, ranks padded with zeros to the largest.

Letters: n items of a batch or 1 for all alike, M tokens, C channels, T tasks, r and R ranks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.inference.prepare.int8 import IntegerWeight
from mtlora.ops.products import linear

NORM_EPS = 1e-5

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer norm. weight, bias: float [C] (the backbone's) or [n, C]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """float [n, ..., C], same shape out."""
        if self.weight.ndim == 1 or len(self.weight) == 1:
            return F.layer_norm(x, x.shape[-1:], self.weight.flatten(), self.bias.flatten(), NORM_EPS)
        shape = (len(x), *(1,) * (x.ndim - 2), x.shape[-1])
        return torch.addcmul(
            self.bias.view(shape), F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), self.weight.view(shape)
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Low-rank pair, scaling included in b. a: float [n, r, in], b: float [n, out, r]."""

    a: Tensor
    b: Tensor

    def add_to(self, y: Tensor, x: Tensor) -> Tensor:
        """y + b a x. y: float [n, M, out], x: float [n, M, in]."""
        if len(self.a) == 1:
            low = linear(x, self.a[0]).flatten(0, -2)
            return torch.addmm(y.flatten(0, -2), low, self.b[0].T).view(y.shape)
        return torch.baddbmm(y, torch.bmm(x, self.a.transpose(1, 2)), self.b.transpose(1, 2))


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear layer. weight: float [out, in] (the backbone's) or [n, out, in]; bias: float [out], [n, out] or None."""

    weight: Tensor | IntegerWeight
    bias: Tensor | None
    pair: Pair | None = None

    def product(self, x: Tensor) -> Tensor:
        """W x + b, without the pair. float [n, M, in] -> [n, M, out]."""
        if isinstance(self.weight, IntegerWeight):
            return self.weight.product(x, self.bias)
        if self.weight.ndim == 2:
            return linear(x, self.weight, self.bias)
        if len(self.weight) == 1:
            return linear(x, self.weight[0], None if self.bias is None else self.bias.flatten())
        weight = self.weight.transpose(1, 2)
        return torch.bmm(x, weight) if self.bias is None else torch.baddbmm(self.bias.unsqueeze(-2), x, weight)

    def __call__(self, x: Tensor) -> Tensor:
        """float [n, M, in] -> [n, M, out]."""
        y = self.product(x)
        return y if self.pair is None else self.pair.add_to(y, x)


@dataclass(frozen=True, slots=True)
class TaskPairs:
    """Low-rank pairs of all tasks. a: float [n, T, R, in]; b: float [n, T, out, R], scaling included."""

    a: Tensor
    b: Tensor

    def down(self, x: Tensor) -> Tensor:
        """a of every task on tokens they share: float [n, M, in] -> [n, T, M, R]."""
        a = self.a.flatten(1, 2)
        low = linear(x, a[0]) if len(a) == 1 else torch.bmm(x, a.transpose(1, 2))
        return low.view(*x.shape[:2], *self.a.shape[1:3]).transpose(1, 2).contiguous()

    def select(self, index: Tensor) -> "TaskPairs":
        """Of some tasks only. index: int64 [tasks]."""
        return TaskPairs(self.a.index_select(1, index), self.b.index_select(1, index))


@dataclass(frozen=True, slots=True)
class TaskLinear:
    """Linear layer that also gives every task an output of its own: base + b_t a_t x_t (see `SharedMode`).

    The shared output is `linear(x)`, or with `norm` (mode `addition`) base + norm(sum of the tasks' outputs).
    """

    linear: Linear
    tasks: TaskPairs
    base_has_pair: bool  # mode `matrixv2`: the tasks' base is the shared output
    norm: Norm | None = None

    def base_and_shared(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the tasks add to, and the shared output (with `norm`: not yet); float [n, M, out] both."""
        base = self.linear.product(x)
        if self.linear.pair is None:
            return base, base
        shared = self.linear.pair.add_to(base, x)
        return (shared if self.base_has_pair else base), shared


@dataclass(frozen=True, slots=True)
class Block:
    """One Swin block. position: float [n, mask kinds, heads, N, N], position bias and mask."""

    norm1: Norm
    qkv: Linear
    position: Tensor
    proj: Linear | TaskLinear
    norm2: Norm
    fc1: Linear | TaskLinear
    fc2: Linear | TaskLinear

    @property
    def gives_streams(self) -> bool:
        """Whether tasks get outputs of their own here."""
        return isinstance(self.proj, TaskLinear) or isinstance(self.fc2, TaskLinear)

    def of_tasks(self, index: Tensor) -> "Block":
        """The block with the pairs of some tasks only. index: int64 [tasks]."""

        def some(linear: Linear | TaskLinear) -> Linear | TaskLinear:
            return replace(linear, tasks=linear.tasks.select(index)) if isinstance(linear, TaskLinear) else linear

        return replace(self, proj=some(self.proj), fc1=some(self.fc1), fc2=some(self.fc2))

    def with_weights(self, change: Callable[[Tensor], IntegerWeight]) -> "Block":
        """The block with its linears' weights changed; pairs stay as they are."""

        def changed(linear: Linear | TaskLinear) -> Linear | TaskLinear:
            if isinstance(linear, TaskLinear):
                return replace(linear, linear=changed(linear.linear))  # type: ignore[arg-type]
            return replace(linear, weight=change(linear.weight))  # type: ignore[arg-type]

        return replace(
            self,
            qkv=changed(self.qkv),  # type: ignore[arg-type]
            proj=changed(self.proj),
            fc1=changed(self.fc1),
            fc2=changed(self.fc2),
        )


@dataclass(frozen=True, slots=True)
class Merging:
    """Patch merging. norm over 4C, reduction 4C -> 2C."""

    norm: Norm
    reduction: Linear


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks, then patch merging (not after the last stage), and what every task takes from the result.

    projection: float [n, T, c, width]; width is that of the features, or with task streams before a merging 4C: then
    the reduction is part of it, both being linear
    """

    blocks: tuple[Any, ...]  # `Block`, or `FusedBlock` where native code runs it
    merging: Merging | None
    projection: Tensor


@dataclass(frozen=True, slots=True)
class Encoder:
    """The whole encoder. patches: linear over 4 x 4 patches, channels first, then rows, then columns."""

    patches: Linear
    patch_norm: Norm
    stages: tuple[Stage, ...]


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested values."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from tensors_of(part)


def mapped(value: P, change: Callable[[Any], Any], leaves: tuple[type, ...] = (Tensor,)) -> P:
    """A nested value with every tensor, or whatever else counts as a leaf, changed."""
    if isinstance(value, leaves):
        changed: P = change(value)
        return changed
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: mapped(getattr(value, f.name), change, leaves) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(mapped(part, change, leaves) for part in value)  # type: ignore[return-value]
    return value


def own_bytes(value: Any, shared: Iterable[Tensor]) -> int:
    """Bytes of the tensors in nested values, each counted once, those that are `shared` not at all."""
    known = {id(tensor) for tensor in shared}
    return sum(t.nbytes for t in {id(t): t for t in tensors_of(value)}.values() if id(t) not in known)


def stacked(values: Sequence[P]) -> P:
    """Several sets as one: tensors of the sets concatenated, those that are one and the same object kept."""
    first: Any = values[0]
    if all(value is first for value in values):
        return values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)  # type: ignore[arg-type,return-value]
    if is_dataclass(first):
        parts = {f.name: stacked([getattr(value, f.name) for value in values]) for f in fields(first)}
        return replace(first, **parts)  # type: ignore[type-var,return-value]
    if isinstance(first, tuple):
        return tuple(stacked(parts) for parts in zip(*values, strict=True))  # type: ignore[return-value]
    return values[0]
