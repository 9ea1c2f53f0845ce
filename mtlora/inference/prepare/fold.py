"""Folding: the tensors of a backbone and an adapter set become what the engine computes with.

Everything that can be computed before the first image is: pairs merged into weights (if wanted), scalings into their B,
position bias tables spread over token pairs, patch merging's reduction composed with each task's projection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlora.inference.forward.windows import relative_positions, stage_shapes, stage_windows
from mtlora.inference.prepare.int8 import IntegerWeight
from mtlora.inference.prepare.layers import Block, Encoder, Linear, Merging, Norm, Pair, Stage, TaskLinear, TaskPairs
from mtlora.model.swin import fitted_table
from mtlora.vocabulary.spec import AdapterSpec, SharedMode


def fold_encoder(
    frozen: Mapping[str, Tensor],
    spec: AdapterSpec,
    tensors: Mapping[str, Tensor],
    *,
    merge: bool,
    blocks: Sequence[Sequence[Any]] = (),
) -> Encoder:
    """The encoder of one set.

    frozen:  the backbone's tensors, timm's names
    tensors: the set's, float32 on the same device, named as in its file
    merge:   add shared pairs to the frozen weights wherever no task stream needs the frozen product by itself; else
             leave frozen weights alone, shared by all sets
    blocks:  those that were made otherwise, by stage and number; None: to be made here
    """
    return _Fold(frozen, spec, tensors, merge, blocks).encoder()


def gives_streams(spec: AdapterSpec, stage: int, number: int) -> bool:
    """Whether tasks get outputs of their own in a block."""
    # in mode `addition` task pairs shape a block's shared output; otherwise they are read in the last block only
    last = number == spec.backbone.depths[stage] - 1
    tasked = spec.ranks[stage] > 0 and (
        last if spec.mode in {SharedMode.MATRIX, SharedMode.MATRIX_V2} else
        spec.mode is SharedMode.ADDITION and (last or spec.intermediate_specialization)
    )  # fmt: skip
    return tasked and (spec.adapt_proj or spec.adapt_fc2)


def adapts(spec: AdapterSpec, linear: str) -> bool:
    """Whether a block's `qkv`, `proj`, `fc1` or `fc2` has pairs."""
    return {"qkv": spec.adapt_qkv, "proj": spec.adapt_proj, "fc1": spec.adapt_fc1, "fc2": spec.adapt_fc2}[linear]


def task_rank(spec: AdapterSpec, stage: int) -> int:
    """To which the pairs of all tasks are padded."""
    return max(1, *(task.ranks[stage] for task in spec.tasks))


def spread_table(table: Tensor, window: int, masks: Tensor) -> Tensor:
    """Position bias of every two tokens of a window plus the masks of all kinds: float [kinds, heads, N, N].

    table: float [(2w-1)^2, heads], resized if it is for another window side; masks: float [kinds, N, N]
    """
    places = relative_positions(window).to(table.device)
    spread = fitted_table(table, window).T.index_select(1, places.flatten()).view(-1, *places.shape)
    return spread + masks.to(table.device)[:, None]


def merge_pairs(block: Block) -> Block:
    """The block with shared pairs added to the weights wherever no task stream needs the frozen product by itself."""

    def merged(linear: Linear | TaskLinear) -> Any:
        if isinstance(linear, TaskLinear):
            return replace(linear, linear=merged(linear.linear)) if linear.base_has_pair else linear
        if linear.pair is None or isinstance(linear.weight, IntegerWeight):
            return linear
        return Linear(torch.addmm(linear.weight, linear.pair.b[0], linear.pair.a[0])[None], linear.bias)

    linears = {name: merged(getattr(block, name)) for name in ("qkv", "proj", "fc1", "fc2")}
    return replace(block, **linears)


