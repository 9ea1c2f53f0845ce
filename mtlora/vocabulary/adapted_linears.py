"""Which linear of the encoder has which low-rank pair: the one place that says so (paper, sections 3.2 and 3.3).

Injection, tensor shapes, folding, packing and conversion all walk `adapted_linears(spec)` and ask the values it gives.
So what a linear or a pair may have besides (another rank, one more tensor) is a field here, its tensors' names and
shapes in `tensors`, and a rule of how to fold and pack it. Pure: no torch is imported.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS, MERGING_LINEAR, block_linear_sizes, merging_linear_size
from mtlora.vocabulary.spec import AdapterSpec, SharedMode, TaskSpec

NamedShapes = Iterator[tuple[str, tuple[int, ...]]]

_SHARED_INPUT_ONLY = "attn.qkv"  # attention is computed once for all tasks
_STREAM_GIVERS = frozenset(
    {"attn.proj", "mlp.fc2"}
)  # what they give is added to the residual; a stream is made of that
_LORA_A = re.compile(
    rf"backbone\.layers\.(?P<stage>\d+)\.(?:blocks\.\d+\.(?:{'|'.join(map(re.escape, BLOCK_LINEARS))})"
    rf"|(?P<merging>{re.escape(MERGING_LINEAR)}))\.(?P<owner>shared|tasks\.\w+)\.lora_a"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpec:
    """One low-rank pair of a linear: scaling · B A x with A [rank, in] and B [out, rank]."""

    name: str  # what its tensors' names begin with: `backbone.layers.0.blocks.1.mlp.fc1.tasks.semseg`
    in_features: int
    out_features: int
    rank: int  # at least 1: without rank there is no pair
    scaling: float  # with `learned_scaling` only where it starts
    learned_scaling: bool  # scaling is a tensor

    def tensors(self) -> NamedShapes:
        """Names and shapes of its tensors, in the order of a model's."""
        yield f"{self.name}.lora_a", (self.rank, self.in_features)
        yield f"{self.name}.lora_b", (self.out_features, self.rank)
        if self.learned_scaling:
            yield f"{self.name}.scaling", (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptedLinear:
    """A linear that a spec adapts, with its pairs; W x + b below is its frozen product, always of the shared input."""

    stage: int  # by the paper's count, which patch merging ends; whose ranks it has
    block: int | None  # None: patch merging, which is in no block
    linear: str  # one of `BLOCK_LINEARS`, or `MERGING_LINEAR`
    in_features: int
    out_features: int
    shared: PairSpec | None  # None: rank 0 of this linear; mode `addition` has none where tasks have outputs
    specialised: bool  # it lies where tasks get outputs of their own, in any mode that knows such
    splits: bool  # every task gets an output of its own: a base plus its pair's
    tasks: tuple[PairSpec | None, ...]  # of the set's tasks in turn, empty unless it splits; None: rank 0, base alone
    base_has_pair: bool  # mode `matrixv2`: the tasks' base is the shared output; else it is W x + b
    norm: bool  # mode `addition`: the shared output is W x + b + LayerNorm(sum of the tasks' outputs)

    @property
    def name(self) -> str:
        """As the backbone's tensors have it (timm's): `layers.2.blocks.1.mlp.fc1`."""
        return _name(self.stage, self.block, self.linear)

    @property
    def prefix(self) -> str:
        """What names of its tensors begin with in a model and in an adapter file."""
        return f"backbone.{self.name}"

    @property
    def pairs(self) -> tuple[PairSpec, ...]:
        """All that there are: the shared one, then the tasks'."""
        return tuple(pair for pair in (self.shared, *self.tasks) if pair is not None)

    @property
    def task_rank(self) -> int:
        """To which the tasks' pairs are padded where they are computed together; at least 1."""
        return max((pair.rank for pair in self.tasks if pair is not None), default=1)

    def tensors(self) -> NamedShapes:
        """Names and shapes of what an adapter set has below this linear, in the order of a model's tensors."""
        if self.norm:
            yield f"{self.prefix}.norm.weight", (self.out_features,)
            yield f"{self.prefix}.norm.bias", (self.out_features,)
        for pair in self.pairs:
            yield from pair.tensors()


def adapted_linears(spec: AdapterSpec) -> Iterator[AdaptedLinear]:
    """Every linear that has pairs, in the order of the encoder's tensors: patch merging lies before the next stage."""
    for stage, depth in enumerate(spec.backbone.depths):
        if stage > 0 and spec.adapt_reduction and spec.ranks[stage - 1]:
            yield _adapted(spec, stage - 1, None, MERGING_LINEAR, merging_linear_size(spec.backbone, stage - 1))
        for block in range(depth):
            yield from _of_block(spec, stage, block)


def rank_problems(spec: AdapterSpec) -> list[str]:
    """What is wrong with the ranks of single linears: no such pair, or the rank that the stage has anyway."""
    linears = list(adapted_linears(spec))
    return [
        *_rank_problems("shared", spec, [linear for linear in linears if not linear.norm]),
        *(
            problem
            for task in spec.tasks
            for problem in _rank_problems(f"task {task.task}", task, [linear for linear in linears if linear.splits])
        ),
    ]


def _rank_problems(owner: str, ranked: AdapterSpec | TaskSpec, linears: list[AdaptedLinear]) -> Iterator[str]:
    stages = {linear.name: linear.stage for linear in linears}
    for name, rank in ranked.linear_ranks:
        if name not in stages:
            like = f"pairs are at {next(iter(stages))} and such" if stages else "there are none"
            yield f"linear_ranks, {owner}: no pair belongs at {name!r} ({like})"
        elif rank == ranked.ranks[stages[name]]:
            yield f"linear_ranks, {owner}: {name} has rank {rank} from its stage already, leave it out"


def gives_streams(spec: AdapterSpec, stage: int, block: int) -> bool:
    """Whether a block's tasks get features of their own that are read.

    They are read at the end of a stage; in mode `addition` in any block, where they shape its shared output.
    """
    last = block == spec.backbone.depths[stage] - 1
    if not last and spec.mode is not SharedMode.ADDITION:
        return False
    return any(linear.splits for linear in _of_block(spec, stage, block) if linear.linear in _STREAM_GIVERS)


class PairPlace(NamedTuple):
    """Whose pair a tensor belongs to. owner: `shared`, or `tasks.` and a task."""

    stage: int
    owner: str


def place_of_lora_a(tensor: str) -> PairPlace | None:
    """What the name of a pair's first tensor tells without a spec; None: it is no such tensor."""
    match = _LORA_A.fullmatch(tensor)
    return match and PairPlace(int(match["stage"]) - (match["merging"] is not None), match["owner"])


def _of_block(spec: AdapterSpec, stage: int, block: int) -> Iterator[AdaptedLinear]:
    if not spec.ranks[stage]:
        return
    switches = dict(zip(BLOCK_LINEARS, (spec.adapt_qkv, spec.adapt_proj, spec.adapt_fc1, spec.adapt_fc2), strict=True))
    for linear, size in block_linear_sizes(spec.backbone, stage).items():
        if switches[linear]:
            yield _adapted(spec, stage, block, linear, size)


def _adapted(spec: AdapterSpec, stage: int, block: int | None, linear: str, size: tuple[int, int]) -> AdaptedLinear:
    """The rule. size: (out, in)."""
    last = block == spec.backbone.depths[stage] - 1
    in_task_block = block is not None and (last or spec.intermediate_specialization)
    specialised = in_task_block and linear != _SHARED_INPUT_ONLY
    splits = specialised and spec.mode is not SharedMode.LORA_ONLY
    norm = splits and spec.mode is SharedMode.ADDITION
    linear_name = _name(stage, block, linear)
    name = f"backbone.{linear_name}"
    out_features, in_features = size

    def pair(owner: str, rank: int, scaling: float, learned: bool) -> PairSpec | None:
        return PairSpec(
            name=f"{name}.{owner}",
            in_features=in_features,
            out_features=out_features,
            rank=rank,
            scaling=scaling,
            learned_scaling=learned,
        ) if rank else None  # fmt: skip

    return AdaptedLinear(
        stage=stage,
        block=block,
        linear=linear,
        in_features=in_features,
        out_features=out_features,
        shared=None
        if norm
        else pair("shared", _rank(spec, stage, linear_name), spec.scaling[stage], spec.learned_scaling),
        specialised=specialised,
        splits=splits,
        tasks=tuple(
            pair(f"tasks.{task.task}", _rank(task, stage, linear_name), task.scaling[stage], spec.learned_task_scaling)
            for task in (spec.tasks if splits else ())
        ),
        base_has_pair=splits and spec.mode is SharedMode.MATRIX_V2,
        norm=norm,
    )


def _rank(of: AdapterSpec | TaskSpec, stage: int, linear: str) -> int:
    """Of the pair at a linear, by its name without `backbone.`."""
    return dict(of.linear_ranks).get(linear, of.ranks[stage])


def _name(stage: int, block: int | None, linear: str) -> str:
    # the paper counts a merging to the stage that it ends; timm keeps it at the start of the next one
    return f"layers.{stage + 1}.{linear}" if block is None else f"layers.{stage}.blocks.{block}.{linear}"
