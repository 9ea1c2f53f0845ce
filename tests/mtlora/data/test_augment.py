import dataclasses
import math

import numpy as np
import pytest
import torch

from mtlora.data.array_store import PhotoArrays
from mtlora.data.augment import (
    AugmentConfig,
    Geometry,
    change_colours,
    draw_colours,
    draw_geometry,
    make_batch,
    make_target,
    still,
    turn_normals,
)
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task
from testing.label_shapes import SIDE, generator, paraboloid


def paraboloid_shelves(count: int = 4) -> PhotoArrays:
    return PhotoArrays.of(paraboloid(count))


def test_no_augmentation_changes_nothing() -> None:
    cache = paraboloid()
    batch = make_batch(PhotoArrays.of(cache), np.arange(4), SIDE, still(), generator())
    torch.testing.assert_close(batch.photos * 255, torch.from_numpy(cache.photos).float(), rtol=0, atol=1e-3)
    assert torch.equal(batch.targets[Task.SEMSEG], torch.from_numpy(cache.labels[Task.SEMSEG]).long()[:, 0])


@pytest.mark.parametrize("flip", [False, True])
def test_normals_turn_with_the_picture(flip: bool) -> None:
    """On a dome the normal's direction in the picture is the direction from the dome's centre, however it is turned."""
    config = AugmentConfig(flip=flip, rotate_deg=40, scale=(1.0, 1.0))
    batch = make_batch(paraboloid_shelves(8), np.arange(8), SIDE, config, generator(3))
    normals = batch.targets[Task.NORMALS]
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    valid = (normals != 0).any(dim=1) & ((x.abs() + y.abs()) > 0.3)
    outward = torch.stack([x * 1.5, y]) / torch.hypot(x * 1.5, y)
    inside = normals[:, :2] / normals[:, :2].norm(dim=1, keepdim=True).clamp(min=1e-6)
    cosine = (inside * outward).sum(dim=1)[valid]
    assert cosine.min() > 0.97
    assert valid.float().mean() > 0.5


def test_a_flip_mirrors_photo_labels_and_normals() -> None:
    cache = paraboloid_shelves(1)
    config = AugmentConfig(rotate_deg=0, scale=(1.0, 1.0))
    seed = next(s for s in range(20) if draw_geometry(torch.ones(1), config, generator(s)).theta[0, 0, 0] < 0)
    batch = make_batch(cache, np.array([0]), SIDE, config, generator(seed))
    plain = make_batch(cache, np.array([0]), SIDE, still(), generator())
    torch.testing.assert_close(batch.photos, plain.photos.flip(-1), rtol=0, atol=1e-5)
    assert torch.equal(batch.targets[Task.SEMSEG], plain.targets[Task.SEMSEG].flip(-1))
    mirrored = plain.targets[Task.NORMALS].flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(batch.targets[Task.NORMALS], mirrored, rtol=0, atol=1e-5)


def test_photo_and_label_stay_together() -> None:
    """Class 15 lies where channel 0 is above its middle; after any geometry it still does."""
    config = AugmentConfig(rotate_deg=30, scale=(0.7, 1.6), stretch=1.3)
    batch = make_batch(paraboloid_shelves(16), np.arange(16), SIDE, config, generator(1))
    labels, red = batch.targets[Task.SEMSEG], batch.photos[:, 0]
    clear = (labels != 255) & ((red - 0.5).abs() > 0.04) & (batch.photos[:, 1] > 0.1)
    assert ((labels == 15) == (red > 0.5))[clear].float().mean() > 0.99


