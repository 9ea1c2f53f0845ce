"""Tensor operations: native kernels where there are some, otherwise plain torch."""
