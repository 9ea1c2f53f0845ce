"""Gates of a batch as the stages want them: for each block its open windows, in the order that it takes them in."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward.windows import StageShape, StageWindows, Windows, stage_windows
from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task


class StageGating(NamedTuple):
    """What a batch of n images computes of a stage. Closed is at least one value, or else None stands for it."""

    blocks: tuple[Tensor | None, ...]  # bool [n, W] each, windows in the block's own order; None: all are open
    streams: Tensor | None  # bool [n, T], of the tasks wanted; None: all are computed


def check_gates(gates: Gates, spec: AdapterSpec, shapes: Sequence[StageShape]) -> None:
    """`MTLoRAError` unless these are gates of one image for a set of this shape."""
    if len(gates) != len(shapes):
        raise MTLoRAError(f"gates must be of {len(shapes)} stages, got {len(gates)}")
    for stage, (own, shape, depth) in enumerate(zip(gates, shapes, spec.backbone.depths, strict=True)):
        windows = (shape.side // shape.window) ** 2
        _want(own.blocks, (1, depth), f"gates of the blocks of stage {stage}")
        if own.windows is not None:
            _want(own.windows, (1, depth, windows), f"gates of the windows of stage {stage}")
        for task, gate in own.streams.items():
            _want(gate, (1,), f"gate of {task} in stage {stage}")


def batch_gating(
    gates: Sequence[Gates | None], tasks: Sequence[Task], shapes: Sequence[StageShape], device: torch.device
) -> tuple[StageGating, ...] | None:
    """Gates of each image, checked before, put together; None: everything is computed.

    tasks: those wanted, in order
    """
    given = next((own for own in gates if own is not None), None)
    if given is None:
        return None
    stages = []
    for index, shape in enumerate(shapes):
        own = [None if image is None else image[index] for image in gates]
        stages.append(_stage(own, given[index].blocks.shape[1], tasks, stage_windows(*shape, device)))
    return tuple(stages)


def _stage(gates: Sequence[StageGates | None], depth: int, tasks: Sequence[Task], layout: StageWindows) -> StageGating:
    device = layout.plain.order.device
    windows = len(layout.plain.kinds)
    opened = torch.ones(len(gates), depth, windows, dtype=torch.bool)
    streams = torch.ones(len(gates), len(tasks), dtype=torch.bool)
    for image, own in enumerate(gates):
        if own is None:
            continue
        opened[image] = own.blocks[0, :, None].cpu()
        if own.windows is not None:
            opened[image] &= own.windows[0].cpu()
        for number, task in enumerate(tasks):
            if task in own.streams:
                streams[image, number] = own.streams[task][0].cpu()
    blocks = []
    for number in range(depth):
        shifted = number % 2 == 1 and layout.shifted is not None
        block = opened[:, number]
        all_open = bool(block.all())
        blocks.append(None if all_open else _in_order(block, layout.shifted if shifted else layout.plain, device))  # type: ignore[arg-type]
    return StageGating(tuple(blocks), None if bool(streams.all()) else streams.to(device))


def _in_order(opened: Tensor, windows: Windows, device: torch.device) -> Tensor:
    """bool [n, W], from the order of rows to that in which a block takes its windows."""
    return opened.to(device)[:, windows.places]


def open_tokens(opened: Tensor, tokens: int, order: Tensor | None) -> Tensor:
    """Which tokens lie in open windows: bool [n, W], windows of so many tokens -> bool [n, L].

    order: int64 [L], where the tokens of a block's windows are; None: window by window
    """
    by_window = opened.repeat_interleave(tokens, dim=1)
    if order is None:
        return by_window
    placed = torch.empty_like(by_window)
    placed[:, order] = by_window
    return placed


def _want(gate: Tensor, shape: tuple[int, ...], name: str) -> None:
    if gate.dtype != torch.bool or tuple(gate.shape) != shape:
        raise MTLoRAError(f"{name} must be bool {list(shape)}, got {gate.dtype} {list(gate.shape)}")
