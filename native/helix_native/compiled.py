"""The compiled kernels under one name: what `helix_native.kernels()` gives once they are warm."""

from helix_native.numba_kernels import plan_fifo
from helix_native.reference_ahead import plan_ahead

__all__ = ["plan_ahead", "plan_fifo"]
