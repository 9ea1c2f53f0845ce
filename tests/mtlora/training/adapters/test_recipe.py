import dataclasses
from typing import Any

import pytest

from mtlora.training.adapters.recipe import (
    LEAST_LR,
    LOOKS,
    PUBLISHED_EPOCHS,
    SIZES,
    Recipe,
    RecipeName,
    Situation,
    affordable_steps,
    doubts,
    recipe_for,
    settled,
    told,
)
from mtlora.vocabulary.errors import TrainingError


def small(photos: int = 20, **changes: Any) -> Situation:
    return Situation(photos, 1, 2, 224)._replace(**changes)


def auto(found: Situation, **given: Any) -> Recipe:
    return settled(recipe_for(RecipeName.AUTO, found), found, given)


@pytest.mark.parametrize(("photos", "row"), [(1, 0), (20, 0), (30, 0), (31, 1), (100, 1), (200, 2), (401, 3)])
def test_steps_follow_the_size_of_the_data(photos: int, row: int) -> None:
    assert recipe_for(RecipeName.AUTO, small(photos, gpu=True)).steps == SIZES[row].steps


def test_many_photos_are_seen_ten_times() -> None:
    found = small(10_000)
    recipe = auto(found)
    assert recipe.steps * recipe.batch == pytest.approx(10 * found.photos, rel=0.01)
    assert recipe.epochs == pytest.approx(10, rel=0.01)


def test_a_cpu_trains_at_the_sets_side_and_on_each_core() -> None:
    recipe = auto(small())
    assert (recipe.image_side, recipe.processes, recipe.label_stride) == (0, 2, 2)
    assert auto(small(gpu=True)).processes == 1
    assert auto(small(cores=3)).processes == 2  # a batch of 8 has no third part
    assert auto(small(cores=64)).processes == 4


def test_tasks_and_cores_bound_the_steps() -> None:
    many = small(200, tasks=4, cores=1)
    assert auto(many).steps == affordable_steps(4, 224, 8, 1) < auto(small(200)).steps
    assert affordable_steps(20, 448, 16, 1) == 50  # never so few that nothing is learned


def test_what_is_open_follows_what_is_given() -> None:
    recipe = auto(small(), steps=90)
    assert (recipe.warmup, recipe.val_every, recipe.epochs) == (6, 90 // LOOKS, 36.0)
    assert auto(small(), epochs=4.0).steps == 10
    assert auto(small(), steps=0).steps == auto(small()).steps  # 0 was the old way to give none
    assert auto(small(), batch=3).processes == 1  # two have no whole share of it
    assert auto(small(), warmup=0).warmup == 0 and auto(small(), val_every=0).val_every == 0
    with pytest.raises(TrainingError, match="--batch must be at least 1, got 0"):
        auto(small(), batch=0)


def test_the_paper_is_a_recipe() -> None:
    found = small(512)
    recipe = settled(recipe_for(RecipeName.PAPER, found), found, {})
    assert (recipe.epochs, recipe.steps) == (PUBLISHED_EPOCHS, 512 * PUBLISHED_EPOCHS // 16)
    assert recipe.lr == pytest.approx(5e-4 * 16 / 512) and recipe.drop_path == 0.2
    assert recipe.warmup == recipe.steps // 15 and recipe.val_every == 0


@pytest.mark.parametrize("field", ["photos", "tasks", "cores", "side"])
def test_an_empty_situation_is_refused(field: str) -> None:
    with pytest.raises(TrainingError, match=f"at least one photo, task, core and pixel, got .*{field}=0"):
        recipe_for(RecipeName.AUTO, small(**{field: 0}))


def test_a_line_says_why() -> None:
    found, given = small(), {"lr": 2e-3, "batch": None}
    line = told(settled(recipe_for(RecipeName.AUTO, found), found, given), found, given)
    assert line.startswith("recipe auto for 20 photos, 1 task, 2 cores: ")
    assert "peak rate 0.002" in line and line.endswith("2 processes; given: --lr")
    assert told(auto(found), found, {}).endswith("given: nothing")


def test_doubts() -> None:
    found = small()
    assert doubts(auto(found), found, {}) == []
    [low] = doubts(auto(found, lr=LEAST_LR / 2), found, {"lr": LEAST_LR / 2})
    assert low.startswith("the peak learning rate is 5e-06: below 1e-05") and "--lr 0.001 is usual" in low
    [long] = doubts(auto(found, warmup=50), found, {"warmup": 50})
    assert long.startswith("an epoch has 2.5 steps, the warm-up 50: the rate reaches its peak after 20 epochs")
    paper = settled(recipe_for(RecipeName.PAPER, found), found, {})
    assert len(doubts(paper, found, {})) == 1  # 25 steps of warm-up, epochs of 1.25
    rate = dataclasses.replace(paper, lr=0.9 * LEAST_LR)
    assert len(doubts(rate, found, {})) == 2
