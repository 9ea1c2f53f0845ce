"""Gates: which blocks, windows and task streams of an encoder are computed for each image."""

from typing import NamedTuple

from torch import Tensor

from mtlora.vocabulary.tasks import Task


class StageGates(NamedTuple):
    """What is computed of one stage.

    A closed block is the identity for the shared path and for all task streams (each stream = the block's input).
    A closed window is the identity for its tokens through the whole block, attention and MLP included, in the shared
    path and in the task streams. Letters: N images, D blocks of the stage, W windows of the stage.

    blocks:  bool [N, D], True = computed
    windows: bool [N, D, W], True = computed, row-major in the block's own grid (of a shifted block: after the cyclic
             roll, as its attention partitions); None = all. Of a closed block without meaning.
    streams: bool [N] by task: whether a task's own stream through the stage's last block is computed; missing = True.
             Closed = the stream equals the block's shared input.
    """

    blocks: Tensor
    windows: Tensor | None
    streams: dict[Task, Tensor]


Gates = tuple[StageGates, StageGates, StageGates, StageGates]
"""Of the stages 0..3."""
