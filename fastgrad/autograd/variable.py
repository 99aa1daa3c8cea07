"""`Variable`, PyTorch's name before 0.4 for a tensor with a place in the graph."""

from __future__ import annotations

from fastgrad._core import Tensor

__all__ = ["Variable"]


class _VariableType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """`Variable(data, requires_grad=True)`: a tensor on data's elements; every Tensor is a Variable.

    >>> import fastgrad
    >>> fastgrad.autograd.Variable(fastgrad.ones(1), requires_grad=True)
    tensor([1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:  # type: ignore[misc]
        if not isinstance(data, Tensor):
            raise TypeError(f"[Variable] data must be a Tensor; got {type(data).__name__}")
        made = data.detach()
        made.requires_grad = requires_grad and not volatile
        return made
