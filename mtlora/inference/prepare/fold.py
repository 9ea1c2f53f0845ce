"""Folding: the tensors of a backbone and an adapter set become what the engine computes with.

Everything that can be computed before the first image is: pairs merged into weights (if wanted), scalings into their B,
position bias tables spread over token pairs, patch merging's reduction composed with each task's projection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mtlora.inference.forward.windows import relative_positions, stage_shapes, stage_windows
from mtlora.inference.prepare.int8 import IntegerWeight
from mtlora.inference.prepare.layers import Block, Encoder, Linear, Merging, Norm, Pair, Stage, TaskLinear, TaskPairs
from mtlora.model.swin import fitted_table
from mtlora.vocabulary.adapted_linears import AdaptedLinear, PairSpec, adapted_linears, gives_streams
from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS, MERGING_LINEAR
from mtlora.vocabulary.spec import AdapterSpec


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


@lru_cache(maxsize=16)
def _adapted_by_name(spec: AdapterSpec) -> Mapping[str, AdaptedLinear]:
    """Kept for the shapes seen last: a set is folded beside the engine, which waits for the interpreter meanwhile."""
    return {linear.name: linear for linear in adapted_linears(spec)}


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
        self._adapted = _adapted_by_name(spec)

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
        name = f"layers.{stage + 1}.{MERGING_LINEAR}"
        if f"{name}.weight" not in self._frozen:
            return Stage(blocks, None, projection[None])
        reduction = self._linear(name, merge=self._merge)
        merging = Merging(self._norm(f"layers.{stage + 1}.downsample.norm"), reduction)
        if gives_streams(self._spec, stage, depth - 1):
            # in memory as `ops.merged_projection` likes it best
            projection = (self._merged(name).T @ projection.mT).mT
        return Stage(blocks, merging, projection[None])

    def _block(self, stage: int, number: int) -> Block:
        name = f"layers.{stage}.blocks.{number}"
        linear = self._task_linear if gives_streams(self._spec, stage, number) else self._linear
        block = Block(
            norm1=self._norm(f"{name}.norm1"),
            qkv=self._linear(f"{name}.attn.qkv"),
            position=self._position(f"{name}.attn.relative_position_bias_table", stage, shifted=number % 2 == 1),
            proj=linear(f"{name}.attn.proj"),
            norm2=self._norm(f"{name}.norm2"),
            fc1=linear(f"{name}.mlp.fc1"),
            fc2=linear(f"{name}.mlp.fc2"),
        )
        return merge_pairs(block) if self._merge else block

    def _linear(self, name: str, *, merge: bool = False) -> Linear:
        """A linear without task pairs."""
        bias = self._parameter(f"{name}.bias") if f"{name}.bias" in self._frozen else None
        pair = self._shared_pair(name)
        if pair is not None and merge:
            return Linear(self._merged(name)[None], bias)
        return Linear(self._parameter(f"{name}.weight"), bias, pair)

    def _task_linear(self, name: str) -> Linear | TaskLinear:
        """A linear with task pairs, if it has them."""
        linear, adapted = self._linear(name), self._adapted.get(name)
        if adapted is None or not adapted.splits:
            return linear
        norm = self._norm(f"{name}.norm") if adapted.norm else None
        return TaskLinear(linear, self._task_pairs(adapted), adapted.base_has_pair, norm)

    def _task_pairs(self, adapted: AdaptedLinear) -> TaskPairs:
        like, tasks = self._frozen[f"{adapted.name}.weight"], len(adapted.tasks)
        rank = self._task_rank(adapted)
        a = like.new_zeros(1, tasks, rank, adapted.in_features)
        b = like.new_zeros(1, tasks, rank, adapted.out_features).mT  # the layout that `ops` likes best
        for index, spec in enumerate(adapted.tasks):
            if spec is not None:
                pair = self._pair(spec)
                a[0, index, : spec.rank], b[0, index, :, : spec.rank] = pair.a[0], pair.b[0]
        return TaskPairs(a, b)

    def _task_rank(self, adapted: AdaptedLinear) -> int:
        """To which the tasks' pairs are padded: the kernels want the same in all linears of a block."""
        block = f"layers.{adapted.stage}.blocks.{adapted.block}."
        linears = (self._adapted.get(f"{block}{linear}") for linear in BLOCK_LINEARS)
        return max(linear.task_rank for linear in linears if linear is not None)

    def _shared_pair(self, name: str) -> Pair | None:
        adapted = self._adapted.get(name)
        return None if adapted is None or adapted.shared is None else self._pair(adapted.shared)

    def _pair(self, spec: PairSpec) -> Pair:
        scaling = self._own[f"{spec.name}.scaling"] if spec.learned_scaling else spec.scaling
        return Pair(self._own[f"{spec.name}.lora_a"][None], (self._own[f"{spec.name}.lora_b"] * scaling)[None])

    def _merged(self, name: str) -> Tensor:
        """Weight with its shared pair, if there is one: float [out, in]."""
        weight = self._parameter(f"{name}.weight")
        weight = weight[0] if weight.ndim == 3 else weight
        pair = self._shared_pair(name)
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
