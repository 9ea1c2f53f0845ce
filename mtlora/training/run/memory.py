"""Words for a run that finds too little memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mtlora.vocabulary.errors import TrainingError

WAY_OUT = (
    "a smaller --batch, --accumulate 2 (the same losses in smaller parts), --recompute (less memory, more time), "
    "--image-side 112 or --processes 1 needs less; --resume goes on from the last checkpoint where only --recompute, "
    "--processes or --device change"
)

_CPU_WORDS = ("can't allocate memory", "not enough memory")  # torch raises a plain RuntimeError on a CPU


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Raise `TrainingError` that says what to do where memory runs out, on a GPU or not.

    what: what did not fit, in words
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingError(f"out of memory: {what} does not fit ({_first_line(error)}); {WAY_OUT}") from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _CPU_WORDS):
            raise
        raise TrainingError(f"out of memory: {what} does not fit ({_first_line(error)}); {WAY_OUT}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
