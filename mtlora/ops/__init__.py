"""Tensor operations: native kernels where there are some, else plain torch."""
