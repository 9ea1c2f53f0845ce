"""Fused Swin blocks in native code: a few windows go through all layers of a block inside one core's cache.

Weights are copied into the layout that the kernel reads (`pack`), so a block that is fused is kept in this form alone.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward.windows import Windows
from mtlora.inference.prepare.int8 import IntegerWeight, integer_weight
from mtlora.inference.prepare.layers import NORM_EPS, Block, Linear, TaskLinear, TaskPairs
from mtlora.kernels import Kernels
from mtlora.kernels.interface import (
    BYTE_ZERO,
    MAX_DOTS,
    MAX_HEAD_DIM,
    MAX_RANK,
    MAX_TOKENS,
    MAX_WIDTH,
    BlockLayout,
    LinearLayout,
    PairsLayout,
    RegionLayout,
)
from mtlora.vocabulary.options import Precision

Packer = Callable[[Tensor], tuple[Tensor, ...]]
"""A matrix float [out, in] in the kernels' layout: float32; or int8, float scales [out], int32 offsets [out]."""


class Region(NamedTuple):
    """The windows that a block computes, and where their tokens are."""

    windows: Windows  # in the block's own order
    order: Tensor | None = None  # int64 [L], where in x the token at each place of that order is; None: there
    open: Tensor | None = None  # bool [n, W], windows in the block's own order that are computed; None: all


@dataclass(frozen=True, slots=True, eq=False)
class FusedBlock:
    """A block of one set for the kernel; computes what `run_block` does. Make it with `fuse`."""

    tensors: tuple[Tensor, ...]  # all that `layout` points to
    layout: BlockLayout = field(repr=False)
    kernels: Kernels = field(repr=False)
    tasks: int  # of the set; 0: a block without streams

    def run(self, x: Tensor, region: Region, wanted: Tensor | None, open_tasks: Tensor | None = None) -> Tensor | None:
        """The block over windows of images, in place; the streams of the tasks wanted, if it gives any.

        x:          float32 [n, L, C] on the CPU, contiguous
        wanted:     int64 [T], tasks among the set's; None: all
        open_tasks: bool [n, T], whose streams are computed; None: all
        returns:    float32 [n, T, L, C], ordered as x, or None; nothing is written where a window or a task is closed
        """
        if not self.tasks:
            self._call(x, region, region.open, None, None)
            return None
        items, tokens, width = x.shape
        chosen = torch.arange(self.tasks, dtype=torch.int32) if wanted is None else wanted.int()
        streams = x.new_empty(items, len(chosen), tokens, width)
        for item in range(items):
            own = chosen if open_tasks is None else chosen.masked_fill(~open_tasks[item], -1)
            self._call(
                x[item : item + 1],
                region,
                None if region.open is None else region.open[item : item + 1],
                own,
                streams[item],
            )
        return streams

    def _call(
        self, x: Tensor, region: Region, opened: Tensor | None, chosen: Tensor | None, streams: Tensor | None
    ) -> None:
        windows, order = region.windows, region.order
        period = len(windows.kinds)
        which = None if opened is None else opened.flatten().nonzero().flatten().int()
        layout = RegionLayout(
            which=windows.kinds.data_ptr(),
            order=None if order is None else order.data_ptr(),
            open=None if which is None else which.data_ptr(),
            period=period,
            windows=len(x) * period if which is None else len(which),
            tokens=windows.masks.shape[-1],
        )
        failed = self.kernels.block(
            ctypes.byref(self.layout),
            ctypes.byref(layout),
            x.data_ptr(),
            None if chosen is None else chosen.data_ptr(),
            0 if chosen is None else len(chosen),
            None if streams is None else streams.data_ptr(),
            torch.get_num_threads(),
        )
        if failed:
            raise MemoryError(f"not enough memory for the buffers of a block of {period} windows")


def packer(kernels: Kernels, precision: Precision = Precision.FLOAT32) -> Packer:
    """The packing function of these kernels; on the meta device it makes shapes only."""

    def pack(matrix: Tensor) -> tuple[Tensor, ...]:
        out, columns = matrix.shape
        packed = matrix.new_empty(kernels.packed_floats(columns, out))
        if packed.device.type == "cpu":
            kernels.pack(matrix.contiguous().data_ptr(), packed.data_ptr(), columns, out)
        return (packed,)

    def pack_integers(matrix: Tensor) -> tuple[Tensor, ...]:
        out, columns = matrix.shape
        weight = integer_weight(matrix)
        packed = matrix.new_empty(kernels.packed_bytes(columns, out), dtype=torch.int8)
        if packed.device.type == "cpu":
            kernels.pack_integers(weight.values.contiguous().data_ptr(), packed.data_ptr(), columns, out)
        return packed, weight.scale, weight.values.sum(dim=1, dtype=torch.int32).mul_(-BYTE_ZERO)

    return pack_integers if precision is Precision.INT8 else pack


