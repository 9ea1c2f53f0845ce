"""The recipe of a run: its options where nobody gives them, by the size of the data; docs/training.md has the table."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from mtlora.vocabulary.errors import TrainingError

PUBLISHED_EPOCHS = 300
PUBLISHED_WARMUP_EPOCHS = 20
PUBLISHED_LR, PUBLISHED_BATCH = 5e-4, 512
WARMUP_SHARE = PUBLISHED_WARMUP_EPOCHS / PUBLISHED_EPOCHS

LOOKS = 5
"""A recipe that validates looks so often at the validation split."""

MOST_PROCESSES = 4
"""So many processes are started where nobody says: each takes about 1 GB of memory."""

LEAST_LR = 1e-5
"""A peak learning rate below it moves fresh pairs and decoders nowhere in a run of a usual length."""

_PHOTO_CPU_S = 0.09
"""CPU seconds of one photo and one task in a training step at 112 px, beside `_PHOTO_CPU_S` for the encoder itself."""

_BUDGET_S = 11 * 60
"""Training itself may take so long on the cores there are; reading, validation and the report come on top."""


class RecipeName(StrEnum):
    """Where the options that nobody gives come from."""

    AUTO = "auto"  # by the size of the data
    PAPER = "paper"  # as published


class Situation(NamedTuple):
    """What a recipe depends on.

    photos: in the training split; tasks: that the set has; cores: that this process may use
    side:   the set's input side in pixels; gpu: whether there is one
    """

    photos: int
    tasks: int
    cores: int
    side: int
    gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Values of options by their names; the open ones are settled by `settled`."""

    name: RecipeName
    batch: int
    lr: float  # 0: the published law, 5e-4 * batch / 512
    steps: int  # 0: as many as `epochs` say
    epochs: float
    warmup: int = -1  # -1: `WARMUP_SHARE` of the steps
    ema: float
    drop_path: float
    image_side: int  # 0: the set's
    label_stride: int
    class_balance: float
    jitter: float
    rotate: float  # degrees
    zoom: str
    val_every: int  # -1: `LOOKS` times in all; 0: never
    val_photos: int  # 0: all
    processes: int


class _Size(NamedTuple):
    """A row of the table: up to so many photos, so many steps."""

    photos: float
    steps: int


SIZES = (_Size(30, 100), _Size(100, 150), _Size(400, 250), _Size(2000, 1200))
"""Beyond the last row: ten epochs."""


def recipe_for(name: RecipeName, found: Situation) -> Recipe:
    """The recipe of this name in a situation."""
    if min(found.photos, found.tasks, found.cores, found.side) < 1:
        raise TrainingError(f"a recipe needs at least one photo, task, core and pixel, got {found}")
    return _published() if name is RecipeName.PAPER else _by_size(found)


def _published() -> Recipe:
    return Recipe(
        name=RecipeName.PAPER,
        batch=16,
        lr=0.0,
        steps=0,
        epochs=float(PUBLISHED_EPOCHS),
        ema=0.0,
        drop_path=0.2,
        image_side=0,
        label_stride=1,
        class_balance=0.0,
        jitter=0.0,
        rotate=20.0,
        zoom="0.75,1.25",
        val_every=0,
        val_photos=0,
        processes=1,
    )


def _by_size(found: Situation) -> Recipe:
    batch = 8 if found.photos <= SIZES[-1].photos else 16
    processes = 1 if found.gpu else max(n for n in range(1, MOST_PROCESSES + 1) if n <= found.cores and not batch % n)
    steps = next((size.steps for size in SIZES if found.photos <= size.photos), round(10 * found.photos / batch))
    if not found.gpu and found.photos <= SIZES[-1].photos:
        steps = min(steps, affordable_steps(found.tasks, found.side, batch, processes))
    return Recipe(
        name=RecipeName.AUTO,
        batch=batch,
        lr=1e-3,
        steps=steps,
        epochs=0.0,
        ema=0.0,
        drop_path=0.1,
        image_side=0,
        label_stride=2,
        class_balance=0.3,
        jitter=0.2,
        rotate=10.0,
        zoom="0.75,1.25",
        val_every=-1,
        val_photos=48,
        processes=processes,
    )


