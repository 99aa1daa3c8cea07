"""`torch.autograd.function`: Function and its decorator."""

from fastgrad._core.function import Function, once_differentiable

__all__ = ["Function", "once_differentiable"]