def fits(width: int, heads: int, tokens: int, rank: int) -> bool:
    """Whether the kernel has room for windows of so many tokens, and for task pairs of this rank."""
    return tokens <= MAX_TOKENS and width <= MAX_WIDTH and width // heads <= MAX_HEAD_DIM and rank <= MAX_RANK


def reads_by_columns(rank: int) -> bool:
    """Whether the kernel reads the first halves of task pairs as [in, rank] rather than [rank, in]."""
    return rank > MAX_DOTS


def fuse(block: Block, heads: int, kernels: Kernels, pack: Packer, pack_frozen: Packer) -> "Block | FusedBlock":
    """The block for the kernel, or as it is where the kernel does not know its kind or its size.

    pack, pack_frozen: for the set's own weights, and for frozen ones, which sets may share
    """
    linears = (block.proj, block.fc1, block.fc2)
    tasked = [linear for linear in linears if isinstance(linear, TaskLinear)]
    width, tokens = block.norm1.weight.shape[-1], block.position.shape[-1]
    rank = max((linear.tasks.a.shape[2] for linear in tasked), default=0)
    if not fits(width, heads, tokens, rank) or any(linear.norm is not None for linear in tasked):
        return block
    return _Fusing(kernels, pack, pack_frozen).block(block, heads, tasked)


class _Fusing:
    """Collects the tensors that a layout points to."""

    def __init__(self, kernels: Kernels, pack: Packer, pack_frozen: Packer) -> None:
        self._kernels = kernels
        self._pack = pack
        self._pack_frozen = pack_frozen
        self._pack_pair = packer(kernels)
        self._tensors: list[Tensor] = []

    def block(self, block: Block, heads: int, tasked: list[TaskLinear]) -> FusedBlock:
        layout = BlockLayout(
            norm1_weight=self._point(block.norm1.weight),
            norm1_bias=self._point(block.norm1.bias),
            norm2_weight=self._point(block.norm2.weight),
            norm2_bias=self._point(block.norm2.bias),
            position=self._point(block.position),
            qkv=self._linear(block.qkv),
            proj=self._linear(block.proj),
            fc1=self._linear(block.fc1),
            fc2=self._linear(block.fc2),
            proj_tasks=self._pairs(block.proj),
            fc1_tasks=self._pairs(block.fc1),
            fc2_tasks=self._pairs(block.fc2),
            heads=heads,
            base_has_pair=any(linear.base_has_pair for linear in tasked),
            eps=NORM_EPS,
        )
        tasks = tasked[0].tasks.a.shape[1] if block.gives_streams else 0
        return FusedBlock(tuple(self._tensors), layout, self._kernels, tasks)

    def _linear(self, linear: Linear | TaskLinear) -> LinearLayout:
        plain = linear.linear if isinstance(linear, TaskLinear) else linear
        weight = plain.weight
        if isinstance(weight, IntegerWeight):
            raise TypeError(f"blocks are fused before their weights are rounded, got int8 {list(weight.values.shape)}")
        outputs, inputs = weight.shape[-2:]
        made = LinearLayout(inputs=inputs, outputs=outputs, rank=0)
        packed = self._pack_frozen(weight) if weight.ndim == 2 else self._pack(weight[0])
        pair = plain.pair
        names = ("weight",) if len(packed) == 1 else ("integers", "scale", "offset")
        for name, tensor in zip(names, packed, strict=True):
            setattr(made, name, self._keep(tensor))
        if plain.bias is not None:
            made.bias = self._point(plain.bias)
        if pair is not None:
            made.rank = pair.a.shape[1]
            made.down, made.up = (self._keep(self._pack_pair(part[0])[0]) for part in (pair.a, pair.b))
        return made

    def _pairs(self, linear: Linear | TaskLinear) -> PairsLayout:
        if not isinstance(linear, TaskLinear):
            return PairsLayout()
        pairs: TaskPairs = linear.tasks
        _, _, rank, inputs = pairs.a.shape
        by_columns = reads_by_columns(rank)
        a, b = (pairs.a.mT if by_columns else pairs.a), pairs.b.mT
        return PairsLayout(
            a=self._point(a), b=self._point(b), inputs=inputs, outputs=b.shape[3], rank=rank, by_columns=by_columns
        )

    def _point(self, tensor: Tensor) -> int:
        return self._keep(tensor.contiguous())

    def _keep(self, tensor: Tensor) -> int:
        self._tensors.append(tensor)
        return tensor.data_ptr()