def affordable_steps(tasks: int, side: int, batch: int, cores: int) -> int:
    """Steps for which a quarter of an hour is enough on so many cores, reading and validation included."""
    photo_s = _PHOTO_CPU_S * (1 + tasks) / 2 * (side / 112) ** 2
    return max(50, int(_BUDGET_S * cores / (photo_s * batch)) // 10 * 10)


def settled(recipe: Recipe, found: Situation, given: Mapping[str, Any]) -> Recipe:
    """The recipe with the options that were given, and with nothing open: flags win, and the rest follows them.

    given: option -> value; None: not given
    """
    chosen = {name: value for name, value in given.items() if value is not None and (name, value) != ("steps", 0)}
    if "epochs" in chosen:
        chosen.setdefault("steps", 0)
    full = dataclasses.replace(recipe, **chosen)
    if full.batch < 1:
        raise TrainingError(f"--batch must be at least 1, got {full.batch}")
    steps = full.steps or max(1, round(found.photos * full.epochs / full.batch))
    return dataclasses.replace(
        full,
        steps=steps,
        epochs=full.epochs or steps * full.batch / found.photos,
        lr=full.lr or PUBLISHED_LR * full.batch / PUBLISHED_BATCH,
        warmup=round(steps * WARMUP_SHARE) if full.warmup < 0 else full.warmup,
        val_every=math.ceil(steps / LOOKS) if full.val_every < 0 else full.val_every,
        processes=full.processes if "processes" in chosen else _fitting(full.processes, full.batch),
    )


def _fitting(processes: int, batch: int) -> int:
    return max(n for n in range(1, processes + 1) if not batch % n)


def told(recipe: Recipe, found: Situation, given: Mapping[str, Any]) -> str:
    """The recipe in one line: from what it was chosen, what it says, and which options were given instead."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None)
    where = "a GPU" if found.gpu else _count(found.cores, "core")
    side = recipe.image_side or found.side
    return (
        f"recipe {recipe.name.value} for {_count(found.photos, 'photo')}, {_count(found.tasks, 'task')}, {where}: "
        f"{recipe.steps} steps of {recipe.batch} photos at {side} px, {recipe.epochs:.3g} epochs, "
        f"peak rate {recipe.lr:.3g}, warm-up {recipe.warmup}, rotation {recipe.rotate:g}°, zoom {recipe.zoom}, "
        f"colours {recipe.jitter:g}, class balance {recipe.class_balance:g}, "
        f"{_count(recipe.processes, 'process', 'es')}; given: {flags or 'nothing'}"
    )


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def doubts(recipe: Recipe, found: Situation, given: Mapping[str, Any]) -> list[str]:
    """What about a settled recipe will hardly train; one sentence each, with what would be right."""
    lines = []
    if recipe.lr < LEAST_LR:
        right = recipe_for(RecipeName.AUTO, found).lr
        lines.append(
            f"the peak learning rate is {recipe.lr:.2g}: below {LEAST_LR:g} fresh weights hardly move; "
            f"--lr {right:g} is usual for {found.photos} photos"
        )
    epoch = found.photos / recipe.batch
    by_hand = recipe.name is RecipeName.PAPER or given.get("warmup") is not None
    if by_hand and found.photos <= SIZES[-1].photos and epoch < recipe.warmup:
        lines.append(
            f"an epoch has {epoch:.3g} steps, the warm-up {recipe.warmup}: the rate reaches its peak after "
            f"{recipe.warmup / epoch:.3g} epochs; with few photos leave --recipe and --warmup to their defaults"
        )
    return lines
