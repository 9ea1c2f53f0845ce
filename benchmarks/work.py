"""How much a forward pass has to compute, by formula: what a roofline needs to know."""

from collections.abc import Sequence

from mtlora.model.decoders.hrnet import EXPANSION
from mtlora.vocabulary.spec import IN_CHANNELS, PATCH_SIZE, AdapterSpec
from mtlora.vocabulary.tasks import Task


def useful_gflop(spec: AdapterSpec, tasks: Sequence[Task]) -> float:
    """Multiplications and additions, in thousands of millions, of one image; mode `matrix`, hrnet decoders.

    What cannot be avoided: shared pairs merged where they can be, decoders at the coarse scales, patch merging's
    reduction composed with the tasks' projections. Element-wise work and layer norms are not counted.
    """
    total = 0.0
    sides, windows = spec.backbone.stage_sides(spec.image_size), spec.backbone.window_sides(spec.image_size)
    ranks = [spec.task(task).ranks for task in tasks]
    total += sides[0] ** 2 * IN_CHANNELS * PATCH_SIZE**2 * spec.backbone.embed_dim
    for stage, (width, depth) in enumerate(zip(spec.backbone.stage_dims, spec.backbone.depths, strict=True)):
        tokens, hidden = sides[stage] ** 2, int(width * spec.backbone.mlp_ratio)
        linears = 4 * width * width + 2 * width * hidden
        ends = 2 * width + 2 * (width + hidden)  # inputs and outputs of proj, fc1 and fc2
        total += depth * tokens * (linears + 2 * windows[stage] ** 2 * width)
        total += tokens * ends * (spec.ranks[stage] + sum(rank[stage] for rank in ranks))
        channels = spec.decoder_channels[stage]
        if stage < len(sides) - 1:
            total += tokens / 4 * 4 * width * (2 * width + len(tasks) * channels)
        else:
            total += tokens * width * len(tasks) * channels
    for task in tasks:
        mixed = EXPANSION * sum(spec.decoder_channels)
        sizes = [side**2 for side in spec.backbone.feature_sides(spec.image_size)]
        total += mixed * sum(size * c for size, c in zip(sizes, spec.decoder_channels, strict=True))
        total += sizes[0] * mixed * spec.task(task).outputs
    return 2 * total / 1e9
