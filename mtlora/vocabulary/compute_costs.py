"""What computing an encoder's blocks costs, and the windows in which it is divided. Pure numbers, no torch."""

from collections.abc import Iterable
from typing import NamedTuple

from mtlora.vocabulary.adapted_linears import adapted_linears, gives_streams
from mtlora.vocabulary.encoder_shapes import block_linear_sizes
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.spec import PATCH_SIZE, AdapterSpec, PerStageFloat, SharedMode
from mtlora.vocabulary.tasks import Task


class StageGrid(NamedTuple):
    """How the tokens of a stage are divided in windows."""

    side: int  # tokens along a side
    window: int  # tokens along a window's side
    shift: int  # of its odd blocks

    @property
    def windows(self) -> int:
        """Windows of the stage."""
        return (self.side // self.window) ** 2

    def shift_of(self, block: int) -> int:
        """Tokens by which a block's windows are shifted."""
        return self.shift if block % 2 else 0


StageGrids = tuple[StageGrid, StageGrid, StageGrid, StageGrid]


def stage_grids(spec: AdapterSpec, side_px: int = 0) -> StageGrids:
    """The windows of stages 0..3 for an input of so many pixels a side; 0: the set's own.

    At a side that is no multiple of 32 patch merging pads, so sides are rounded up.
    """
    side = (side_px or spec.image_size) // PATCH_SIZE
    grids = []
    for largest in spec.backbone.window_sides(spec.image_size):
        window = min(side, largest)
        if side % window:
            raise SpecError(f"{side_px or spec.image_size} px: windows of {window} do not tile {side} tokens")
        grids.append(StageGrid(side, window, window // 2 if side > largest else 0))
        side = (side + 1) // 2
    first, second, third, fourth = grids
    return first, second, third, fourth


class ComputeCosts(NamedTuple):
    """What blocks cost when all their windows are computed, in any unit: multiply-adds, milliseconds, …

    A window costs its share of the block. What is always computed (patch embedding, merging, decoders) is not in it.
    """

    blocks: tuple[tuple[float, ...], ...]
    """Of stages 0..3, block by block: the shared path."""
    streams: dict[Task, PerStageFloat]
    """What a task's own stream through the last block of stages 0..3 adds; a task that is missing adds nothing."""

    def all_blocks(self, tasks: Iterable[Task]) -> float:
        """What a plain pass for these tasks costs."""
        return sum(map(sum, self.blocks)) + sum(sum(self.streams.get(task, ())) for task in tasks)

    def checked(self, spec: AdapterSpec) -> "ComputeCosts":
        """These costs, if they are ones of such an encoder: positive, one number a block."""
        depths = tuple(len(stage) for stage in self.blocks)
        if depths != spec.backbone.depths:
            raise SpecError(f"costs are of {depths} blocks in the stages, the encoder has {spec.backbone.depths}")
        wrong = [cost for stage in self.blocks for cost in stage if not 0 < cost < float("inf")]
        wrong += [cost for stages in self.streams.values() for cost in stages if not 0 <= cost < float("inf")]
        if wrong:
            raise SpecError(f"costs must be above 0 and finite, those of streams may be 0; got {wrong[0]}")
        return self


def multiply_adds(spec: AdapterSpec, side_px: int = 0) -> ComputeCosts:
    """Costs as multiply-adds of matrix products: linears, attention, and the tasks' pairs.

    Shared pairs count as part of the weights, into which the engine merges them; norms and the like count nothing.
    """
    grids = stage_grids(spec, side_px)
    blocks = []
    for stage, (depth, grid) in enumerate(zip(spec.backbone.depths, grids, strict=True)):
        dim = spec.backbone.stage_dims[stage]
        linears = sum(out * inp for out, inp in block_linear_sizes(spec.backbone, stage).values())
        blocks.append([grid.side**2 * (linears + 2.0 * grid.window**2 * dim)] * depth)
    return _with_task_pairs(spec, blocks, [float(grid.side**2) for grid in grids])


def mlp_parts(spec: AdapterSpec, side_px: int = 0) -> PerStageFloat:
    """The MLP's part of a block's multiply-adds, pairs aside, in stages 0..3."""
    first, second, third, fourth = (
        _mlp_part(block_linear_sizes(spec.backbone, stage), grid.window, spec.backbone.stage_dims[stage])
        for stage, grid in enumerate(stage_grids(spec, side_px))
    )
    return first, second, third, fourth


def _mlp_part(linears: dict[str, tuple[int, int]], window: int, dim: int) -> float:
    mlp = sum(out * inp for name, (out, inp) in linears.items() if name.startswith("mlp."))
    return mlp / (sum(out * inp for out, inp in linears.values()) + 2.0 * window**2 * dim)


def _with_task_pairs(spec: AdapterSpec, blocks: list[list[float]], tokens: list[float]) -> ComputeCosts:
    """The tasks' pairs belong to their block where the shared path needs them; else to the streams that are read."""
    streams: dict[Task, list[float]] = {task: [0.0] * 4 for task in spec.task_names}
    for linear in adapted_linears(spec):
        if linear.block is None or not gives_streams(spec, linear.stage, linear.block):
            continue
        of_rank = tokens[linear.stage] * (linear.in_features + linear.out_features)
        for task, pair in zip(spec.task_names, linear.tasks, strict=False):  # none where it does not split
            if pair is not None and spec.mode is SharedMode.ADDITION:
                blocks[linear.stage][linear.block] += of_rank * pair.rank
            elif pair is not None:
                streams[task][linear.stage] += of_rank * pair.rank
    return ComputeCosts(tuple(map(tuple, blocks)), {task: (s[0], s[1], s[2], s[3]) for task, s in streams.items()})
