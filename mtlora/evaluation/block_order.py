"""The order in which blocks can be left out of a set's encoder with the least harm, measured without labels."""

from collections.abc import Callable, Sequence
from itertools import starmap

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.data.records import PhotoDataset
from mtlora.images.opening import open_photo
from mtlora.inference import Query, make_backend
from mtlora.model.gates import Gates, StageGates
from mtlora.model.policy.fixed import Block, all_blocks
from mtlora.ops.preprocess import preprocess
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.options import FormKind
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import TRAITS, Decode, Task
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.backbone import Backbone

Harms = dict[Task, float]
Progress = Callable[[int, int], None]

_AT_ONCE = 8  # photos of a pass


def order_of_blocks(
    backbone: Backbone,
    adapter: AdapterSet,
    photos: PhotoDataset,
    *,
    progress: Progress = lambda _done, _total: None,
) -> list[Block]:
    """Every block, the first to be left out first.

    One after the other the block is closed that, with those before it, changes the logits of all tasks least for what
    it costs. A task's change counts as a multiple of what closing one block alone does to it on average. So n blocks
    take n (n + 1) / 2 passes of every photo.
    """
    if not len(photos):
        raise DataError(f"{photos.root} has no photos to measure on")
    measure = _Measure(backbone, adapter, photos)
    blocks, costs = all_blocks(measure.spec), multiply_adds(measure.spec).blocks
    total, done = len(blocks) * (len(blocks) + 1) // 2, 0
    closed: list[Block] = []
    usual: Harms = {}
    harm_before = 0.0
    while len(closed) < len(blocks):
        harms: dict[Block, Harms] = {}
        for block in blocks:
            if block not in closed:
                harms[block] = measure.harm([*closed, block])
                done += 1
                progress(done, total)
        usual = usual or {task: _mean([harm[task] for harm in harms.values()]) for task in measure.spec.task_names}
        sums = {block: sum(harm[task] / usual[task] for task in usual) for block, harm in harms.items()}

        def price(block: Block, sums: dict[Block, float] = sums, before: float = harm_before) -> float:
            return (sums[block] - before) / costs[block[0]][block[1]]

        best = min(sums, key=price)
        closed.append(best)
        harm_before = sums[best]
    return closed


def without(spec: AdapterSpec, closed: Sequence[Block], images: int = 1) -> Gates:
    """Gates of so many images with these blocks closed."""
    first, second, third, fourth = (
        torch.tensor([[(stage, index) not in closed for index in range(depth)]]).expand(images, -1)
        for stage, depth in enumerate(spec.backbone.depths)
    )
    return (
        StageGates(first, None, {}),
        StageGates(second, None, {}),
        StageGates(third, None, {}),
        StageGates(fourth, None, {}),
    )


def harm_of(task: Task, whole: Tensor, changed: Tensor) -> float:
    """How far logits, float [K, h, w], are from those of a whole pass: a mean over pixels, 0 where nothing changed.

    Classes: divergence of their probabilities (nats). Saliency and edges: difference of probabilities. Normals: 1 less
    the cosine. Depth: difference.
    """
    one, other = whole.float(), changed.float()
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            apart = (one.softmax(0) * (one.log_softmax(0) - other.log_softmax(0))).sum(dim=0)
        case Decode.SIGMOID:
            apart = (one.sigmoid() - other.sigmoid()).abs()
        case Decode.UNIT_VECTOR:
            apart = 1 - F.cosine_similarity(one, other, dim=0)
        case Decode.IDENTITY:
            apart = (one - other).abs()
    return float(apart.mean())


class _Measure:
    """Passes of the photos with blocks closed, against whole ones."""

    def __init__(self, backbone: Backbone, adapter: AdapterSet, photos: PhotoDataset) -> None:
        self.spec = adapter.manifest.spec
        self._backend = make_backend(backbone, FormKind.MERGED)
        self._resident = self._backend.prepare(adapter)
        self._pixels = [preprocess(open_photo(record.photo), self.spec) for record in photos.records]
        self._whole = self._passes(None)

    def harm(self, closed: Sequence[Block]) -> Harms:
        """Means over the photos."""
        changed = self._passes(without(self.spec, closed))
        return {
            task: _mean(
                list(starmap(lambda w, c, t=task: harm_of(t, w[t], c[t]), zip(self._whole, changed, strict=True)))
            )
            for task in self.spec.task_names
        }

    def _passes(self, gates: Gates | None) -> list[dict[Task, Tensor]]:
        queries = [Query(self._resident, pixels, self.spec.task_names, gates) for pixels in self._pixels]
        batches = [queries[at : at + _AT_ONCE] for at in range(0, len(queries), _AT_ONCE)]
        return [logits for batch in batches for logits in self._backend.forward(batch)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) or 1e-12  # what nothing changes is divided by
