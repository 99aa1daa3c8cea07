"""Limiting gradients: by their common norm, or by value.

R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastgrad import _core
from fastgrad._core import Tensor, no_grad


def _as_list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients of all parameters so that their common norm is at most `max_norm`; returns the norm before.

    The norm is that of one vector of all elements; `float("inf")` is the largest magnitude. It and the scaling are one
    launch each, so `foreach` chooses nothing.

    >>> import fastgrad as torch
    >>> p = torch.nn.Parameter(torch.zeros(2)); p.grad = torch.tensor([3., 4.])
    >>> torch.nn.utils.clip_grad_norm_([p], 1.0)
    tensor(5.)
    >>> p.grad
    tensor([0.6000, 0.8000])
    """
    listed = _as_list(parameters)
    norm = _core.grad_norm(listed, float(norm_type))
    _check_finite(norm, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(listed, max_norm, norm)
    return norm if any(p.dtype is _core.float64 for p in listed if p.grad is not None) else norm.float()


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients of all parameters by max_norm / (total_norm + 1e-6) where that is less than 1."""
    factor = float(max_norm) / (total_norm.item() + 1e-6)
    if not factor >= 1:  # so that a NaN norm makes the gradients NaN, as in PyTorch
        _core.scale_grads(_as_list(parameters), factor)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of all tensors together."""
    with no_grad():
        parts = [tensor.detach().flatten() for tensor in _as_list(tensors)]
        norm = _core.norm(_core.cat(parts) if parts else _core.zeros(1), float(norm_type))
    _check_finite(norm, norm_type, error_if_nonfinite)
    return norm


def _check_finite(norm: Tensor, norm_type: float, wanted: bool) -> None:
    if wanted and not abs(norm.item()) < float("inf"):
        raise RuntimeError(
            f"[clip_grad_norm_] the norm of order {norm_type} of the gradients must be finite when error_if_nonfinite "
            f"is set; got {norm.item()}"
        )


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value]."""
    limit = float(clip_value)
    with no_grad():
        for parameter in _as_list(parameters):
            if parameter.grad is not None:
                parameter.grad.clamp_(-limit, limit)
