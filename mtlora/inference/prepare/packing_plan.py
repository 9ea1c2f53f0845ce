"""The packing plan: how the blocks of all sets of a shape are made for the kernels, in one call for a set.

A set has hundreds of small tensors. Folding them one by one costs more in operators than in arithmetic, and keeps the
interpreter busy beside the engine. Here the shape alone says what goes where; the kernel `fold` carries that out.
The blocks are those that `fold` and `run_block` compute with, in the kernels' layout.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtlora.inference.forward.fused_blocks import FusedBlock, fits, reads_by_columns
from mtlora.inference.forward.windows import relative_positions, stage_shapes, stage_windows
from mtlora.inference.prepare.fold import spread_table
from mtlora.inference.prepare.layers import NORM_EPS
from mtlora.kernels import Kernels
from mtlora.kernels.interface import BlockLayout, LinearLayout, MoveKind, MoveLayout, NumberType, PairsLayout
from mtlora.vocabulary.adapted_linears import AdaptedLinear, PairSpec, adapted_linears, gives_streams
from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import adapter_shapes

Blocks = tuple[tuple[FusedBlock | None, ...], ...]
"""By stage and number; None: the kernel does not know this kind or size."""

_LINEARS = {linear.rpartition(".")[2]: linear for linear in BLOCK_LINEARS}  # a layout has the last part
_TABLE = "attn.relative_position_bias_table"
_NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
_TYPES = {torch.float32: NumberType.FLOAT32, torch.float16: NumberType.FLOAT16, torch.bfloat16: NumberType.BFLOAT16}
_ALIGNED = 16  # floats: a cache line, and the widest registers
_FLOAT_BYTES = 4
_OWN = 1 << 60  # where a set's own memory begins while a plan is written: no real address, and no number in a layout

room_for = torch.empty
"""A set's own memory."""


@dataclass(slots=True)
class PackingPlan:
    """Makes the blocks of sets of one shape."""

    kernels: Kernels
    names: list[str] = field(default_factory=list)  # of the tensors that moves read
    taken: frozenset[str] = frozenset()  # names of all tensors of these blocks
    shared: list[Tensor] = field(default_factory=list)  # what layouts and moves point to beside a set's own memory
    moves: Any = None
    floats: int = 0
    templates: list[list["_Template | None"]] = field(default_factory=list)

    def blocks(self, tensors: Mapping[str, Tensor]) -> Blocks:
        """The blocks of a set. tensors: as in its file, on the CPU or the meta device."""
        parts = [tensors[name].contiguous() for name in self.names]
        device = next(iter(tensors.values())).device
        memory = room_for(self.floats, device=device)
        if device.type == "cpu":
            addresses = (ctypes.c_void_p * len(parts))(*[part.data_ptr() for part in parts])
            types = (ctypes.c_int32 * len(parts))(*[_TYPES[part.dtype] for part in parts])
            if self.kernels.fold(self.moves, len(self.moves), addresses, types, memory.data_ptr()):
                raise MemoryError("not enough memory for the buffers of folding a set")
        own = (memory, *self.shared)
        return tuple(
            tuple(template and template.block(own, self.kernels) for template in stage) for stage in self.templates
        )


class _Template(NamedTuple):
    """A block's layout, for a set whose memory is at address 0."""

    words: Any  # uint64
    moved: Any  # bool, which of them are addresses in that memory
    tasks: int

    @classmethod
    def of(cls, layout: BlockLayout, tasks: int) -> "_Template":
        """Of a layout whose addresses in a set's memory count from `_OWN`."""
        words = np.frombuffer(bytes(layout), np.uint64)
        moved = words >= _OWN
        return cls(np.where(moved, words - np.uint64(_OWN), words), moved, tasks)

    def block(self, tensors: tuple[Tensor, ...], kernels: Kernels) -> FusedBlock:
        """The block of a set whose memory is the first of `tensors`."""
        words = self.words.copy()
        words[self.moved] += np.uint64(tensors[0].data_ptr())
        return FusedBlock(tensors, BlockLayout.from_buffer(words), kernels, self.tasks)


