import pytest
import torch

from mtlora.training.run.memory import enough_memory
from mtlora.vocabulary.errors import TrainingError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_says_what_to_do(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, enough_memory("a batch of 8 at 224 px"):
        raise error
    told = str(caught.value)
    assert told.startswith("out of memory: a batch of 8 at 224 px does not fit (") and "more" not in told.split(")")[0]
    for way in ("--batch", "--accumulate 2", "--recompute", "--image-side 112", "--processes 1", "--resume"):
        assert way in told


def test_a_tensor_that_no_memory_holds() -> None:
    """What torch itself says on a CPU is recognised."""
    with pytest.raises(TrainingError, match="out of memory: it does not fit"), enough_memory("it"):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), enough_memory("it"):
        raise RuntimeError("shapes differ")
