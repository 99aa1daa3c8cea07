"""The kernels of softmax.c against the formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import generators

from fastgrad._core import launch_kernel

Array = np.ndarray[Any, Any]
REALS = ["float32", "float64"]
NONE, MEAN, SUM = 0, 1, 2
IGNORED = -100
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def log_softmax(x: Array) -> Array:
    x = x.astype(np.float64)
    shifted = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def softmax(x: Array) -> Array:
    return np.exp(log_softmax(x))


def run(name: str, *inputs: Array) -> Array:
    out = np.full_like(inputs[0], 77)
    launch_kernel(name, [out, *inputs])
    return out


def close(result: Array, expected: Array, scale: float = 1.0) -> None:
    tolerance = TOLERANCE[str(result.dtype)]
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * scale)


def shapes() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, 5), st.integers(1, 70))


@pytest.mark.parametrize("dtype", REALS)
@given(shape=shapes(), rng=generators())
def test_forward_and_backward(dtype: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    x, dy = (rng.standard_normal(shape).astype(dtype) * 4 for _ in range(2))
    log_p = log_softmax(x)
    p = np.exp(log_p)
    close(run("softmax", x), p)
    close(run("log_softmax", x), log_p, 10)
    y, wide_dy = p.astype(dtype), dy.astype(np.float64)
    magnitude = float(np.abs(dy).sum(initial=1))
    wide_y = y.astype(np.float64)
    close(run("softmax_backward", dy, y), wide_y * (wide_dy - (wide_dy * wide_y).sum(1, keepdims=True)), magnitude)
    y = log_p.astype(dtype)
    wide_y = y.astype(np.float64)
    close(run("log_softmax_backward", dy, y), wide_dy - np.exp(wide_y) * wide_dy.sum(1, keepdims=True), magnitude)


@pytest.mark.parametrize("dtype", REALS)
def test_every_row_length(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for columns in [*range(1, 140), 1000, 1001]:
        x = rng.standard_normal((3, columns)).astype(dtype)
        p = softmax(x)
        close(run("softmax", x), p)
        close(run("log_softmax", x), np.log(p), 10)
        wide = x.astype(np.float64)
        close(run("softmax_backward", x, x), wide * (wide - (wide**2).sum(1, keepdims=True)), 10 * columns)
        close(run("log_softmax_backward", x, x), wide - np.exp(wide) * wide.sum(1, keepdims=True), 10 * columns)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [1, 2, 10, 33])
def test_the_output_may_be_the_input(dtype: str, columns: int) -> None:
    x = np.random.default_rng(2).standard_normal((4, columns)).astype(dtype)
    for name in ("softmax", "log_softmax"):
        expected = run(name, x)
        inplace = x.copy()
        launch_kernel(name, [inplace, inplace])
        np.testing.assert_array_equal(inplace, expected)
    for name in ("softmax_backward", "log_softmax_backward"):
        expected = run(name, x, expected)
        inplace = x.copy()
        launch_kernel(name, [inplace, inplace, run(name.removesuffix("_backward"), x)])
        np.testing.assert_array_equal(inplace, run(name, x, run(name.removesuffix("_backward"), x)))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [2, 7, 16, 40])
def test_large_logits(dtype: str, columns: int) -> None:
    x = np.zeros((4, columns), dtype)
    x[0, 1], x[1, 0] = 1e4, -1e4
    x[2] = 1e4 * (-1.0) ** np.arange(columns)
    x[3] = np.finfo(dtype).max
    log_p = log_softmax(x)
    close(run("softmax", x), np.exp(log_p))
    np.testing.assert_allclose(run("log_softmax", x), log_p, rtol=TOLERANCE[dtype])
    assert run("softmax", x)[0].tolist() == [0, 1] + [0] * (columns - 2)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [2, 5, 16, 19, 70])
def test_inf_and_nan(dtype: str, columns: int) -> None:
    for place in (0, columns // 2, columns - 1):
        x = np.linspace(-1, 1, 5 * columns).astype(dtype).reshape(5, columns)
        x[0, place] = -np.inf
        x[1] = -np.inf
        x[2, place] = np.inf
        x[3, place] = np.nan
        for name in ("softmax", "log_softmax"):
            y, reference = run(name, x), log_softmax if name == "log_softmax" else softmax
            assert np.isnan(y[1]).all() and np.isnan(y[2, place]) and np.isnan(y[3]).all()
            others = np.delete(np.arange(columns), place)
            close(y[:1, others], reference(x[:1, others]))
            close(y[4:], reference(x[4:]))
        assert run("softmax", x)[0, place] == 0
        assert run("log_softmax", x)[0, place] == -np.inf


def reference_loss(x: Array, target: Array, weight: Array | None, reduction: int, smoothing: float) -> Array:
    """https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html, in float64."""
    surprise = -log_softmax(x)
    w = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
    counted = target != IGNORED
    safe = np.where(counted, target, 0)
    losses = (1 - smoothing) * w[safe] * surprise[np.arange(len(x)), safe]
    if smoothing:
        losses = losses + smoothing / x.shape[1] * (surprise * w).sum(1)
    losses = np.where(counted, losses, 0)
    if reduction == NONE:
        return losses
    with np.errstate(invalid="ignore", divide="ignore"):
        return losses.sum() / (w[safe] * counted).sum() if reduction == MEAN else losses.sum()


def cross_entropy(
    x: Array, target: Array, weight: Array | None, reduction: int, smoothing: float, *, save: bool = True
) -> tuple[Array, Array | None]:
    loss = np.full(len(x) if reduction == NONE else (), 77, x.dtype)
    probability = np.full_like(x, 77) if save else None
    operands = [loss, probability, x, target, 1.0 if weight is None else weight]
    launch_kernel("cross_entropy", operands, i=(IGNORED, reduction), f=(smoothing,))
    return loss, probability


def cross_entropy_backward(
    dloss: Array, probability: Array, target: Array, weight: Array | None, reduction: int, smoothing: float
) -> Array:
    dx = np.full_like(probability, 77)
    operands = [dx, dloss, probability, target, 1.0 if weight is None else weight]
    launch_kernel("cross_entropy_backward", operands, i=(IGNORED, reduction), f=(smoothing,))
    return dx


@st.composite
def problems(draw: st.DrawFn, dtype: str) -> tuple[Array, Array, Array | None, np.random.Generator]:
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = draw(generators())
    target = rng.integers(0, classes, rows)
    if draw(st.booleans()):
        target[rng.random(rows) < 0.3] = IGNORED
        target[rng.integers(rows)] = rng.integers(classes)
    weight = rng.uniform(0.1, 2, classes).astype(dtype) if draw(st.booleans()) else None
    return 3 * rng.standard_normal((rows, classes)).astype(dtype), target, weight, rng


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM])
@pytest.mark.parametrize("dtype", REALS)
@given(data=st.data())
def test_cross_entropy(dtype: str, reduction: int, smoothing: float, data: st.DataObject) -> None:
    x, target, weight, _ = data.draw(problems(dtype))
    expected = reference_loss(x, target, weight, reduction, smoothing)
    loss, probability = cross_entropy(x, target, weight, reduction, smoothing)
    close(loss, expected, 10)
    assert probability is not None
    close(probability, softmax(x))
    unsaved, _ = cross_entropy(x, target, weight, reduction, smoothing, save=False)
    np.testing.assert_array_equal(unsaved, loss)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", [NONE, MEAN, SUM])
@given(data=st.data())
def test_cross_entropy_backward_against_central_differences(
    reduction: int, smoothing: float, data: st.DataObject
) -> None:
    x, target, weight, rng = data.draw(problems("float64"))
    _, probability = cross_entropy(x, target, weight, reduction, smoothing)
    assert probability is not None
    dloss = rng.standard_normal(len(x) if reduction == NONE else ())
    dx = cross_entropy_backward(np.asarray(dloss), probability, target, weight, reduction, smoothing)
    for _ in range(3):
        direction, step = rng.standard_normal(x.shape), 1e-5
        ahead, behind = (
            np.sum(dloss * reference_loss(x + sign * step * direction, target, weight, reduction, smoothing))
            for sign in (1, -1)
        )
        np.testing.assert_allclose((dx * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)
    assert (dx[target == IGNORED] == 0).all()
    narrow = cross_entropy_backward(
        np.asarray(dloss, np.float32), probability.astype(np.float32), target,
        None if weight is None else weight.astype(np.float32), reduction, smoothing,
    )  # fmt: skip
    close(narrow, dx, 5)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_without_a_counted_row(dtype: str, smoothing: float) -> None:
    for rows in (0, 3):
        x = np.ones((rows, 4), dtype)
        target = np.full(rows, IGNORED)
        assert np.isnan(cross_entropy(x, target, None, MEAN, smoothing)[0])
        assert cross_entropy(x, target, None, SUM, smoothing)[0] == 0
        loss, probability = cross_entropy(x, target, None, NONE, smoothing)
        assert probability is not None and loss.tolist() == [0] * rows
        dloss = np.ones((), dtype)
        assert (cross_entropy_backward(dloss, probability, target, None, MEAN, smoothing) == 0).all()


@pytest.mark.parametrize("dtype", REALS)
def test_cross_entropy_of_extreme_logits(dtype: str) -> None:
    x = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [-np.inf, 0, 0], [-np.inf] * 3, [np.nan, 0, 0]], dtype)
    loss, probability = cross_entropy(x, np.zeros(5, np.int64), None, NONE, 0.0)
    assert loss[:3].tolist() == [0, 2e4, np.inf] and np.isnan(loss[3:]).all()
    assert probability is not None
    dx = cross_entropy_backward(np.ones(5, dtype), probability, np.zeros(5, np.int64), None, NONE, 0.0)
    assert dx[:3].tolist() == [[0, 0, 0], [-1, 1, 0], [-1, 0.5, 0.5]]


@pytest.mark.torch
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@given(data=st.data())
def test_cross_entropy_agrees_with_torch(reduction: str, smoothing: float, data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    x, target, weight, _ = data.draw(problems("float64"))
    t = torch.from_numpy(x.copy()).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        t, torch.from_numpy(target), None if weight is None else torch.from_numpy(weight),
        reduction=reduction, label_smoothing=smoothing,
    )  # fmt: skip
    code = ["none", "mean", "sum"].index(reduction)
    loss, probability = cross_entropy(x, target, weight, code, smoothing)
    close(loss, expected.detach().numpy())
    expected.sum().backward()
    assert probability is not None
    dx = cross_entropy_backward(np.ones_like(loss), probability, target, weight, code, smoothing)
    close(dx, t.grad.numpy())


@pytest.mark.torch
@given(shape=shapes(), rng=generators())
def test_softmax_of_special_values_agrees_with_torch(shape: tuple[int, int], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.choice(
        [0, 1, -1, 1e4, -1e4, np.inf, -np.inf, np.nan], shape, p=[0.3, 0.3, 0.2, 0.05, 0.05, 0.03, 0.05, 0.02]
    )
    for name in ("softmax", "log_softmax"):
        close(run(name, x), getattr(torch, name)(torch.from_numpy(x), 1).numpy())
