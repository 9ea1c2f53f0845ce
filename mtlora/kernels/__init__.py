"""Optional compiled kernels, called through ctypes; without them `mtlora.ops.ops` runs plain torch.

One source (src/) is compiled once per instruction set at installation; which one is loaded is decided here, by what
torch says of the CPU. The kernels run on torch's own OpenMP threads. `MTLORA_NATIVE=0` turns them off; `baseline`,
`avx2`, `avx512` or `avx512vnni` asks for one instruction set.
"""

from mtlora.kernels.library import Kernels, Status, kernels, status

__all__ = ["Kernels", "Status", "kernels", "status"]
