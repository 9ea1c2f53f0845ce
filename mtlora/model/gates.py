"""Which parts of an encoder are computed, image by image."""

from typing import NamedTuple

from torch import Tensor

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
