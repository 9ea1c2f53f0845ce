"""The encoder's forward pass over folded layers: blocks in window order, all task streams in one tensor."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mtlora.inference.forward import batched_ops as of_items
from mtlora.inference.forward.fused_blocks import FusedBlock
from mtlora.inference.forward.gating import StageGating
from mtlora.inference.forward.stage import Plan, StageFeatures, run_stage
from mtlora.inference.forward.windows import StageShape, merge_gather, patch_gather, raster_gather
from mtlora.inference.prepare.layers import Encoder, Merging, Stage, stacked
from mtlora.vocabulary.spec import PATCH_SIZE


def encode(
    encoders: Sequence[Encoder], images: Tensor, plan: Plan, gating: Sequence[StageGating] | None = None
) -> list[Tensor]:
    """Projected maps of the tasks wanted, finest first.

    encoders: one for each image, of equal shapes, images of one set repeating the same object; or one for all, which
              may hold several sets (see `layers`)
    images:   float [n, 3, S, S]
    gating:   of the stages; None: everything is computed
    returns:  four float [n, T, h, w, c], sides S/8, S/16, S/32, S/32
    """
    return run_stages(encoders, embed(encoders, images, plan), plan, gating)


def embed(encoders: Sequence[Encoder], images: Tensor, plan: Plan) -> Tensor:
    """The patch embedding, which gates may be decided on: float [n, 3, S, S] -> [n, L, C], window by window."""
    first = plan.stages[0]
    x = stacked([e.patches for e in encoders])(_patches(images, first.side, first.window))
    return stacked([e.patch_norm for e in encoders])(x)


def run_stages(
    encoders: Sequence[Encoder], x: Tensor, plan: Plan, gating: Sequence[StageGating] | None
) -> list[Tensor]:
    """All that follows the patch embedding x, which is overwritten; see `encode`."""
    maps = []
    for index, shape in enumerate(plan.stages):
        stages = [_selected(e.stages[index], plan) for e in encoders]
        own = None if gating is None else gating[index]
        features = run_stage([stage.blocks for stage in stages], x, index, plan, own)
        projection = stacked([stage.projection for stage in stages])
        merging = stacked([stage.merging for stage in stages])
        streams = features.streams
        if merging is None:
            source = features.whole_streams()
            maps.append(
                _last_map(projection, _for_all(features.shared) if source is None else source, shape, features.shift)
            )
            break
        following = plan.stages[index + 1]
        x = _merge(merging, features.shared, shape, features.shift, following.window)
        if streams is None:
            maps.append(_last_map(projection, _for_all(x), following, 0))
        else:
            maps.append(_merged_map(merging, projection, streams, features, shape))
    return maps


def _selected(stage: Stage, plan: Plan) -> Stage:
    """The stage with the tensors of the tasks wanted only."""
    if plan.tasks is None:
        return stage
    projection = stage.projection.mT.index_select(1, plan.tasks).mT  # its layout in memory stays
    if plan.all_streams:
        return replace(stage, projection=projection)
    last = stage.blocks[-1]
    if isinstance(last, FusedBlock):
        return replace(stage, projection=projection)  # it is told at its call
    return replace(stage, blocks=(*stage.blocks[:-1], last.of_tasks(plan.tasks)), projection=projection)


def _patches(images: Tensor, side: int, window: int) -> Tensor:
    """Non-overlapping 4 x 4 patches in window order: float [n, 3, S, S] -> [n, side², 48]."""
    rows = images.contiguous().view(len(images), -1, PATCH_SIZE)
    gather = patch_gather(side, window, images.device)
    return rows.index_select(1, gather).view(len(images), side * side, -1)


def _merge(merging: Merging, x: Tensor, shape: StageShape, shift: int, window: int) -> Tensor:
    """Patch merging of the shared path, out in the next stage's order: float [n, L, C] -> [n, L / 4, 2C]."""
    gather = merge_gather(shape.side, shape.window, shift, window, x.device)
    neighbours = x.index_select(1, gather).view(len(x), len(gather) // 4, -1)
    return merging.reduction(merging.norm(neighbours))


def _merged_map(
    merging: Merging, projection: Tensor, streams: Tensor, features: StageFeatures, shape: StageShape
) -> Tensor:
    """Patch merging and projection of every stream: [n, T, h, w, c]."""
    side, window, _ = shape
    gather = merge_gather(side, window, features.shift, 0, projection.device)
    out = of_items.merged_projection(streams, gather, merging.norm, projection, features.entered, features.written)
    return out.view(*out.shape[:2], side // 2, side // 2, -1)


def _for_all(shared: Tensor) -> Tensor:
    """The shared path as every task's stream: float [n, L, C] -> [n, 1, L, C]."""
    return shared[:, None]


def _last_map(projection: Tensor, streams: Tensor, shape: StageShape, shift: int) -> Tensor:
    """Projection of every stream, or of one for every task: float [n, T or 1, L, C] -> [n, T, h, w, c]."""
    projected = torch.matmul(streams, projection.transpose(2, 3))
    gather = raster_gather(shape.side, shape.window, shift, projected.device)
    return projected.index_select(2, gather).view(*projected.shape[:2], shape.side, shape.side, -1)