def make_packing_plan(
    frozen: Mapping[str, Tensor],
    spec: AdapterSpec,
    kernels: Kernels,
    packed: Callable[[Tensor], Tensor],
    *,
    merge: bool,
) -> PackingPlan:
    """The plan for sets of a shape.

    frozen: the backbone's tensors on the CPU
    packed: a frozen weight as the kernels read it, the same tensor for every plan
    merge:  add shared pairs to the weights wherever no task stream needs the frozen product by itself
    """
    return _Writer(frozen, spec, kernels, packed, merge).packing_plan()


class _Writer:
    """Collects moves and what they need."""

    def __init__(
        self,
        frozen: Mapping[str, Tensor],
        spec: AdapterSpec,
        kernels: Kernels,
        packed: Callable[[Tensor], Tensor],
        merge: bool,
    ) -> None:
        self._frozen = frozen
        self._spec = spec
        self._kernels = kernels
        self._packed = packed
        self._merge = merge
        self._shapes = adapter_shapes(spec)
        self._adapted = {linear.name: linear for linear in adapted_linears(spec)}
        self._numbers: dict[str, int] = {}  # of the tensors that are read
        self._moves: list[MoveLayout] = []
        self._shared: dict[int, Tensor] = {}
        self._floats = 0

    def packing_plan(self) -> PackingPlan:
        templates = [
            [self._block(stage, number) for number in range(depth)]
            for stage, depth in enumerate(self._spec.backbone.depths)
        ]
        made = tuple(
            f"backbone.layers.{stage}.blocks.{number}."
            for stage, blocks in enumerate(templates)
            for number, template in enumerate(blocks)
            if template
        )
        return PackingPlan(
            kernels=self._kernels,
            names=list(self._numbers),
            taken=frozenset(name for name in self._shapes if name.startswith(made)),
            shared=list(self._shared.values()),
            moves=(MoveLayout * len(self._moves))(*self._moves),
            floats=self._floats,
            templates=templates,
        )

    def _block(self, stage: int, number: int) -> _Template | None:
        spec, name = self._spec, f"layers.{stage}.blocks.{number}"
        heads, streams = spec.backbone.num_heads[stage], gives_streams(spec, stage, number)
        width, tokens = self._frozen[f"{name}.norm1.weight"].numel(), stage_shapes(spec)[stage].window ** 2
        linears = {part: f"{name}.{rest}" for part, rest in _LINEARS.items()}
        adapted = {part: self._adapted[full] for part, full in linears.items() if full in self._adapted}
        tasked = {part: linear for part, linear in adapted.items() if streams and linear.splits}
        rank = max((linear.task_rank for linear in tasked.values()), default=0)
        if not fits(width, heads, tokens, rank) or any(linear.norm for linear in tasked.values()):
            return None
        layout = BlockLayout(
            **{part.replace(".", "_"): self._parameter(f"{name}.{part}") for part in _NORMS},
            **{part: self._linear(full, tasked=part in tasked) for part, full in linears.items()},
            **{f"{part}_tasks": self._pairs(linear, rank) for part, linear in tasked.items()},
            position=self._position(f"{name}.{_TABLE}", stage, shifted=number % 2 == 1),
            heads=heads,
            base_has_pair=any(linear.base_has_pair for linear in tasked.values()),
            eps=NORM_EPS,
        )
        return _Template.of(layout, len(spec.tasks) if streams else 0)

    def _linear(self, name: str, *, tasked: bool) -> LinearLayout:
        weight = self._frozen[f"{name}.weight"]
        outputs, inputs = weight.shape
        packed = self._packed(weight)
        made = LinearLayout(weight=self._share(packed), bias=self._parameter(f"{name}.bias"))
        made.inputs, made.outputs = inputs, outputs
        adapted = self._adapted.get(name)
        if adapted is None or adapted.shared is None:
            return made
        pair, rank, factor = adapted.shared, adapted.shared.rank, self._factor(adapted.shared)
        a, b = (self._number(f"{pair.name}.{half}") for half in ("lora_a", "lora_b"))
        if self._merge and (adapted.base_has_pair or not tasked):
            move = {"other": a, "inputs": inputs, "frozen": packed.data_ptr()}
            made.weight = self._add(packed.numel(), MoveKind.MERGED, b, outputs, rank, **move, **factor)
            return made
        made.rank = rank
        made.down = self._add(self._kernels.packed_floats(inputs, rank), MoveKind.PACKED, a, rank, inputs)
        made.up = self._add(self._kernels.packed_floats(rank, outputs), MoveKind.PACKED, b, outputs, rank, **factor)
        return made

    def _pairs(self, adapted: AdaptedLinear, rank: int) -> PairsLayout:
        """The tasks' pairs of a linear. rank: to which they are padded, the same in all linears of a block."""
        outputs, inputs = adapted.out_features, adapted.in_features
        by_columns = reads_by_columns(rank)
        a, b = (self._room(len(adapted.tasks) * rank * length) for length in (inputs, outputs))
        for index, pair in enumerate(adapted.tasks):
            to_a, to_b = a + index * rank * inputs, b + index * rank * outputs
            if pair is None:
                self._move(MoveKind.ZEROS, to_a, rows=rank, columns=inputs)
                self._move(MoveKind.ZEROS, to_b, rows=rank, columns=outputs)
                continue
            own = pair.rank
            half = {"tensor": self._number(f"{pair.name}.lora_a"), "rows": own, "columns": inputs}
            if by_columns:
                self._move(MoveKind.TRANSPOSED, to_a, inputs=rank, **half)
            else:
                self._move(MoveKind.COPY, to_a, **half)
                self._move(MoveKind.ZEROS, to_a + own * inputs, rows=rank - own, columns=inputs)
            factor = self._factor(pair)
            number = self._number(f"{pair.name}.lora_b")
            self._move(MoveKind.TRANSPOSED, to_b, tensor=number, rows=outputs, columns=own, inputs=outputs, **factor)
            self._move(MoveKind.ZEROS, to_b + own * outputs, rows=rank - own, columns=outputs)
        made = PairsLayout(a=_address(a), b=_address(b), by_columns=by_columns)
        made.inputs, made.outputs, made.rank = inputs, outputs, rank
        return made

    def _position(self, name: str, stage: int, *, shifted: bool) -> int:
        """Of position biases [kinds, heads, N, N]; where they are the backbone's own, all sets share them."""
        shape, heads = stage_shapes(self._spec)[stage], self._spec.backbone.num_heads[stage]
        layout = stage_windows(*shape, torch.device("cpu"))
        masks = (layout.shifted if shifted and layout.shifted else layout.plain).masks
        if f"backbone.{name}" not in self._shapes:
            return self._share(spread_table(self._frozen[name], shape.window, masks))
        index = relative_positions(shape.window)
        self._share(index), self._share(masks)
        return self._add(
            masks.numel() * heads, MoveKind.POSITION, self._number(f"backbone.{name}"),
            *self._shapes[f"backbone.{name}"], inputs=index.numel(),
            frozen=masks.data_ptr(), index=index.data_ptr(), kinds=len(masks),
        )  # fmt: skip

    def _parameter(self, name: str) -> int | None:
        """Of a vector, the set's own or the backbone's; None where there is none."""
        if f"backbone.{name}" in self._shapes:
            (length,) = self._shapes[f"backbone.{name}"]
            return self._add(length, MoveKind.COPY, self._number(f"backbone.{name}"), 1, length)
        return self._share(self._frozen[name]) if name in self._frozen else None

    def _factor(self, pair: PairSpec) -> dict[str, Any]:
        if pair.learned_scaling:
            return {"learned": self._number(f"{pair.name}.scaling")}
        return {"factor": pair.scaling}

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _share(self, tensor: Tensor) -> int:
        """Keep a tensor; its address."""
        self._shared[id(tensor)] = tensor
        return tensor.data_ptr()

    def _add(self, floats: int, kind: int, tensor: int, rows: int, columns: int, **more: Any) -> int:
        """A move to memory of its own; the address."""
        to = self._room(floats)
        self._move(kind, to, tensor=tensor, rows=rows, columns=columns, **more)
        return _address(to)

    def _move(self, kind: int, to: int, *, learned: int = -1, factor: float = 1.0, **more: Any) -> None:
        if more["rows"]:
            self._moves.append(MoveLayout(kind=kind, to=to, learned=learned, factor=factor, **more))

    def _room(self, floats: int) -> int:
        to = self._floats
        self._floats += -(-floats // _ALIGNED) * _ALIGNED
        return to


def _address(floats: int) -> int:
    """Of a place in a set's own memory."""
    return _OWN + floats * _FLOAT_BYTES