class _Fold:
    def __init__(
        self,
        frozen: Mapping[str, Tensor],
        spec: AdapterSpec,
        tensors: Mapping[str, Tensor],
        merge: bool,
        blocks: Sequence[Sequence[Any]],
    ) -> None:
        self._frozen = frozen
        self._spec = spec
        self._own = tensors
        self._merge = merge
        self._blocks = blocks

    def encoder(self) -> Encoder:
        name = "patch_embed.proj"
        weight = self._parameter(f"{name}.weight").flatten(-3)
        flat = Linear(weight if weight.ndim == 3 else weight[None], self._parameter(f"{name}.bias"))
        stages = tuple(self._stage(index) for index in range(len(self._spec.backbone.depths)))
        return Encoder(flat, self._norm("patch_embed.norm"), stages)

    def _stage(self, stage: int) -> Stage:
        depth = self._spec.backbone.depths[stage]
        made = self._blocks[stage] if self._blocks else (None,) * depth
        blocks = tuple(block or self._block(stage, number) for number, block in enumerate(made))
        projections = [self._own[f"projections.{t.task}.{stage}.weight"].flatten(1) for t in self._spec.tasks]
        projection = torch.stack(projections)
        name = f"layers.{stage + 1}.downsample"
        if f"{name}.reduction.weight" not in self._frozen:
            return Stage(blocks, None, projection[None])
        reduction = self._linear(f"{name}.reduction", stage, merge=self._merge)
        merging = Merging(self._norm(f"{name}.norm"), reduction)
        if gives_streams(self._spec, stage, depth - 1):
            # in memory as `ops.merged_projection` likes it best
            projection = (self._merged(f"{name}.reduction", stage).T @ projection.mT).mT
        return Stage(blocks, merging, projection[None])

    def _block(self, stage: int, number: int) -> Block:
        spec, name = self._spec, f"layers.{stage}.blocks.{number}"
        linear = self._task_linear if gives_streams(spec, stage, number) else self._linear
        proj = (linear if spec.adapt_proj else self._linear)(f"{name}.attn.proj", stage)
        fc1 = (linear if spec.adapt_fc1 else self._linear)(f"{name}.mlp.fc1", stage)
        fc2 = (linear if spec.adapt_fc2 else self._linear)(f"{name}.mlp.fc2", stage)
        block = Block(
            norm1=self._norm(f"{name}.norm1"),
            qkv=self._linear(f"{name}.attn.qkv", stage),
            position=self._position(f"{name}.attn.relative_position_bias_table", stage, shifted=number % 2 == 1),
            proj=proj,
            norm2=self._norm(f"{name}.norm2"),
            fc1=fc1,
            fc2=fc2,
        )
        return merge_pairs(block) if self._merge else block

    def _linear(self, name: str, stage: int, *, merge: bool = False) -> Linear:
        """A linear without task pairs."""
        bias = self._parameter(f"{name}.bias") if f"{name}.bias" in self._frozen else None
        pair = self._shared_pair(name, stage)
        if pair is not None and merge:
            return Linear(self._merged(name, stage)[None], bias)
        return Linear(self._parameter(f"{name}.weight"), bias, pair)

    def _task_linear(self, name: str, stage: int) -> TaskLinear:
        mode = self._spec.mode
        bias = self._parameter(f"{name}.bias")
        linear = Linear(self._parameter(f"{name}.weight"), bias, self._shared_pair(name, stage))
        if mode is SharedMode.MATRIX_V2:  # shared output and the tasks' base are the same product
            linear = self._linear(name, stage)
        norm = self._norm(f"{name}.norm") if mode is SharedMode.ADDITION else None
        return TaskLinear(linear, self._task_pairs(name, stage), mode is SharedMode.MATRIX_V2, norm)

    def _task_pairs(self, name: str, stage: int) -> TaskPairs:
        rows, columns = self._frozen[f"{name}.weight"].shape
        rank = task_rank(self._spec, stage)
        like = self._frozen[f"{name}.weight"]
        a = like.new_zeros(1, len(self._spec.tasks), rank, columns)
        b = like.new_zeros(1, len(self._spec.tasks), rank, rows).mT  # the layout that `ops` likes best
        for index, task in enumerate(self._spec.tasks):
            if own := task.ranks[stage]:
                pair = self._pair(f"{name}.tasks.{task.task}", task.scaling[stage])
                a[0, index, :own], b[0, index, :, :own] = pair.a[0], pair.b[0]
        return TaskPairs(a, b)

    def _shared_pair(self, name: str, stage: int) -> Pair | None:
        if f"backbone.{name}.shared.lora_a" not in self._own:
            return None
        return self._pair(f"{name}.shared", self._spec.scaling[stage])

    def _pair(self, name: str, scaling: float) -> Pair:
        learned = self._own.get(f"backbone.{name}.scaling", scaling)
        return Pair(self._own[f"backbone.{name}.lora_a"][None], (self._own[f"backbone.{name}.lora_b"] * learned)[None])

    def _merged(self, name: str, stage: int) -> Tensor:
        """Weight with its shared pair, if there is one: float [out, in]."""
        weight = self._parameter(f"{name}.weight")
        weight = weight[0] if weight.ndim == 3 else weight
        pair = self._shared_pair(name, stage)
        return weight if pair is None else torch.addmm(weight, pair.b[0], pair.a[0])

    def _norm(self, name: str) -> Norm:
        return Norm(self._parameter(f"{name}.weight"), self._parameter(f"{name}.bias"))

    def _parameter(self, name: str) -> Tensor:
        """The set's tensor with a first dimension of one, or else the backbone's own."""
        own = self._own.get(f"backbone.{name}")
        return self._frozen[name] if own is None else own[None]

    def _position(self, name: str, stage: int, *, shifted: bool) -> Tensor:
        """Position bias of every two tokens of a window plus the masks of all kinds: float [1, kinds, heads, N, N]."""
        shape = stage_shapes(self._spec)[stage]
        own = self._own.get(f"backbone.{name}")
        table = self._frozen[name] if own is None else own
        layout = stage_windows(*shape, table.device)
        masks = (layout.shifted if shifted and layout.shifted else layout.plain).masks
        return spread_table(table, shape.window, masks)[None]
