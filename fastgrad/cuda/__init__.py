"""CUDA devices: this version of fastgrad runs on the CPU and sees none."""

from __future__ import annotations

__all__ = ["device_count", "is_available"]


def is_available() -> bool:
    """Can tensors live on a GPU? False: the CUDA kernels are not part of this version."""
    return False


def device_count() -> int:
    """The number of GPUs that tensors can live on."""
    return 0
