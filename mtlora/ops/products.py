"""Products with weights, where none of the project's kernels runs."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

_CPU_INFO = Path("/proc/cpuinfo")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, as `functional.linear`. float [..., in], [out, in], [out] -> [..., out].

    On AMD's processors by oneDNN: MKL, which torch takes for float32, is a fifth to a third slower there.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() and _onednn_is_faster():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


@lru_cache(maxsize=1)
def _onednn_is_faster() -> bool:
    """Decided by the maker alone, not by measuring, so that all processes of a machine compute the same."""
    built: bool = torch.backends.mkldnn.is_available()
    if not built or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in _CPU_INFO.read_text(errors="replace")
    except OSError:  # not Linux
        return False
