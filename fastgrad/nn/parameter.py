"""Parameter: a tensor that a Module counts among its own."""

from __future__ import annotations

from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor


class Parameter(Tensor):
    """A tensor that becomes a parameter of the Module to which it is assigned.

    It lies on the same storage as `data`, so nothing is copied. Semantics: PyTorch's `nn.Parameter`.

    >>> import fastgrad as torch
    >>> torch.nn.Parameter(torch.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = _core.empty(0)
        elif not isinstance(data, Tensor):
            raise TypeError(f"[Parameter] data must be a Tensor; got {type(data).__name__}")
        return Tensor._make_subclass(cls, data.detach(), requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            copied = type(self)(self.detach().clone(), self.requires_grad)
            copied.__dict__.update(self.__dict__)
            memo[id(self)] = copied
        return memo[id(self)]

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild_parameter, (type(self), self.detach(), self.requires_grad, self.__dict__)


def _rebuild_parameter(cls: type[Parameter], data: Tensor, requires_grad: bool, attributes: dict) -> Parameter:
    parameter = cls(data, requires_grad)
    parameter.__dict__.update(attributes)
    return parameter


class Buffer(Tensor):
    """A tensor that becomes a buffer of the Module to which it is assigned: saved and moved with it, never trained.

    With `persistent=False` it is left out of the state dict. Semantics: PyTorch's `nn.Buffer`.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        buffer = Tensor._make_subclass(cls, (_core.empty(0) if data is None else data).detach(), False)
        buffer.persistent = persistent
        return buffer
