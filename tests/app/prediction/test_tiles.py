"""Passes of tiles, put together."""

import pytest
import torch

from app.engine.work_item import Forwarded
from app.prediction.tiles import put_together
from mtlora.images.tiles import Grid
from mtlora.maps.blending import blend
from mtlora.vocabulary.tasks import Task


def test_scores_are_blended_times_span_the_passes_and_shares_are_means() -> None:
    scores = [torch.randn(2, 8, 8), torch.randn(2, 8, 8)]
    passes = [
        Forwarded({Task.SEMSEG: scores[0]}, 0.5, 1.0, 4, 2, 0.5),
        Forwarded({Task.SEMSEG: scores[1]}, 0.25, 2.0, 3, 3, 1.0),
    ]
    whole = put_together(passes, Grid(2, 1))
    torch.testing.assert_close(whole.logits[Task.SEMSEG], blend(scores, Grid(2, 1)))
    assert (whole.queue_s, whole.forward_s) == (0.25, 2.0)
    assert (whole.batch_images, whole.batch_adapters) == (4, 3)
    assert whole.share == pytest.approx(0.75)
    assert whole.tiles == tuple(passes)
