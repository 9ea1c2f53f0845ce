"""The passes of one photo's tiles put together: what the engine would have given back for one large pass."""

from collections.abc import Sequence

from app.engine.work_item import Forwarded
from mtlora.images.tiles import Grid
from mtlora.maps.blending import blend


def put_together(passes: Sequence[Forwarded], grid: Grid) -> Forwarded:
    """One photo's scores of those of its tiles, row by row. Takes milliseconds: no work for the event loop.

    Times: from when the first tile waited until it ran, and from then until the last was done. Batches: the largest.
    """
    queue_s = min(one.queue_s for one in passes)
    return Forwarded(
        logits={task: blend([one.logits[task] for one in passes], grid) for task in passes[0].logits},
        queue_s=queue_s,
        forward_s=max(one.queue_s + one.forward_s for one in passes) - queue_s,
        batch_images=max(one.batch_images for one in passes),
        batch_adapters=max(one.batch_adapters for one in passes),
        share=sum(one.share for one in passes) / len(passes),
        tiles=tuple(passes),
    )
