"""The optimizers' steps against their formulas in NumPy, and against torch.optim."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from fastgrad._core import launch_kernel

SHAPES = [(), (0,), (3,), (5, 7), (2, 0, 3), (1000,)]
STEPS = 5


def parameters(rng: np.random.Generator, dtype: Any) -> list[np.ndarray]:
    return [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in SHAPES]


def sgd_reference(
    p: np.ndarray, g: np.ndarray, buffer: np.ndarray | None, lr: float, momentum: float, dampening: float,
    weight_decay: float, nesterov: bool, maximize: bool, first: bool,
) -> None:  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    if buffer is not None:
        buffer[...] = g if first else momentum * buffer + (1 - dampening) * g
        g = g + momentum * buffer if nesterov else buffer
    p -= lr * g


def adam_reference(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, v_max: np.ndarray | None, t: int, lr: float,
    beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool,
) -> None:  # fmt: skip
    g = -g if maximize else g
    if decoupled:
        p *= 1 - lr * weight_decay
    else:
        g = g + weight_decay * p
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * g * g
    if v_max is not None:
        v_max[...] = np.maximum(v_max, v)
        v = v_max
    p -= lr / (1 - beta1**t) * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)


def sgd_step(
    ps: list[np.ndarray], gs: list[np.ndarray], buffers: list[Any], lr: float, momentum: float, dampening: float,
    weight_decay: float, nesterov: bool, maximize: bool, first: bool,
) -> None:  # fmt: skip
    operands = [x for group in zip(ps, gs, buffers, strict=True) for x in group]
    launch_kernel("sgd", operands, f=(lr, momentum, dampening, weight_decay), i=(nesterov, maximize, first))


def adam_step(
    ps: list[np.ndarray], gs: list[np.ndarray], ms: list[np.ndarray], vs: list[np.ndarray], v_maxs: list[Any], t: int,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool,
) -> None:  # fmt: skip
    operands = [x for group in zip(ps, gs, ms, vs, v_maxs, strict=True) for x in group]
    corrections = (1 - beta1**t, 1 - beta2**t)
    f = (lr, beta1, beta2, eps, weight_decay, *corrections)
    launch_kernel("adam", operands, f=f, i=(decoupled, v_maxs[0] is not None, maximize))


SGD_FLAGS = [
    (momentum, dampening, weight_decay, nesterov, maximize)
    for momentum, dampening, weight_decay, nesterov, maximize in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (0.0, 0.01), (False, True), (False, True)
    )
    if (momentum > 0 and dampening == 0) or not nesterov
]
ADAM_FLAGS = list(itertools.product((0.0, 0.01), (False, True), (False, True), (False, True)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), SGD_FLAGS)
def test_sgd(
    dtype: Any, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool
) -> None:
    rng = np.random.default_rng(0)
    ps = parameters(rng, dtype)
    expected = [p.astype(np.float64) for p in ps]
    # The first step must not read the buffers, so they start as NaN.
    buffers = [np.full_like(p, math.nan) if momentum else None for p in ps]
    expected_buffers = [np.zeros_like(p) if momentum else None for p in expected]
    for step in range(STEPS):
        gs = parameters(rng, dtype)
        sgd_step(ps, gs, buffers, 0.1, momentum, dampening, weight_decay, nesterov, maximize, step == 0)
        for p, g, buffer in zip(expected, gs, expected_buffers, strict=True):
            g = g.astype(np.float64)
            sgd_reference(p, g, buffer, 0.1, momentum, dampening, weight_decay, nesterov, maximize, step == 0)
    tolerance = 3e-6 if dtype == np.float32 else 1e-13
    for p, q in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("weight_decay", "decoupled", "amsgrad", "maximize"), ADAM_FLAGS)
def test_adam(dtype: Any, weight_decay: float, decoupled: bool, amsgrad: bool, maximize: bool) -> None:
    rng = np.random.default_rng(0)
    ps = parameters(rng, dtype)
    expected = [p.astype(np.float64) for p in ps]
    ms, vs, v_maxs = ([np.zeros_like(p) for p in ps] for _ in range(3))
    state = [[np.zeros_like(p) for p in expected] for _ in range(3)]
    for step in range(STEPS):
        gs = parameters(rng, dtype)
        numbers = (0.05, 0.8, 0.95, 1e-6, weight_decay, decoupled, maximize)
        adam_step(ps, gs, ms, vs, v_maxs if amsgrad else [None] * len(ps), step + 1, *numbers)
        for p, g, m, v, v_max in zip(expected, gs, *state, strict=True):
            adam_reference(p, g.astype(np.float64), m, v, v_max if amsgrad else None, step + 1, *numbers)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for p, q in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


def test_dtypes_mixed_in_one_launch() -> None:
    single, double = np.ones(3, np.float32), np.ones(5)
    launch_kernel("sgd", [single, np.ones(3, np.float32), None, double, np.ones(5), None], f=(0.25,))
    assert single.tolist() == [0.75] * 3 and double.tolist() == [0.75] * 5
    launch_kernel("scale_many", [single, double], f=(2.0,))
    assert single.tolist() == [1.5] * 3 and double.tolist() == [1.5] * 5


def test_infinite_parameter_without_weight_decay() -> None:
    """0 * inf must not make a NaN where nothing was asked for."""
    p = np.array([math.inf, -math.inf])
    launch_kernel("sgd", [p, np.ones(2), None], f=(0.1,))
    assert p.tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, 3.0, math.inf])
def test_norm_many(p: float) -> None:
    rng = np.random.default_rng(0)
    arrays = [*parameters(rng, np.float64), *parameters(rng, np.float32)]
    everything = np.concatenate([x.ravel().astype(np.float64) for x in arrays])
    out = np.full(1, math.nan)
    launch_kernel("norm_many", [out, *arrays], f=(p,))
    np.testing.assert_allclose(out[0], np.linalg.norm(everything, p), rtol=1e-13)
    launch_kernel("norm_many", [out, np.zeros(0)], f=(p,))
    assert out[0] == 0
    for bad in (math.nan, math.inf):
        arrays[-1][500] = bad
        launch_kernel("norm_many", [out, *arrays], f=(p,))
        assert p == 0 or (math.isnan(out[0]) if math.isnan(bad) else out[0] == math.inf)


@pytest.mark.torch
@pytest.mark.parametrize(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), SGD_FLAGS)
def test_sgd_is_torch(momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ps = parameters(rng, np.float64)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in ps]
    optimizer = torch.optim.SGD(theirs, 0.1, momentum, dampening, weight_decay, nesterov, maximize=maximize)
    buffers = [np.empty_like(p) if momentum else None for p in ps]
    for step in range(STEPS):
        gs = parameters(rng, np.float64)
        for q, g in zip(theirs, gs, strict=True):
            q.grad = torch.tensor(g)
        optimizer.step()
        sgd_step(ps, gs, buffers, 0.1, momentum, dampening, weight_decay, nesterov, maximize, step == 0)
        for p, q in zip(ps, theirs, strict=True):
            np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(("weight_decay", "decoupled", "amsgrad", "maximize"), ADAM_FLAGS)
def test_adam_is_torch(weight_decay: float, decoupled: bool, amsgrad: bool, maximize: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ps = parameters(rng, np.float64)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in ps]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(theirs, 0.05, (0.8, 0.95), 1e-6, weight_decay, amsgrad, maximize=maximize)
    ms, vs, v_maxs = ([np.zeros_like(p) for p in ps] for _ in range(3))
    for step in range(STEPS):
        gs = parameters(rng, np.float64)
        for q, g in zip(theirs, gs, strict=True):
            q.grad = torch.tensor(g)
        optimizer.step()
        numbers = (0.05, 0.8, 0.95, 1e-6, weight_decay, decoupled, maximize)
        adam_step(ps, gs, ms, vs, v_maxs if amsgrad else [None] * len(ps), step + 1, *numbers)
        for p, q in zip(ps, theirs, strict=True):
            np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-12, atol=1e-12)
