"""Parameter: a tensor that a Module counts among its own."""

from __future__ import annotations

from typing import Any

from fastgrad._core import Tensor


class Parameter(Tensor):
    """A tensor that becomes a parameter of the Module to which it is assigned.

    It lies on the same storage as `data`, so nothing is copied. Semantics: PyTorch's `nn.Parameter`.

    >>> import fastgrad as torch
    >>> torch.nn.Parameter(torch.ones(2))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        if data is not None:
            self.data = _checked("Parameter", data)
        self.requires_grad = requires_grad

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            # As in PyTorch, the gradient stays behind.
            copied = type(self)(self.detach().clone(), self.requires_grad)
            copied.__dict__.update(self.__dict__)
            memo[id(self)] = copied
        return memo[id(self)]

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that becomes a buffer of the Module to which it is assigned: saved and moved with it, never trained.

    With `persistent=False` it is left out of the state dict. Semantics: PyTorch's `nn.Buffer`.
    """

    persistent: bool

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        if data is not None:
            self.data = _checked("Buffer", data)
        self.persistent = persistent


def _checked(name: str, data: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError(f"[{name}] data must be a Tensor; got {type(data).__name__}")
    return data