def test_rotation_keeps_right_angles_of_a_wide_photo() -> None:
    geometry = draw_geometry(torch.tensor([2.0]), AugmentConfig(flip=False, rotate_deg=30, scale=(1, 1)), generator())
    to_square = torch.diag(torch.tensor([2.0, 1.0]))  # cached coordinates to ones with square pixels
    linear = to_square @ geometry.theta[0, :, :2] @ torch.linalg.inv(to_square)
    torch.testing.assert_close(linear @ linear.T, torch.eye(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(geometry.turn[0] @ linear, torch.eye(2), rtol=0, atol=1e-5)


def test_what_lies_outside_is_ignored() -> None:
    config = AugmentConfig(flip=False, rotate_deg=0, scale=(0.5, 0.5))
    batch = make_batch(paraboloid_shelves(2), np.arange(2), SIDE, config, generator())
    assert (batch.targets[Task.SEMSEG][:, 0] == 255).all()
    assert (batch.targets[Task.NORMALS][:, :, 0] == 0).all()
    assert (batch.targets[Task.SEMSEG] != 255).float().mean() == pytest.approx(0.25, abs=0.05)


def test_an_unknown_label_is_ignored_everywhere() -> None:
    grid = Geometry(torch.eye(2, 3)[None], torch.eye(2)[None], torch.ones(1)).grid(4, 4)
    inside, unknown = torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.tensor([False])
    stored = torch.full((1, 1, 4, 4), 128, dtype=torch.uint8)
    assert (make_target(Task.HUMAN_PARTS, stored, unknown, grid, inside) == 255).all()
    assert (make_target(Task.SALIENCY, stored, unknown, grid, inside) == -1).all()
    assert (make_target(Task.DEPTH, stored, unknown, grid, inside) == 0).all()


def test_a_known_plane_by_hand() -> None:
    """A floor (0, -1, 0) in a picture turned by 90 degrees clockwise on screen becomes a wall (1, 0, 0)."""
    floor = torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1)
    clockwise = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])  # y points down: up goes to the right
    assert turn_normals(floor, clockwise).flatten().tolist() == [1.0, 0.0, 0.0]


def test_depth_shrinks_with_the_zoom() -> None:
    """A wall two metres away that is seen 1.25 times as large is 1.6 metres away."""
    wall = np.full((2, 1, SIDE, SIDE), 2000, dtype=np.uint16)
    cache = dataclasses.replace(paraboloid(2), labels={Task.DEPTH: wall}, known={Task.DEPTH: np.ones(2, bool)})
    config = AugmentConfig(flip=False, rotate_deg=0, scale=(1.25, 1.25))
    depth = make_batch(PhotoArrays.of(cache), np.arange(2), SIDE, config, generator()).targets[Task.DEPTH]
    torch.testing.assert_close(depth, torch.full((2, 1, SIDE, SIDE), 1.6))


def test_colours_stay_in_range_and_grey_is_grey() -> None:
    photos = torch.rand(4, 3, 8, 8, generator=generator())
    changed = change_colours(photos, draw_colours(4, AugmentConfig(jitter=0.9, grey=1.0), generator()))
    assert changed.min() >= 0 and changed.max() <= 1
    torch.testing.assert_close(changed[:, 0], changed[:, 1])
    assert change_colours(photos, draw_colours(4, AugmentConfig(), generator())) is photos


def test_the_same_generator_gives_the_same_batch() -> None:
    config = AugmentConfig(jitter=0.4, grey=0.2, stretch=1.2)
    one, two = (make_batch(paraboloid_shelves(), np.array([2, 0]), SIDE, config, generator(7)) for _ in range(2))
    assert torch.equal(one.photos, two.photos)
    assert one.indices.tolist() == [0, 2]


def test_parts_of_a_batch_are_those_of_the_whole() -> None:
    """However many processes share a step, it sees the same photos in the same way."""
    config = AugmentConfig(jitter=0.4, grey=0.2, stretch=1.2)
    indices = np.array([2, 0, 3, 1])
    whole = make_batch(paraboloid_shelves(), indices, SIDE, config, generator(7))
    for first in (0, 1):
        part = make_batch(paraboloid_shelves(), indices, SIDE, config, generator(7), keep=slice(first, None, 2))
        assert part.indices.tolist() == whole.indices[first::2].tolist()
        torch.testing.assert_close(part.photos, whole.photos[first::2])
        torch.testing.assert_close(part.targets[Task.NORMALS], whole.targets[Task.NORMALS][first::2])


def test_grid_over_the_border() -> None:
    grid = Geometry(torch.eye(2, 3)[None], torch.eye(2)[None], torch.ones(1)).grid(4, 4, extent=4 * 32 / 112)
    assert grid[0, 0, 0, 0].item() == pytest.approx(16 / 112 * 2 - 1)
    assert grid[0, 0, 3, 0].item() == pytest.approx(112 / 112 * 2 - 1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"positive range, got \(1.2, 0.8\)"):
        AugmentConfig(scale=(1.2, 0.8))
    with pytest.raises(TrainingError, match="out of range"):
        AugmentConfig(rotate_deg=math.inf)
