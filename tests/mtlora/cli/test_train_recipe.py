import json
from pathlib import Path
from typing import Any

import pytest

from mtlora.cli.train import make_config
from mtlora.cli.train_options import BY_RECIPE, ScheduleOptions, SetOptions, TrainOptions, ValidationOptions
from mtlora.cli.train_recipe import choose
from mtlora.data.layout import open_dataset
from mtlora.data.records import PhotoDataset
from mtlora.training.adapters.recipe import Recipe
from mtlora.training.run.checkpoint import CHECKPOINT_FILE
from mtlora.vocabulary.errors import TrainingError
from testing.tiny_dataset import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> PhotoDataset:
    return open_dataset(write_dataset(tmp_path / "data"), "train")


def options(dataset: PhotoDataset, **changes: Any) -> TrainOptions:
    fields: dict[str, Any] = {"set": SetOptions(data=dataset.root, out=dataset.root.parent / "run", tasks="semseg")}
    return TrainOptions(**(fields | changes))


def test_every_option_of_a_recipe_is_one_of_the_commands(dataset: PhotoDataset) -> None:
    """None is lost on the way: what a recipe sets can be given, and what is not given is None."""
    assert set(options(dataset).given()) == set(BY_RECIPE) == {f for f in Recipe.__dataclass_fields__ if f != "name"}
    assert set(options(dataset).given().values()) == {None}


def test_flags_win_and_are_recorded(dataset: PhotoDataset) -> None:
    choice = choose(options(dataset, schedule=ScheduleOptions(lr=0.01, steps=7)), dataset)
    assert (choice.recipe.lr, choice.recipe.steps) == (0.01, 7)
    assert choice.record["given"] == ["lr", "steps"] and choice.record["chosen_for"]["photos"] == 6
    json.dumps(choice.record)


def test_no_validation_split_is_said(dataset: PhotoDataset) -> None:
    """The recipe validates where it can; what somebody asks for is refused later instead."""
    lacking = ValidationOptions(val_split="nope")
    choice = choose(options(dataset, validation=lacking), dataset)
    assert choice.recipe.val_every == 0 and choice.doubts[0].startswith("no validation while training: no split 'nope'")
    asked = ValidationOptions(val_split="nope", val_every=5)
    assert choose(options(dataset, validation=asked), dataset).recipe.val_every == 5
    assert choose(options(dataset), dataset).recipe.val_every > 0


def test_a_run_that_goes_on_keeps_its_recipe(dataset: PhotoDataset) -> None:
    """Though defaults have changed since it began."""
    began = choose(options(dataset), dataset)
    out = dataset.root.parent / "run"
    out.mkdir()
    (out / CHECKPOINT_FILE).touch()
    old = began.record | {"base": began.record["base"] | {"lr": 0.125}}
    (out / "run.json").write_text(json.dumps({"recipe": old}))
    again = choose(options(dataset, resume=True), dataset)
    assert again.recipe.lr == 0.125 and again.line.endswith("; as this run began")
    assert choose(options(dataset), dataset).recipe.lr == began.recipe.lr
    (out / "run.json").write_text("{}")  # begun before there were recipes
    assert choose(options(dataset, resume=True), dataset).recipe == began.recipe


def test_unknown_recipes_are_told(dataset: PhotoDataset) -> None:
    with pytest.raises(TrainingError, match="--recipe must be one of auto, paper, got 'papr'"):
        choose(options(dataset, schedule=ScheduleOptions(recipe="papr")), dataset)


@pytest.mark.parametrize("idle", [{"patience": 2}, {"baseline": Path("scores.json")}, {"val_photos": 9}])
def test_options_of_looks_without_looks_are_told(dataset: PhotoDataset, idle: dict[str, Any]) -> None:
    asked = options(dataset, validation=ValidationOptions(val_every=0, **idle))
    flag = f"--{next(iter(idle)).replace('_', '-')}"
    with pytest.raises(TrainingError, match=f"^{flag} says nothing without looks .*: give --val-every too$"):
        make_config(asked)


def test_doubts_are_told_as_warnings(dataset: PhotoDataset) -> None:
    told: list[str] = []
    make_config(options(dataset, schedule=ScheduleOptions(lr=1e-6)), told.append)
    assert told[0].startswith("recipe auto for 6 photos") and "given: --lr" in told[0]
    assert told[1].startswith("warning: the peak learning rate is 1e-06")
