"""Derivatives by central differences, in float64 along random directions.

With outputs y = f(x), cotangents w and L(x) = sum(w*y), the gradient g = dL/dx must give the slope of L along any
direction v: sum(g*v) = (L(x + hv) - L(x - hv)) / 2h. The second derivative is checked by the same rule one level up:
R(x, w) = sum(u*g(x, w)), whose slope is taken from ordinary backward passes (the fused kernels) and compared with the
gradient of R under create_graph (the composites). Written independently of fastgrad.autograd.gradcheck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastgrad

Array = np.ndarray
STEP = 2.0**-18  # the truncation error h^2 and the rounding error eps/h are both near 1e-11


def outputs_of(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def numpy_of(gradient: Any) -> Array:
    """Through a copy: PyTorch has a lazy zero that refuses numpy()."""
    return (gradient + 0).numpy()


def differentiable(result: Any) -> list[Any]:
    """The float outputs; each must have been recorded, or an op that forgets to would pass every check below."""
    outputs = [y for y in outputs_of(result) if y.is_floating_point()]
    assert outputs and all(y.requires_grad for y in outputs), "an output was not recorded"
    return outputs


def leaves(t: Any, arrays: Sequence[Array], positions: Sequence[int]) -> list[Any]:
    """Tensors on the arrays' own memory; those at `positions` require a gradient."""
    return [t.from_numpy(a).requires_grad_(k in positions) for k, a in enumerate(arrays)]


def gradients(
    f: Callable[..., Any],
    arrays: Sequence[Array],
    positions: Sequence[int],
    cotangents: Sequence[Array],
    t: Any = fastgrad,
) -> list[Array]:
    """dL/dx for each x at `positions`; zeros for one that no output depends on."""
    tensors = leaves(t, arrays, positions)
    outputs = differentiable(f(*tensors))
    inputs = [tensors[k] for k in positions]
    found = t.autograd.grad(outputs, inputs, [t.from_numpy(w.copy()) for w in cotangents], allow_unused=True)
    return [np.zeros_like(arrays[k]) if g is None else numpy_of(g) for k, g in zip(positions, found, strict=True)]


def shifted(arrays: Sequence[Array], positions: Sequence[int], directions: Sequence[Array], step: float) -> list[Array]:
    moved = [a.copy() for a in arrays]
    for k, v in zip(positions, directions, strict=True):
        moved[k] = np.asarray(moved[k] + step * v)
    return moved


def assert_close(slope: float, expected: float, magnitude: float, what: str) -> None:
    """Central differences in float64 agree to about eight digits of the terms' magnitude."""
    error = abs(slope - expected)
    assert error <= 2e-7 * max(1.0, magnitude), f"{what}: central differences give {slope!r}, the gradient {expected!r}"


def draw_like(random: np.random.Generator, arrays: Sequence[Array]) -> list[Array]:
    return [np.asarray(random.normal(size=a.shape)) for a in arrays]


def cotangents_for(
    f: Callable[..., Any],
    arrays: Sequence[Array],
    positions: Sequence[int],
    random: np.random.Generator,
    t: Any = fastgrad,
) -> list[Array]:
    outputs = differentiable(f(*leaves(t, [a.copy() for a in arrays], positions)))
    return [np.asarray(random.normal(size=tuple(y.shape))) for y in outputs]


def check_first(
    f: Callable[..., Any], arrays: Sequence[Array], positions: Sequence[int], seed: int = 0, t: Any = fastgrad
) -> None:
    random = np.random.default_rng(seed)
    w = cotangents_for(f, arrays, positions, random, t)
    g = gradients(f, arrays, positions, w, t)

    def value(moved: Sequence[Array]) -> float:
        outputs = [y.detach().numpy() for y in differentiable(f(*leaves(t, moved, positions)))]
        return float(sum((w_k * y).sum() for w_k, y in zip(w, outputs, strict=True)))

    for _ in range(2):
        v = draw_like(random, [arrays[k] for k in positions])
        up, down = (value(shifted(arrays, positions, v, s)) for s in (STEP, -STEP))
        terms = [(g_k * v_k) for g_k, v_k in zip(g, v, strict=True)]
        magnitude = sum(np.abs(term).sum() for term in terms) + abs(up)
        assert_close((up - down) / (2 * STEP), float(sum(term.sum() for term in terms)), magnitude, "first derivative")


def check_second(
    f: Callable[..., Any], arrays: Sequence[Array], positions: Sequence[int], seed: int = 0, t: Any = fastgrad
) -> None:
    random = np.random.default_rng(seed)
    w = cotangents_for(f, arrays, positions, random, t)
    u = draw_like(random, [arrays[k] for k in positions])
    curvature = hessian_product(f, arrays, positions, w, u, t)

    def value(moved: Sequence[Array], w_moved: Sequence[Array]) -> float:
        return float(
            sum((u_k * g_k).sum() for u_k, g_k in zip(u, gradients(f, moved, positions, w_moved, t), strict=True))
        )

    for _ in range(2):
        v = draw_like(random, [arrays[k] for k in positions] + w)
        ends = [
            value(
                shifted(arrays, positions, v[: len(positions)], s),
                [np.asarray(a + s * b) for a, b in zip(w, v[len(positions) :], strict=True)],
            )
            for s in (STEP, -STEP)
        ]
        terms = [c * v_k for c, v_k in zip(curvature, v, strict=True)]
        magnitude = sum(np.abs(term).sum() for term in terms) + abs(ends[0])
        assert_close(
            (ends[0] - ends[1]) / (2 * STEP), float(sum(term.sum() for term in terms)), magnitude, "second derivative"
        )


def hessian_product(
    f: Callable[..., Any],
    arrays: Sequence[Array],
    positions: Sequence[int],
    w: Sequence[Array],
    u: Sequence[Array],
    t: Any = fastgrad,
) -> list[Array]:
    """Gradients of sum(u * dL/dx) with respect to the inputs and then the cotangents, recorded by create_graph."""
    tensors = leaves(t, [a.copy() for a in arrays], positions)
    weights = [t.from_numpy(a.copy()).requires_grad_() for a in w]
    inputs = [tensors[k] for k in positions]
    outputs = differentiable(f(*tensors))
    zeros = [np.zeros_like(a) for a in [*(arrays[k] for k in positions), *w]]
    first = t.autograd.grad(outputs, inputs, weights, create_graph=True, allow_unused=True)
    terms = [
        (t.from_numpy(u_k.copy()) * g).sum()
        for u_k, g in zip(u, first, strict=True)
        if g is not None and g.requires_grad
    ]
    if not terms:
        return zeros
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    second = t.autograd.grad(total, [*inputs, *weights], allow_unused=True)
    return [zero if g is None else numpy_of(g) for zero, g in zip(zeros, second, strict=True)]
