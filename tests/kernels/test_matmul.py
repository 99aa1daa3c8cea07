"""matmul, linear and linear_backward against NumPy in float64.

A product of inner length k is compared within the rounding error that any order of summation keeps:
(k + 2) * eps * |a| @ |b| (Higham, Accuracy and Stability of Numerical Algorithms, section 3.5).
"""

from __future__ import annotations

import numpy as np
import pytest
from guarded import guarding

from fastgrad._core import launch_kernel

DTYPES = [np.float32, np.float64]
# Around the widths of vectors, panels and row tiles, beyond the blocks of the inner axis and of the rows, and one
# that goes to a BLAS where there is one.
SIZES = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 16, 4), (1, 64, 64), (1, 1, 50), (37, 1, 20), (2, 3, 5),
    (4, 15, 16), (5, 17, 15), (6, 8, 7), (7, 31, 33), (12, 32, 8), (13, 33, 9), (20, 64, 64), (25, 65, 1),
    (11, 100, 513), (97, 40, 30), (125, 70, 1030), (520, 520, 520),
]  # fmt: skip


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def assert_product(got: np.ndarray, a: np.ndarray, b: np.ndarray, plus: np.ndarray | float = 0.0) -> None:
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = (a.shape[-1] + 2) * np.finfo(got.dtype).eps * (np.abs(a) @ np.abs(b) + np.abs(plus))
    assert (np.abs(got - (a @ b + plus)) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matmul(size: tuple[int, int, int], transposed: tuple[bool, bool], dtype: type) -> None:
    m, n, k = size
    rng = np.random.default_rng(0)
    a = numbers(rng, (k, m), dtype).T if transposed[0] else numbers(rng, (m, k), dtype)
    b = numbers(rng, (n, k), dtype).T if transposed[1] else numbers(rng, (k, n), dtype)
    before = numbers(rng, (m, n), dtype)
    with guarding() as guard:
        out = guard.array((m, n), dtype)
        launch_kernel("matmul", [out, a, b], f=(0.0, 1.0))
        assert_product(out, a, b)
        out = guard.copy(before)
        launch_kernel("matmul", [out, a, b], f=(0.5, -2.0))
        assert_product(out, -2 * a, b, 0.5 * before.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_reads_rows_that_lie_apart(dtype: type) -> None:
    rng = np.random.default_rng(1)
    a, b = numbers(rng, (19, 40), dtype)[:, 3:20], numbers(rng, (17, 90), dtype)[:, 10:47]
    out = np.empty((19, 37), dtype)
    launch_kernel("matmul", [out, a, b], f=(0.0, 1.0))
    assert_product(out, a, b)
    out = np.empty((37, 19), dtype)
    launch_kernel("matmul", [out, b.T, a.T], f=(0.0, 1.0))
    assert_product(out, b.T, a.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(5, 7, 9), (1, 20, 1), (4, 1, 6), (3, 2, 0)], ids=str)
def test_matmul_of_batches(size: tuple[int, int, int], dtype: type) -> None:
    m, n, k = size
    rng = np.random.default_rng(2)
    a, b = numbers(rng, (3, m, k), dtype), numbers(rng, (3, n, k), dtype).transpose(0, 2, 1)
    shared = np.broadcast_to(numbers(rng, (m, k), dtype), (3, m, k))
    for left in (a, shared):
        with guarding() as guard:
            out = guard.array((3, m, n), dtype)
            launch_kernel("matmul", [out, left, b], f=(0.0, 1.0))
            assert_product(out, left, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 5, 7), (14, 40, 20), (130, 40, 600)], ids=str)
@pytest.mark.parametrize("b_transposed", [False, True])
def test_nan_and_inf_stay_where_they_belong(size: tuple[int, int, int], b_transposed: bool, dtype: type) -> None:
    m, n, k = size
    a, b = np.ones((m, k), dtype), np.ones((n, k), dtype).T if b_transposed else np.ones((k, n), dtype)
    a[1, 2], a[2, 0], b[4, n - 1] = np.nan, np.inf, -np.inf
    out = np.empty((m, n), dtype)
    launch_kernel("matmul", [out, a, b], f=(0.0, 1.0))
    expected = np.full((m, n), float(k))
    expected[:, n - 1], expected[1], expected[2], expected[2, n - 1] = -np.inf, np.nan, np.inf, np.nan
    np.testing.assert_array_equal(out, expected)


LINEAR = [(1, 4, 16), (1, 64, 10), (3, 5, 1), (32, 64, 33), (0, 4, 3), (4, 0, 3), (4, 3, 0), (130, 70, 50)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", LINEAR, ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_linear(size: tuple[int, int, int], biased: bool, dtype: type) -> None:
    batch, inputs, outputs = size
    rng = np.random.default_rng(3)
    x, w, b = (numbers(rng, shape, dtype) for shape in [(batch, inputs), (outputs, inputs), (outputs,)])
    with guarding() as guard:
        y = guard.array((batch, outputs), dtype)
        launch_kernel("linear", [y, x, w, b if biased else None])
        assert_product(y, x, w.T, b if biased else 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", LINEAR, ids=str)
@pytest.mark.parametrize("accumulate", [False, True])
def test_linear_backward(size: tuple[int, int, int], accumulate: bool, dtype: type) -> None:
    batch, inputs, outputs = size
    rng = np.random.default_rng(4)
    x, w, dy = (numbers(rng, shape, dtype) for shape in [(batch, inputs), (outputs, inputs), (batch, outputs)])
    before_w, before_b = numbers(rng, w.shape, dtype), numbers(rng, (outputs,), dtype)
    for asked in [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        with guarding() as guard:
            dx = guard.array(x.shape, dtype) if asked[0] else None
            dw = guard.copy(before_w) if asked[1] else None
            db = guard.copy(before_b) if asked[2] else None
            launch_kernel("linear_backward", [dx, dw, db, dy, x, w], i=(accumulate,))
            if dx is not None:
                assert_product(dx, dy, w)
            if dw is not None:
                assert_product(dw, dy.T, x, before_w if accumulate else 0.0)
            if db is not None:
                assert_product(db, np.ones(batch), dy, before_b if accumulate else 0.0)


@pytest.mark.torch
@pytest.mark.parametrize("size", [(1, 4, 16), (32, 64, 32), (32, 784, 128)], ids=str)
def test_linear_is_torch_linear(size: tuple[int, int, int]) -> None:
    import torch

    batch, inputs, outputs = size
    rng = np.random.default_rng(5)
    shapes = [(batch, inputs), (outputs, inputs), (outputs,), (batch, outputs)]
    x, w, b, dy = (numbers(rng, shape, np.float64) for shape in shapes)
    leaves = [torch.from_numpy(value).requires_grad_() for value in (x, w, b)]
    expected = torch.nn.functional.linear(*leaves)
    expected.backward(torch.from_numpy(dy))
    y, dx, dw, db = (np.empty_like(value) for value in (dy, x, w, b))
    launch_kernel("linear", [y, x, w, b])
    launch_kernel("linear_backward", [dx, dw, db, dy, x, w])
    for got, wanted in zip((y, dx, dw, db), (expected.detach(), *(leaf.grad for leaf in leaves)), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-12, atol=1e-12)
