"""Checks of the tensors given to `ops` and `map_ops`."""

import torch
from torch import Tensor

from mtlora.kernels import Kernels, kernels
from mtlora.vocabulary.errors import MTLoRAError


def native_for(*tensors: Tensor) -> Kernels | None:
    """The kernels, where these tensors are what they take and nothing asks for gradients."""
    for tensor in tensors:
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.numel() == 0:
            return None
        if tensor.requires_grad and torch.is_grad_enabled():
            return None
    return kernels()


def checked(out: Tensor, failed: int) -> Tensor:
    """What a kernel has written, unless it found no memory for its rows."""
    if failed:
        raise MemoryError(f"no memory for rows of a map of {list(out.shape)} pixels")
    return out


def want(valid: bool, name: str, expected: str, got: Tensor | None) -> None:
    """`MTLoRAError` that names what was expected and the shape that came, unless that is valid."""
    if not valid:
        raise MTLoRAError(f"{name} must be {expected}, got {None if got is None else list(got.shape)}")


def want_size(height: int, width: int) -> None:
    """`MTLoRAError` unless a map of this size has pixels."""
    if height < 1 or width < 1:
        raise MTLoRAError(f"the map's size must be at least 1 x 1, got {height} x {width}")
