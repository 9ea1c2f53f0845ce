"""The effect of gates on a block: what is closed keeps the block's input."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mtlora.model.gates import Gates, StageGates
from mtlora.model.lora.linear import TaskOutputs
from mtlora.vocabulary.compute_costs import StageGrids
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import Residual
from mtlora.vocabulary.tasks import Task


class Decision(Protocol):
    """Decides what is computed while an encoder runs."""

    def stage(self, stage: int, x: Tensor) -> StageGates:
        """Gates of a stage, asked at its entry. x: float [N, H, W, C], its input (of stage 0: the patch embedding)."""

    def tokens(self, stage: int, block: int, x: Tensor) -> "TokenGate | None":
        """Which tokens go through a block's MLP; None: all. x: float [N, H, W, C], the block's input."""


class TokenGate(NamedTuple):
    """Which tokens go through a block's MLP, and what the others add to the features."""

    mask: Tensor  # float [N, H, W, 1], 1: through the MLP, 0: not
    residual: Residual

    def __call__(self, normed: Tensor, out: Tensor) -> Tensor:
        """What is added to the features. normed: float [N, H, W, C], the MLP's input; out: its output."""
        other = normed if self.residual is Residual.PUBLISHED else torch.zeros_like(out)
        return keep(other, out, self.mask)


class Decided:
    """Gates that are known beforehand."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def stage(self, stage: int, x: Tensor) -> StageGates:  # noqa: ARG002
        """See `Decision.stage`."""
        return self._gates[stage]

    def tokens(self, stage: int, block: int, x: Tensor) -> TokenGate | None:  # noqa: ARG002
        """See `Decision.tokens`."""
        return None


def check_gates(gates: Gates, images: int, depths: tuple[int, ...], grids: StageGrids) -> None:
    """Raise `MTLoRAError` unless the gates are of so many images and of an encoder of this shape."""
    problems = []
    for number, (stage, depth, grid) in enumerate(zip(gates, depths, grids, strict=True)):
        wanted = {"blocks": (images, depth), "windows": (images, depth, grid.windows)}
        found = {"blocks": stage.blocks, "windows": stage.windows}
        for name, tensor in found.items():
            if tensor is not None and tuple(tensor.shape) != wanted[name]:
                problems.append(f"stage {number}: {name} must be {list(wanted[name])}, got {list(tensor.shape)}")
        problems += [
            f"stage {number}: stream of {task} must be [{images}], got {list(own.shape)}"
            for task, own in stage.streams.items()
            if tuple(own.shape) != (images,)
        ]
    if problems:
        raise MTLoRAError("; ".join(problems))


def gated(
    gates: StageGates | None, index: int, block: Any, x: Tensor, run: Callable[[], Tensor | TaskOutputs]
) -> TaskOutputs:
    """A block under its gates; without task streams `by_task` is empty.

    gates: of its stage, bool, or in training float in 0..1, which lets gradients through; None: all is computed
    index: of the block in its stage
    x:     float [N, H, W, C], its input
    run:   computes the whole block
    """
    if gates is None:
        return _outputs(run())
    mask = token_mask(gates, index, block, x)
    out = _outputs(run())
    by_task = {}
    for task, stream in out.by_task.items():
        own = gates.streams.get(task)
        by_task[task] = keep(x, stream, mask if own is None else mask * own[:, None, None, None])
    return TaskOutputs(keep(x, out.shared, mask), by_task)


def token_mask(gates: StageGates, index: int, block: Any, x: Tensor) -> Tensor:
    """Which tokens a block computes: [N, H, W, 1] or [N, 1, 1, 1], of the gates' type."""
    whole = gates.blocks[:, index, None, None, None]
    if gates.windows is None:
        return whole
    side, _ = block.window_size
    rows, columns = x.shape[1] // side, x.shape[2] // side
    windows = gates.windows[:, index].view(len(x), rows, columns)
    tokens = windows.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
    if any(block.shift_size):
        tokens = torch.roll(tokens, shifts=block.shift_size, dims=(1, 2))
    return whole * tokens[..., None]


def keep(before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """`after` where the mask is open, else `before`; the very bits of either where the mask is 0 or 1."""
    if mask.dtype is torch.bool:
        return torch.where(mask, after, before)
    return mask * after + (1 - mask) * before


def left_out_without_tokens(gates: StageGates | None, index: int, tokens: TokenGate | None) -> StageGates | None:
    """The gates, with a block closed for images of which no token would go through its MLP: no attention either."""
    if gates is None or tokens is None:
        return gates
    some = tokens.mask.detach().flatten(1).amax(dim=1) > 0
    blocks = gates.blocks.clone()
    blocks[:, index] = blocks[:, index] * some
    return gates._replace(blocks=blocks)


def closed_everywhere(gates: StageGates | None, index: int) -> bool:
    """Whether no image computes the block, so that it need not run."""
    if gates is None or gates.blocks.dtype is not torch.bool:
        return False
    opened = gates.blocks[:, index]
    if gates.windows is not None:
        opened = opened & gates.windows[:, index].any(dim=1)
    return not bool(opened.any())


def unchanged(x: Tensor, tasks: tuple[Task, ...]) -> TaskOutputs:
    """A block that no image computes."""
    return TaskOutputs(x, dict.fromkeys(tasks, x))


def _outputs(found: Tensor | TaskOutputs) -> TaskOutputs:
    return found if isinstance(found, TaskOutputs) else TaskOutputs(found, {})
