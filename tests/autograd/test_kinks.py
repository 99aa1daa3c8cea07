"""Where an op has a kink, the gradient is PyTorch's (2.13); the marked test asks PyTorch itself.

Reasons: at relu's and abs' kink 0 is the subgradient of least norm; clamp passes its ends because they are inside; ties
in amax, amin, maximum, minimum and in a reduction to one number share equally; ties in max(dim) go to the element whose
index is returned; sqrt has slope infinity at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastgrad as fg

INF, NAN = math.inf, math.nan
KINKS: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("relu at 0", lambda t, x: t.relu(x), [-1.0, 0.0, -0.0, 2.0], [0.0, 0.0, 0.0, 1.0]),
    ("abs at 0", lambda t, x: t.abs(x), [-1.0, 0.0, 2.0], [-1.0, 0.0, 1.0]),
    ("sign at 0", lambda t, x: t.sign(x), [-1.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
    ("clamp at both ends", lambda t, x: t.clamp(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 1.0, 0.0]),
    ("clamp from below", lambda t, x: t.clamp(x, min=1.0), [0.0, 1.0, 2.0], [0.0, 1.0, 1.0]),
    ("clamp with ends exchanged", lambda t, x: t.clamp(x, 1.0, -1.0), [-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
    ("sqrt at 0", lambda t, x: t.sqrt(x), [0.0, 4.0], [INF, 0.25]),
    ("sqrt below 0", lambda t, x: t.sqrt(x), [-1.0], [NAN]),
    ("rsqrt at 0", lambda t, x: t.rsqrt(x), [0.0, 4.0], [-INF, -0.0625]),
    ("log at 0", lambda t, x: t.log(x), [0.0, 2.0], [INF, 0.5]),
    ("reciprocal at 0", lambda t, x: t.reciprocal(x), [0.0, 2.0], [-INF, -0.25]),
    ("norm at 0", lambda t, x: x.norm(), [0.0, 0.0], [0.0, 0.0]),
    ("norm of rows, one of them 0", lambda t, x: x.norm(2, 1), [[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [0.6, 0.8]]),
    ("1-norm at 0", lambda t, x: x.norm(1), [0.0, -2.0], [0.0, -1.0]),
    ("inf-norm with a tie", lambda t, x: x.norm(INF), [2.0, -2.0, 1.0], [0.5, -0.5, 0.0]),
    ("3-norm at 0", lambda t, x: x.norm(3), [0.0, 0.0], [0.0, 0.0]),
    ("max of all with a tie", lambda t, x: x.max(), [3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
    ("min of all with a tie", lambda t, x: x.min(), [1.0, 1.0, 3.0, 1.0], [1 / 3, 1 / 3, 0.0, 1 / 3]),
    ("amax with a tie", lambda t, x: x.amax(1), [[3.0, 3.0], [1.0, 2.0]], [[0.5, 0.5], [0.0, 1.0]]),
    ("amin with a tie", lambda t, x: x.amin((0, 1)), [[1.0, 1.0], [1.0, 2.0]], [[1 / 3, 1 / 3], [1 / 3, 0.0]]),
    ("max of rows with a tie", lambda t, x: x.max(1)[0], [[3.0, 3.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]),
    ("min of rows with a tie", lambda t, x: x.min(1)[0], [[3.0, 3.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]),
    ("maximum of equals, left", lambda t, x: t.maximum(x, t.zeros_like(x)), [0.0, 1.0, -1.0], [0.5, 1.0, 0.0]),
    ("minimum of equals, left", lambda t, x: t.minimum(x, t.zeros_like(x)), [0.0, 1.0, -1.0], [0.5, 0.0, 1.0]),
    ("maximum of a tensor with itself", lambda t, x: t.maximum(x, x), [0.0, 2.0], [1.0, 1.0]),
    ("prod with one zero", lambda t, x: x.prod(), [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    ("prod with two zeros", lambda t, x: x.prod(), [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
    ("prod of rows with zeros", lambda t, x: x.prod(1), [[0.0, 5.0], [0.0, 0.0]], [[5.0, 0.0], [0.0, 0.0]]),
    ("x**0 at 0", lambda t, x: x**0, [0.0, 2.0], [0.0, 0.0]),
    ("x**1 at 0", lambda t, x: x**1, [0.0, 2.0], [1.0, 1.0]),
    ("x**2 at 0", lambda t, x: x**2, [0.0, -2.0], [0.0, -4.0]),
    ("x**0.5 at 0", lambda t, x: x**0.5, [0.0, 4.0], [INF, 0.25]),
    ("x**tensor at 0", lambda t, x: x ** t.tensor([0.0, 2.0], dtype=x.dtype), [0.0, 0.0], [0.0, 0.0]),
    ("0**x", lambda t, x: 0.0**x, [0.0, 2.0], [0.0, 0.0]),
    ("division by zero", lambda t, x: x / 0.0, [1.0], [INF]),
    ("floor at an integer", lambda t, x: t.floor(x), [1.0, 1.5], [0.0, 0.0]),
    (
        "where keeps NaN of the other branch out of itself only",
        lambda t, x: t.where(x > 0, x.sqrt(), t.zeros_like(x)),
        [0.0, 4.0],
        [NAN, 0.25],
    ),
    ("relu of NaN", lambda t, x: t.relu(x), [NAN], [1.0]),
    ("softmax of equal large numbers", lambda t, x: t.softmax(x, 0)[0], [1e4, 1e4], [0.25, -0.25]),
    ("log_softmax far apart", lambda t, x: t.log_softmax(x, 0)[1], [1e4, 0.0], [-1.0, 1.0]),
]


def gradient(t: Any, f: Callable[..., Any], x: Any) -> Any:
    leaf = t.tensor(x, dtype=t.float64, requires_grad=True)
    f(t, leaf).sum().backward()
    return leaf.grad.numpy()


@pytest.mark.parametrize(("name", "f", "x", "expected"), KINKS, ids=[kink[0] for kink in KINKS])
def test_kink(name: str, f: Callable[..., Any], x: Any, expected: Any) -> None:
    np.testing.assert_allclose(gradient(fg, f, x), expected, rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "f", "x", "expected"), KINKS, ids=[kink[0] for kink in KINKS])
def test_the_table_is_pytorchs(name: str, f: Callable[..., Any], x: Any, expected: Any) -> None:
    np.testing.assert_allclose(gradient(pytest.importorskip("torch"), f, x), expected, rtol=1e-12)
