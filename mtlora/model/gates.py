"""Which parts of an encoder are computed, image by image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task


class StageGates(NamedTuple):
    """What is computed of one stage for each of N images.

    A closed block is the identity: the shared path and every task's stream equal the block's input. A closed window is
    the identity for its tokens through the whole block, attention and MLP, shared path and task streams.
    """

    blocks: Tensor
    """bool [N, D]; True: the block is computed."""
    windows: Tensor | None
    """bool [N, D, W]; True: the window is computed; None: all are. W windows of the stage, row-major in the block's own
    grid (of a shifted block after the cyclic roll, as its attention partitions). Without meaning for a closed block."""
    streams: dict[Task, Tensor]
    """bool [N]: whether a task's own stream through the stage's last block is computed. Missing: True. Closed: the
    stream equals the block's shared input. Without meaning where the stage gives no streams."""


Gates = tuple[StageGates, StageGates, StageGates, StageGates]


def all_open(spec: AdapterSpec) -> Gates:
    """Of one image of which everything is computed."""
    first, second, third, fourth = (
        StageGates(torch.ones(1, d, dtype=torch.bool), None, {}) for d in spec.backbone.depths
    )
    return first, second, third, fourth


def stacked_gates(gates: Sequence[StageGates]) -> StageGates:
    """One stage's gates of several images, put together."""
    blocks, windows = torch.cat([own.blocks for own in gates]), None
    counted = next((own.windows for own in gates if own.windows is not None), None)
    if counted is not None:
        whole = [
            torch.ones_like(counted[:1]).expand(len(own.blocks), -1, -1) if own.windows is None else own.windows
            for own in gates
        ]
        windows = torch.cat(whole)
    tasks = {task: None for own in gates for task in own.streams}
    streams = {
        task: torch.cat([own.streams.get(task, torch.ones(len(own.blocks), dtype=torch.bool)) for own in gates])
        for task in tasks
    }
    return StageGates(blocks, windows, streams)
