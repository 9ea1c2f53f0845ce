"""The precision of a step: which kind of numbers it is computed in."""

import contextlib
from enum import StrEnum
from typing import Any

import torch

from mtlora.vocabulary.errors import TrainingError


class Precision(StrEnum):
    """Mixed precision of forward and backward pass; weights and optimiser stay float32."""

    AUTO = "auto"  # on a GPU bfloat16 where it can, else float16; float32 on a CPU
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"  # with loss scaling; GPU only


def compute_dtype(precision: Precision, device: str) -> torch.dtype:
    """The type that `precision` means on a device."""
    on_gpu = device.startswith("cuda")
    if precision is Precision.FLOAT16 and not on_gpu:
        raise TrainingError(f"float16 needs a GPU, got device {device}; a CPU can bfloat16")
    if precision is not Precision.AUTO:
        found: torch.dtype = getattr(torch, precision.value)
        return found
    if not on_gpu:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def autocast(dtype: torch.dtype, device: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which matrix products are computed in `dtype`."""
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.split(":")[0], dtype=dtype)
