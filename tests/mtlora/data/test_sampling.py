import numpy as np
import pytest
import torch

from mtlora.data.sampling import class_weights, draw, repeat_factors, shuffled, step_generator
from mtlora.vocabulary.errors import TrainingError


def test_a_step_always_draws_the_same() -> None:
    weights = np.ones(100)
    first, again = (draw(weights, 8, step_generator(3, 17)) for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != draw(weights, 8, step_generator(3, 18)).tolist()
    assert first.tolist() != draw(weights, 8, step_generator(3, 17, rank=1)).tolist()


def test_weights_decide_how_often() -> None:
    drawn = draw(np.array([0.0, 1.0, 3.0]), 4000, step_generator(0, 0))
    assert (drawn == 0).sum() == 0
    assert (drawn == 2).mean() == pytest.approx(0.75, abs=0.03)
    with pytest.raises(TrainingError, match="not all 0"):
        draw(np.zeros(3), 1, step_generator(0, 0))


def test_photos_of_rare_classes_are_repeated() -> None:
    pixels = np.zeros((100, 2), dtype=np.int64)
    pixels[:, 0] = 10
    pixels[0, 1] = 5  # class 1 is in 1 % of the photos, 4 % are wanted: sqrt(4) = 2
    factors = repeat_factors(pixels, wanted_share=0.04)
    assert factors[0] == pytest.approx(2.0)
    assert (factors[1:] == 1).all()


def test_class_weights_have_mean_one_over_pixels() -> None:
    pixels = np.array([[900, 100, 0]])
    assert torch.equal(class_weights(pixels, 0.0), torch.ones(3))
    weights = class_weights(pixels, 0.5)
    assert weights[1] / weights[0] == pytest.approx(3.0)
    assert float((weights[:2] * torch.tensor([0.9, 0.1])).sum()) == pytest.approx(1.0)
    assert torch.isfinite(weights).all()


def test_a_pass_shows_every_photo_once_in_an_order_of_its_own() -> None:
    photos = np.array([3, 5, 8, 9, 11])
    drawn = np.concatenate([shuffled(photos, 2, seed=1, step=step) for step in range(10)])  # four passes
    passes = drawn.reshape(4, 5)
    assert all(sorted(each) == photos.tolist() for each in passes)
    assert len({tuple(each) for each in passes}) > 1
    assert shuffled(photos, 2, seed=1, step=7).tolist() == drawn[14:16].tolist()
    assert drawn.tolist() != np.concatenate([shuffled(photos, 2, seed=2, step=s) for s in range(10)]).tolist()
    with pytest.raises(TrainingError, match="no labelled photo"):
        shuffled(photos[:0], 2, seed=1, step=0)
