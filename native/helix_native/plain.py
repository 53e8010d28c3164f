"""The plain kernels under one name: what `helix_native.kernels()` gives until the compiled ones are warm."""

from helix_native.reference import plan_fifo
from helix_native.reference_ahead import plan_ahead

__all__ = ["plan_ahead", "plan_fifo"]
