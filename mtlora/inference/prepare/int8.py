"""Linear layers in 8-bit integers: weights with a scale for each output, inputs with one for each token.

Weights take 7 of the 8 bits: two products then always fit the 16 bits in which CPUs without VNNI add them up, so every
CPU computes the same integers. Symmetric, nothing to calibrate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_WEIGHT, LARGEST_INPUT = 63, 127
_SMALLEST = 1e-30  # stands for the largest value of what is all zeros


@dataclass(frozen=True, slots=True)
class IntegerWeight:
    """values: int8 [out, in] (the backbone's) or [n, out, in], -63..63; scale: float [out] or [n, out]."""

    values: Tensor
    scale: Tensor

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """W x + bias. x: float [n, M, in], bias: float [out], [n, out] or None; returns float [n, M, out]."""
        inputs, scales = to_integers(x, LARGEST_INPUT)
        shape = (-1, *self.values.shape[-2:])
        values, weight_scales = self.values.view(shape), self.scale.view(-1, 1, shape[1])
        products = [_product(part, own) for part, own in _pairs(inputs, values)]
        y = torch.cat(products).view(*x.shape[:-1], -1) * scales * weight_scales
        return y if bias is None else y.add_(bias.view(-1, 1, shape[1]))


def integer_weight(weight: Tensor) -> IntegerWeight:
    """float [..., out, in], rounded."""
    values, scale = to_integers(weight, LARGEST_WEIGHT)
    return IntegerWeight(values, scale[..., 0])


def to_integers(x: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """int8 of the shape of x, and float [..., 1] to multiply with; the last dimension's largest becomes `largest`."""
    most = x.abs().amax(dim=-1, keepdim=True).clamp_min_(_SMALLEST)
    return (x * (largest / most)).round_().to(torch.int8), most / largest


def _pairs(inputs: Tensor, values: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows [M, in] and the weight they meet: all rows at once where items share it."""
    if len(values) == 1:
        return [(inputs.flatten(0, -2), values[0])]
    return list(zip(inputs, values, strict=True))


def _product(rows: Tensor, values: Tensor) -> Tensor:
    """int8 [M, in] and [out, in] to int32 [M, out]."""
    if values.shape[1] == 1:  # where torch 2.14's _int_mm gives nonsense
        return rows.int() * values.T
    return torch._int_mm(rows, values.T)
