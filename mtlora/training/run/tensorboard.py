"""Scalars for TensorBoard, where it is installed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Scalars(Protocol):
    """Takes named numbers of a step."""

    def __call__(self, step: int, values: Mapping[str, float], /) -> None:
        """Write the numbers of a step."""


def open_scalars(folder: Path, *, wanted: bool = True) -> Scalars:
    """A writer of event files into `folder`, or one that does nothing where TensorBoard is missing or not wanted."""
    if not wanted or importlib.util.find_spec("tensorboard") is None:
        return _nowhere
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write


def _nowhere(_step: int, _values: Mapping[str, float], /) -> None:
    pass
