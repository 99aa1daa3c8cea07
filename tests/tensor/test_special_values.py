"""NaN and inf pass through as IEEE 754 says, and a zero in any axis works everywhere."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastgrad as fg

INF, NAN = math.inf, math.nan
SPECIAL = np.array([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 1e30, -1e30, 1e-45, 88.8, -104.0, 710.0, -746.0])

UNARY: list[tuple[str, Callable[..., Any]]] = [
    ("neg", np.negative),
    ("abs", np.abs),
    ("sqrt", np.sqrt),
    ("exp", np.exp),
    ("expm1", np.expm1),
    ("log", np.log),
    ("log1p", np.log1p),
    ("sin", np.sin),
    ("cos", np.cos),
    ("tanh", np.tanh),
    ("square", np.square),
    ("reciprocal", np.reciprocal),
    ("floor", np.floor),
    ("ceil", np.ceil),
    ("trunc", np.trunc),
    ("relu", lambda x: np.maximum(x, 0)),
    ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ("isnan", np.isnan),
    ("isinf", np.isinf),
    ("isfinite", np.isfinite),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "reference"), UNARY, ids=[u[0] for u in UNARY])
@pytest.mark.parametrize("repeat", [1, 9])
def test_unary(name: str, reference: Callable[..., Any], dtype: Any, repeat: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = np.tile(SPECIAL.astype(dtype), repeat)
        if name in ("sin", "cos"):
            x = np.where(np.abs(x) > 1e20, 0.5, x).astype(dtype)
        expected = reference(x.astype(np.float64)).astype(dtype) if name != "reciprocal" else (1 / x)
    expected = expected.astype(bool) if name.startswith("is") else expected
    found = getattr(fg, name)(fg.from_numpy(x)).numpy()
    if expected.dtype == bool:
        np.testing.assert_array_equal(found, expected)
    else:
        smallest = np.finfo(dtype).smallest_normal
        np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=smallest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("div", np.divide),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
    ],
)
def test_binary(name: str, reference: Callable[..., Any], dtype: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (g.reshape(-1).copy() for g in np.meshgrid(SPECIAL.astype(dtype), SPECIAL.astype(dtype)))
        expected = reference(a, b)
    np.testing.assert_array_equal(getattr(fg, name)(fg.from_numpy(a), fg.from_numpy(b)).numpy(), expected)


def test_comparisons_with_nan() -> None:
    x = fg.tensor([NAN, 1.0])
    assert (x == x).tolist() == [False, True] and (x != x).tolist() == [True, False]
    for compare in (fg.lt, fg.le, fg.gt, fg.ge):
        assert compare(x, x)[0].item() is False


@pytest.mark.parametrize("length", [1, 2, 7, 16, 33, 100])
def test_reductions_with_nan(length: int) -> None:
    for position in {0, length // 2, length - 1}:
        x = fg.ones(length)
        x[position] = NAN
        for f in (fg.sum, fg.mean, fg.max, fg.min, fg.prod, fg.norm):
            assert math.isnan(f(x).item()), f
        assert x.argmax().item() == x.argmin().item() == position == x.max(0)[1].item() == x.min(0)[1].item()
        assert x.softmax(0).isnan().all() and math.isnan(x.clamp(0.0, 1.0)[position].item())


def test_softmax_of_extremes() -> None:
    assert fg.tensor([1e38, -1e38]).softmax(0).tolist() == [1.0, 0.0]
    assert fg.tensor([-INF, 0.0]).softmax(0).tolist() == [0.0, 1.0]
    assert fg.tensor([-INF, 0.0]).log_softmax(0).tolist() == [-INF, 0.0]
    assert fg.tensor([-INF, -INF]).softmax(0).isnan().all()
    assert fg.nn.functional.cross_entropy(fg.tensor([[1000.0, 0.0]]), fg.tensor([1])).item() == 1000.0


def test_matmul_propagates() -> None:
    for size in (1, 3, 17, 40):
        a = fg.ones(size, size)
        a[0, 0] = NAN
        y = a @ fg.zeros(size, size)
        assert y[0].isnan().all() and not y[1:].isnan().any()
        a[0, 0] = INF
        assert (a @ fg.ones(size, size))[0].isinf().all()


EMPTY: list[tuple[str, Callable[..., Any], tuple[int, ...]]] = [
    ("add", lambda x: x + 1, (0, 3)),
    ("broadcast", lambda x: x + fg.ones(5, 1, 1), (5, 0, 3)),
    ("mul with itself", lambda x: x * x, (0, 3)),
    ("exp", lambda x: x.exp(), (0, 3)),
    ("sum", lambda x: x.sum(), ()),
    ("sum dim 0", lambda x: x.sum(0), (3,)),
    ("sum dim 1", lambda x: x.sum(1, keepdim=True), (0, 1)),
    ("mean dim 1", lambda x: x.mean(1), (0,)),
    ("prod", lambda x: x.prod(0), (3,)),
    ("norm", lambda x: x.norm(), ()),
    ("norm dim 0", lambda x: x.norm(2, 0), (3,)),
    ("max dim 1", lambda x: x.max(1)[0], (0,)),
    ("amin dim 1", lambda x: x.amin(1), (0,)),
    ("softmax", lambda x: x.softmax(1), (0, 3)),
    ("softmax along the empty axis", lambda x: x.softmax(0), (0, 3)),
    ("matmul, empty rows", lambda x: x @ fg.ones(3, 2), (0, 2)),
    ("matmul, empty inner axis", lambda x: x.t() @ fg.ones(0, 2), (3, 2)),
    ("bmm", lambda x: fg.bmm(x.view(0, 3, 1), x.view(0, 1, 3)), (0, 3, 3)),
    ("linear", lambda x: fg.nn.functional.linear(x, fg.ones(2, 3), fg.ones(2)), (0, 2)),
    ("transpose", lambda x: x.t(), (3, 0)),
    ("view", lambda x: x.view(3, 0), (3, 0)),
    ("flatten", lambda x: x.flatten(), (0,)),
    ("expand", lambda x: x.unsqueeze(0).expand(4, 0, 3), (4, 0, 3)),
    ("cat", lambda x: fg.cat([x, fg.ones(2, 3)]), (2, 3)),
    ("stack", lambda x: fg.stack([x, x]), (2, 0, 3)),
    ("index", lambda x: x[:, 1], (0,)),
    ("index by an empty array", lambda x: x.t()[fg.zeros(0, dtype=fg.int64)], (0, 0)),
    ("mask", lambda x: x[x > 0], (0,)),
    ("gather", lambda x: x.gather(1, fg.zeros(0, 2, dtype=fg.int64)), (0, 2)),
    (
        "embedding of no indices",
        lambda x: fg.nn.functional.embedding(fg.zeros(2, 0, dtype=fg.int64), x.sum(0, keepdim=True)),
        (2, 0, 3),
    ),
    ("index_select", lambda x: x.index_select(1, fg.tensor([2, 0])), (0, 2)),
    ("where", lambda x: fg.where(x > 0, x, 0.0), (0, 3)),
    ("clamp", lambda x: x.clamp(0, 1), (0, 3)),
    ("cumsum", lambda x: x.cumsum(0), (0, 3)),
    ("relu", lambda x: x.relu(), (0, 3)),
    ("mse sum", lambda x: fg.nn.functional.mse_loss(x, x.detach(), reduction="sum"), ()),
]


@pytest.mark.parametrize(("name", "f", "shape"), EMPTY, ids=[e[0] for e in EMPTY])
def test_empty(name: str, f: Callable[..., Any], shape: tuple[int, ...]) -> None:
    x = fg.zeros(0, 3, requires_grad=True)
    y = f(x)
    assert tuple(y.shape) == shape
    assert y.tolist() == np.full(shape, {"prod": 1.0, "cat": 1.0}.get(name, 0.0)).tolist()
    y.sum().backward()
    assert x.grad is None or x.grad.shape == (0, 3)


def test_empty_reductions_without_an_identity() -> None:
    x = fg.zeros(0, 3)
    for f in (
        lambda: x.max(),
        lambda: x.min(),
        lambda: x.max(0),
        lambda: x.argmax(),
        lambda: x.argmin(0),
        lambda: x.amax(0),
    ):
        with pytest.raises((RuntimeError, IndexError), match=r"[^ ]"):
            f()
    assert math.isnan(x.mean().item()) and x.mean(0).isnan().all()


def test_empty_recurrence() -> None:
    rnn = fg.nn.RNN(3, 2)
    y, h = rnn(fg.zeros(4, 0, 3))
    assert y.shape == (4, 0, 2) and h.shape == (1, 0, 2)
    y.sum().backward()
    assert not rnn.weight_hh_l0.grad.any()


def test_integer_arithmetic() -> None:
    x = fg.tensor([7, -7, 2**62])
    assert (x * 4)[2].item() == 0, "integers wrap"
    assert (x // 2)[:2].tolist() == [3, -4] and (x % 4)[:2].tolist() == [3, 1] and fg.fmod(x, 4)[:2].tolist() == [3, -3]
    for divide in (lambda: x // 0, lambda: x % 0, lambda: fg.fmod(x, 0), lambda: x // fg.tensor([1, 0, 1])):
        with pytest.raises((RuntimeError, ZeroDivisionError), match=r"[Zz]ero"):
            divide()
    low = fg.tensor([-(2**63)])
    assert (low // -1).shape == (1,) and (low % -1).tolist() == [0], "the one quotient that overflows must not trap"
    assert (fg.tensor([2, -1, 1, 0]) ** fg.tensor([3, 3, 0, 2])).tolist() == [8, -1, 1, 0]
    with pytest.raises(RuntimeError, match="negative integer powers"):
        fg.tensor([2]) ** -1
    assert fg.tensor([200], dtype=fg.uint8).add(100).item() == 44
    assert (-fg.tensor([1], dtype=fg.uint8)).item() == 255
    assert (x / 2)[0].item() == 3.5 and (~fg.tensor([0, 5])).tolist() == [-1, -6]
    with pytest.raises(RuntimeError):
        fg.tensor([True]) - fg.tensor([True])
