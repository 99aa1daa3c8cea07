"""Gradients against central differences, as `torch.autograd.gradcheck`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor
from fastgrad._core.autograd import enable_grad, grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient and the differences of the function disagree."""


def _tensors(result: Any) -> list[Tensor]:
    """The float tensors among a function's results."""
    items = result if isinstance(result, tuple | list) else (result,)
    return [item for item in items if isinstance(item, Tensor) and item.dtype.is_floating_point]


def _numerical(function: Callable[[], list[Tensor]], x: Tensor, eps: float) -> list[Tensor]:
    """d output / d x for every output, (elements of x, elements of the output), by central differences."""
    rows: list[list[Tensor]] = []
    flat = x.data
    for index in range(x.numel()):
        place = _unravel(index, x.shape)
        value = flat[place].item()
        flat[place] = value + eps
        above = [out.detach().clone() for out in function()]
        flat[place] = value - eps
        below = [out.detach().clone() for out in function()]
        flat[place] = value
        rows.append([((up - down) / (2 * eps)).reshape(-1) for up, down in zip(above, below, strict=True)])
    return [_core.stack(list(column)) for column in zip(*rows, strict=True)]


def _unravel(index: int, shape: Sequence[int]) -> tuple[int, ...]:
    place = []
    for size in reversed(shape):
        place.append(index % size)
        index //= size
    return tuple(reversed(place))


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare the gradients of `func(*inputs)` with central differences, for every input that requires a gradient.

    The inputs should be float64. Checked are: each Jacobian, |analytical - numerical| <= atol + rtol |numerical|; that
    a second backward gives the same (up to `nondet_tol`); and, with `check_undefined_grad`, that an output without a
    gradient counts as one of zeros. Returns True; else raises GradcheckError, or returns False if not
    `raise_exception`. See torch.autograd.gradcheck (`fast_mode` is accepted: the check is always of every element).

    >>> import fastgrad
    >>> x = fastgrad.tensor([1., 2.], dtype=fastgrad.float64, requires_grad=True)
    >>> fastgrad.autograd.gradcheck(lambda x: x.exp(), x)
    True
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    try:
        _check(func, arguments, eps, atol, rtol, nondet_tol, check_undefined_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(
    func: Callable[..., Any],
    inputs: tuple[Any, ...],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
    undefined: bool,
) -> None:
    checked = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("[gradcheck] at least one input must require a gradient; got none")

    def outputs() -> list[Tensor]:
        return _tensors(func(*inputs))

    with enable_grad():
        results = outputs()
        if not any(out.requires_grad for out in results):
            _check_constant(outputs, checked, eps)
        for position, out in enumerate(results):
            if not out.requires_grad:
                continue
            analytical = _jacobians(out, checked)
            again = _jacobians(out, checked)
            for first, second in zip(analytical, again, strict=True):
                if first.numel() and not (first - second).abs().max().item() <= nondet_tol:
                    raise GradcheckError(
                        "[gradcheck] a backward must give the same gradient twice; got a difference above "
                        f"{nondet_tol} in output {position}"
                    )
            for which, (x, mine) in enumerate(zip(checked, analytical, strict=True)):
                if not x.numel() or not out.numel():
                    continue
                numerical = _numerical(outputs, x, eps)[position]
                if not _core.allclose(mine.detach(), numerical, rtol, atol):
                    raise GradcheckError(
                        f"[gradcheck] Jacobian mismatch for output {position} with respect to input {which}; got\n"
                        f"numerical: {numerical}\nanalytical: {mine}"
                    )
        if undefined and len(results) > 1:
            _check_undefined(results, checked)


def _check_constant(outputs: Callable[[], list[Tensor]], inputs: list[Tensor], eps: float) -> None:
    """Outputs that do not require a gradient must not change with the inputs."""
    for which, x in enumerate(inputs):
        for position, numerical in enumerate(_numerical(outputs, x, eps)):
            if numerical.numel() and numerical.abs().max().item() > 0:
                raise GradcheckError(
                    f"[gradcheck] an output that depends on an input must require a gradient; got output {position} "
                    f"without one, which changes with input {which}"
                )


def _jacobians(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """d out / d x for every x, (elements of x, elements of out), a row of the identity at a time."""
    columns: list[list[Tensor]] = [[] for _ in inputs]
    for index in range(out.numel()):
        seed = _core.zeros_like(out.detach())
        seed[_unravel(index, out.shape)] = 1
        found = grad(out, inputs, seed, retain_graph=True, allow_unused=True)
        for column, x, gradient in zip(columns, inputs, found, strict=True):
            if gradient is not None and gradient.shape != x.shape:
                raise GradcheckError(
                    f"[gradcheck] a gradient must have its input's shape {tuple(x.shape)}; got {tuple(gradient.shape)}"
                )
            column.append((_core.zeros_like(x.detach()) if gradient is None else gradient.detach()).reshape(-1))
    return [
        _core.stack(column, 1) if column else x.new_zeros(x.numel(), 0)
        for column, x in zip(columns, inputs, strict=True)
    ]


def _check_undefined(results: list[Tensor], inputs: list[Tensor]) -> None:
    """The gradient through one output alone equals that with zeros for the others."""
    results = [out for out in results if out.requires_grad]
    for position, out in enumerate(results):
        seeds = [
            _core.ones_like(o.detach()) if k == position else _core.zeros_like(o.detach())
            for k, o in enumerate(results)
        ]
        alone = grad(out, inputs, seeds[position], retain_graph=True, allow_unused=True)
        together = grad(results, inputs, seeds, retain_graph=True, allow_unused=True)
        for mine, other in zip(alone, together, strict=True):
            a = 0.0 if mine is None else mine.detach()
            b = 0.0 if other is None else other.detach()
            difference = a - b
            if isinstance(difference, Tensor) and difference.numel() and difference.abs().max().item() > 1e-10:
                raise GradcheckError(
                    "[gradcheck] an output without a gradient must count as one with a gradient of zeros; got a "
                    f"difference with output {position} alone"
                )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """`gradcheck` of the gradient: second derivatives by the inputs and by `grad_outputs`, which are random if None.

    See torch.autograd.gradgradcheck.

    >>> import fastgrad
    >>> x = fastgrad.tensor([1., 2.], dtype=fastgrad.float64, requires_grad=True)
    >>> fastgrad.autograd.gradgradcheck(lambda x: x.exp(), x)
    True
    """
    listed = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    with enable_grad():
        results = [out for out in _tensors(func(*listed)) if out.requires_grad]
    if grad_outputs is None:
        seeds = [_core.randn_like(out.detach()) for out in results]
    else:
        seeds = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    seeds = [seed.detach().requires_grad_() for seed in seeds]

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        values, directions = arguments[: len(listed)], arguments[len(listed) :]
        outs = [out for out in _tensors(func(*values)) if out.requires_grad]
        wanted = [x for x in values if isinstance(x, Tensor) and x.requires_grad]
        with enable_grad():
            found = grad(outs, wanted, list(directions), create_graph=True, allow_unused=True)
        return tuple(d for d in found if d is not None)

    def with_graph(*arguments: Any) -> tuple[Tensor, ...]:
        with enable_grad():
            return gradient(*arguments)

    return gradcheck(
        with_graph, (*listed, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad,
    )  # fmt: skip
