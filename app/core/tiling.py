"""Tiles as clients ask for them, and how many a server allows."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.core.errors import BadParameterError
from mtlora.images.tiles import UNTILED, Tiling, parse_grid


def _checked(text: str) -> str:
    try:
        grid = parse_grid(text)
    except ValueError as error:
        raise PydanticCustomError("tiles", "Input {words}", {"words": str(error)}) from error
    return text if grid is None else str(grid)


TilesText = Annotated[str, Field(max_length=20), AfterValidator(_checked)]
"""For the annotation of a grid that a client writes. It stays text: how many are allowed is for the server to say."""


def allowed_tiling(asked: str | None, images: int, most: int, most_passes: int) -> Tiling:
    """What a client gets who asked for this; `BadParameterError` (422) if it is too much.

    `auto` gives each of several photos its part of the passes that a request may have.

    images: of the request
    most:   tiles of one photo; most_passes: of all photos of a request
    """
    if asked is None:
        return UNTILED
    grid = parse_grid(asked)
    if grid is not None and grid.count > most:
        raise BadParameterError(f"tiles {grid} are {grid.count} tiles; a photo may have {most} (MTLORA_MAX_TILES)")
    tiling = Tiling(grid, max(1, min(most, most_passes // images)))
    if images * tiling.least > most_passes:
        raise BadParameterError(
            f"{images} photos in {tiling.least} tiles are {images * tiling.least} passes of the model; a request may "
            f"have {most_passes}: send fewer photos at once"
        )
    return tiling
