"""The commands `mtlora data split` and `mtlora data upright`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli.say import say


def split(
    root: Annotated[Path, typer.Argument(help="Dataset folder with JPEGImages/ and folders of labels, without lists.")],
    val: Annotated[float, typer.Option(help="Share of the photos that only score.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
) -> None:
    """Write ImageSets/train.txt and val.txt of all photos that have labels, chosen at random."""
    from mtlora.data.mending import write_splits

    counts = write_splits(root, val, seed)
    say(f"{root}: {', '.join(f'{name} {count} photos' for name, count in counts.items())}")


def upright(
    root: Annotated[Path, typer.Argument(help="Dataset folder whose labels were drawn on photos as they are stored.")],
    out: Annotated[Path, typer.Argument(help="Folder of the copy; must not exist.")],
    every: Annotated[
        bool,
        typer.Option("--all", help="Turn also labels of square, mirrored and upside down photos: sizes do not tell."),
    ] = False,
) -> None:
    """Copy a dataset, turning labels of phones' photos (EXIF orientation) to lie as the photos are shown."""
    from mtlora.data.mending import write_upright

    counts = write_upright(root, out, untold=every)
    say(f"{out}: turned labels: {', '.join(f'{task} {count}' for task, count in counts.items()) or 'none'}")
