"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from fastgrad import _core
from fastgrad._core import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one after the other, as a 1-d tensor; differentiable."""
    return _core.cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Let the parameters' data be consecutive pieces of `vec`, which must have as many elements as they have."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected Tensor, but got: {type(vec).__name__}")
    listed = list(parameters)
    total = sum(parameter.numel() for parameter in listed)
    if vec.ndim != 1 or vec.numel() != total:
        raise RuntimeError(f"[vector_to_parameters] vec must have shape ({total},); got {tuple(vec.shape)}")
    offset = 0
    for parameter in listed:
        parameter.data = vec.detach()[offset : offset + parameter.numel()].view_as(parameter)
        offset += parameter.numel()
