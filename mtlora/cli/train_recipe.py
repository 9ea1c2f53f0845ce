"""The recipe of `mtlora train` from its options: flags win, a run that goes on keeps what it began with."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlora.cli import options as o
from mtlora.cli.train_options import TrainOptions
from mtlora.training.adapters.recipe import Recipe, RecipeName, Situation, doubts, recipe_for, settled, told
from mtlora.training.run.machine import usable_cores
from mtlora.vocabulary.errors import DataError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset


@dataclass(frozen=True, slots=True)
class Choice:
    """A settled recipe, and why it is so: for the terminal, and for run.json."""

    recipe: Recipe
    line: str
    doubts: tuple[str, ...]
    record: dict[str, Any]


def choose(options: TrainOptions, dataset: "PhotoDataset") -> Choice:
    """The recipe for these options and photos."""
    found, given = situation(options, dataset), options.given()
    base, kept = _base(options, found)
    recipe = settled(base, found, given)
    notes = []
    if recipe.val_every and options.validation.val_every is None and (missing := _missing(options)):
        recipe = dataclasses.replace(recipe, val_every=0)
        notes.append(f"no validation while training: {missing}")
    line = told(recipe, found, given) + ("; as this run began" if kept else "")
    flags = sorted(name for name, value in given.items() if value is not None)
    record = {"chosen_for": found._asdict(), "given": flags, "values": dataclasses.asdict(recipe)}
    return Choice(recipe, line, (*notes, *doubts(recipe, found, given)), record | {"base": dataclasses.asdict(base)})


def situation(options: TrainOptions, dataset: "PhotoDataset") -> Situation:
    """What the recipe depends on."""
    from mtlora.training.run.processes import from_torchrun
    from mtlora.vocabulary.tasks import parse_tasks

    gpu = o.device_name(options.run.device) == "cuda"
    cores = 1 if from_torchrun() else usable_cores()
    tasks = len(parse_tasks(options.set.tasks)) or 1
    return Situation(len(dataset), tasks, cores, options.shape.image_size, gpu)


def _base(options: TrainOptions, found: Situation) -> tuple[Recipe, bool]:
    """The recipe before flags; of a run that goes on the one it began with, on whatever machine that was."""
    name = o.member(RecipeName, options.schedule.recipe, "--recipe")
    if options.resume and (kept := _kept(options.set.out)) is not None and kept.name is name:
        return dataclasses.replace(kept, processes=recipe_for(name, found).processes), True
    return recipe_for(name, found), False


def _kept(out: Path) -> Recipe | None:
    from mtlora.training.run.checkpoint import CHECKPOINT_FILE
    from mtlora.training.run.record import RECORD_FILE

    if not (out / CHECKPOINT_FILE).is_file():
        return None
    try:
        values = json.loads((out / RECORD_FILE).read_text(encoding="utf-8"))["recipe"]["base"]
        return Recipe(**values | {"name": RecipeName(values["name"])})
    except (OSError, KeyError, TypeError, ValueError):  # begun before there were recipes: its options say it all
        return None


def _missing(options: TrainOptions) -> str:
    """Why the validation split cannot be looked at; empty where it can."""
    from mtlora.data.layout import open_dataset
    from mtlora.vocabulary.tasks import parse_tasks

    try:
        open_dataset(options.set.data, options.validation.val_split, parse_tasks(options.set.tasks))
    except DataError as error:
        return str(error).splitlines()[0]
    return ""
