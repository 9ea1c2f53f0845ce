"""Window orders: tokens of a stage window after window, and the ways from one order to the next.

Blocks keep their tokens in window order, so that a window is a run of rows and attention needs no copying. Between two
blocks one gather replaces shifting, cutting, joining and shifting back. Pure index arithmetic, the same for every set.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.vocabulary.spec import PATCH_SIZE, AdapterSpec

MASKED = -1000.0
"""Added to the score of two tokens that share a shifted window but were no neighbours. The published -100 gives weights
of e^-100: denormal numbers, which slow softmax sixfold and the product after it twentyfold. This gives zeros."""

NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (1, 1))  # (row, column) of the 2 x 2 tokens that patch merging concatenates


class StageShape(NamedTuple):
    """Sides in tokens."""

    side: int  # of the stage
    window: int  # of a window; divides `side`
    shift: int  # how far every second block shifts its windows; 0: not at all


def stage_shapes(spec: AdapterSpec) -> tuple[StageShape, ...]:
    """Shapes of stages 0..3 of a set's encoder."""
    sides, windows = spec.backbone.stage_sides(spec.image_size), spec.backbone.window_sides(spec.image_size)
    shift = spec.backbone.window_size // 2
    return tuple(StageShape(s, w, shift if s > w else 0) for s, w in zip(sides, windows, strict=True))


@lru_cache(maxsize=16)
def relative_positions(window: int) -> Tensor:
    """Row of the position bias table for every two tokens of a window: int64 [N, N]."""
    rows, columns = (part[0] for part in _token_grid(window, window))
    return (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1


class Windows(NamedTuple):
    """One order of a stage's side x side tokens; windows with equal masks stand side by side."""

    order: Tensor  # int64 [side²], raster index of the token at each position
    kinds: Tensor  # int32 [windows], which mask each window has; ascending
    masks: Tensor  # float32 [kinds, N, N], N tokens a window; 0 or MASKED
    places: Tensor  # int64 [windows], which window each is by rows of the (shifted) image


class StageWindows(NamedTuple):
    """All that moves tokens in one stage, on one device. An absent gather (None) means the order is already right."""

    plain: Windows
    shifted: Windows | None  # None: windows are as large as the stage, nothing is shifted
    shift: Tensor | None  # int64 [side²]: plain order -> shifted order
    unshift: Tensor | None  # and back


@lru_cache(maxsize=64)
def stage_windows(side: int, window: int, shift: int, device: torch.device) -> StageWindows:
    """Both orders of a stage; see `StageShape`."""
    plain = window_order(side, window, 0)
    shifted = window_order(side, window, shift) if shift else None
    return StageWindows(
        _on(plain, device),
        None if shifted is None else _on(shifted, device),
        None if shifted is None else _between(plain.order, shifted.order).to(device),
        None if shifted is None else _between(shifted.order, plain.order).to(device),
    )


def window_order(side: int, window: int, shift: int) -> Windows:
    """Tokens window by window; see `stage_windows`."""
    rows, columns = _token_grid(side, window)
    zone = torch.zeros(side, dtype=torch.int64)  # rows (and columns) of the shifted image that were neighbours
    if shift:
        zone[side - window : side - shift], zone[side - shift :] = 1, 2
    zones = 3 * zone[rows] + zone[columns]
    apart = zones[:, :, None] != zones[:, None, :]
    last = side // window - 1
    kinds = 2 * (rows[:, 0] // window == last).long() + (columns[:, 0] // window == last).long() if shift else None
    order = ((rows + shift) % side) * side + (columns + shift) % side
    if kinds is None:
        kinds = torch.zeros(len(order), dtype=torch.int64)
    kinds, by_kind = kinds.sort(stable=True)
    first = torch.ones_like(kinds, dtype=torch.bool)  # the first window of each kind
    first[1:] = kinds[1:] != kinds[:-1]
    masks = torch.where(apart[by_kind][first], MASKED, 0.0)
    return Windows(order[by_kind].flatten(), first.cumsum(0, dtype=torch.int32) - 1, masks, by_kind)


@lru_cache(maxsize=64)
def merge_gather(side: int, window: int, shift: int, next_window: int, device: torch.device) -> Tensor:
    """Patch merging of tokens in a block's order: int64 [side²], the 2 x 2 tokens of each merged token in turn.

    next_window: window of the order that the merged tokens come out in; 0 for raster order
    """
    half = side // 2
    rows, columns = (part.flatten() for part in _token_grid(half, next_window or half))
    raster = torch.stack([(2 * rows + row) * side + 2 * columns + column for row, column in NEIGHBOURS], dim=1)
    return _inverse(window_order(side, window, shift).order)[raster.flatten()].to(device)


@lru_cache(maxsize=64)
def raster_gather(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    """From a block's order to raster order: int64 [side²]."""
    return _inverse(window_order(side, window, shift).order).to(device)


@lru_cache(maxsize=64)
def patch_gather(side: int, window: int, device: torch.device) -> Tensor:
    """Image to 4 x 4 patches in window order: int64 [side² * 12], places of rows of 4 pixels among those of an image
    [3, S, S]; of a patch its channels in turn, of each its rows.
    """
    size = side * PATCH_SIZE
    places = torch.arange(3 * size * side).view(3, side // window, window, PATCH_SIZE, side // window, window)
    return places.permute(1, 4, 2, 5, 0, 3).flatten().to(device)


def _token_grid(side: int, window: int) -> tuple[Tensor, Tensor]:
    """Row and column of every token, window by window: int64 [windows, N] each."""
    tokens = torch.arange(side * side).view(side // window, window, side // window, window)
    by_window = tokens.transpose(1, 2).reshape(-1, window * window)
    return by_window // side, by_window % side


def _between(here: Tensor, there: Tensor) -> Tensor:
    return _inverse(here)[there]


def _inverse(order: Tensor) -> Tensor:
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return inverse


def _on(windows: Windows, device: torch.device) -> Windows:
    return Windows(*(tensor.to(device) for tensor in windows))
