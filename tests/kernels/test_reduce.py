"""The kernels of reduce.c against NumPy, which computes in float64 or int64 here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import DTYPES, LAYOUTS, arrays, laid_out

from fastgrad._core import launch_kernel

Array = np.ndarray[Any, Any]
REALS = ["float32", "float64"]
TOTALS = ["sum", "mean", "sum_of_squares", "prod"]


def run(name: str, x: Array, axes: tuple[int, ...]) -> Array:
    """The kernel's result, with the reduced axes kept as axes of length 1."""
    dtype = x.dtype
    if name in ("any", "all"):
        dtype = np.dtype(bool)
    elif name.startswith("arg") or (name in TOTALS and dtype.kind != "f"):
        dtype = np.dtype(np.int64)
    out = np.full([1 if axis in axes else length for axis, length in enumerate(x.shape)], 77, dtype)
    before = x.copy()
    launch_kernel(name, [out, x])
    np.testing.assert_array_equal(x, before)
    return out


def expected_total(name: str, x: Array, axes: tuple[int, ...]) -> Array:
    """NumPy's sum, which is pairwise along a contiguous last axis, in long double."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    rows = np.ascontiguousarray(x.transpose(*kept, *axes)).reshape([x.shape[axis] for axis in kept] + [count])
    rows = rows.astype(np.longdouble if x.dtype.kind == "f" else np.int64)
    with np.errstate(invalid="ignore"):
        if name == "prod":
            total = rows.prod(-1)
        else:
            total = (rows * rows if name == "sum_of_squares" else rows).sum(-1)
        return np.expand_dims(total / np.int64(count) if name == "mean" else total, axes)


def assert_total(name: str, x: Array, axes: tuple[int, ...]) -> None:
    """Sums may be off by a few roundings of the sum of the magnitudes, products by one a factor."""
    result, expected = run(name, x, axes), expected_total(name, x, axes)
    if x.dtype.kind != "f":
        np.testing.assert_array_equal(result, expected)
        return
    epsilon = float(np.finfo(x.dtype).eps)
    if name == "prod":
        bound = epsilon * max(x.size, 1) * np.abs(expected) + np.finfo(x.dtype).tiny
    else:
        bound = 4 * epsilon * np.abs(expected_total(name, np.abs(x), axes))
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    assert (same | (np.abs(result - expected) <= bound)).all(), (name, x.shape, x.strides, axes)


def subsets(ndim: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.sampled_from(range(ndim)) if ndim else st.nothing()).map(lambda axes: tuple(sorted(axes)))


KINDS = [(name, dtype) for name in ("sum", "prod") for dtype in DTYPES]
KINDS += [(name, dtype) for name in ("mean", "sum_of_squares") for dtype in REALS]


@pytest.mark.parametrize(("name", "dtype"), KINDS)
@given(data=st.data())
def test_totals_over_any_axes_and_layout(name: str, dtype: str, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype))
    assert_total(name, x, data.draw(subsets(x.ndim)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["any", "all", "max", "min"])
@given(data=st.data())
def test_choices_over_any_axes_and_layout(name: str, dtype: str, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, min_side=1 if name in ("max", "min") else 0))
    axes = data.draw(subsets(x.ndim))
    np.testing.assert_array_equal(run(name, x, axes), getattr(x, name)(axes, keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
@given(data=st.data())
def test_positions_along_one_axis_or_all(name: str, dtype: str, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, min_ndim=1, min_side=1))
    axis = data.draw(st.sampled_from(range(x.ndim)))
    np.testing.assert_array_equal(run(name, x, (axis,)), getattr(x, name)(axis, keepdims=True))
    assert run(name, x, tuple(range(x.ndim))).item() == getattr(x, name)()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length_from_one_to_many_vectors(dtype: str) -> None:
    rng = np.random.default_rng(3)
    for length in [*range(1, 140), 255, 256, 257, 511, 4095, 4096, 4097, 20011]:
        row = laid_out(rng, (length,), dtype, "contiguous")
        for x, axes in ((row, (0,)), (np.stack([row, row[::-1]]), (1,)), (np.stack([row, row[::-1]], 1), (0,))):
            for name in TOTALS[:3] if dtype in REALS else ["sum"]:
                assert_total(name, x, axes)
            assert_total("prod", np.copysign(1 + np.abs(x) / length, x) if dtype in REALS else x, axes)
            for name in ("max", "min", "any", "all", "argmax", "argmin"):
                np.testing.assert_array_equal(run(name, x, axes), getattr(x, name)(axes[0], keepdims=True))


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((300, 700), (0,)), ((300, 700), (1,)), ((9001, 3), (0,)), ((9001, 3), (1,)), ((3, 9001), (0, 1)),
        ((1000, 40), (0,)), ((7, 50, 60), (0, 2)), ((7, 50, 60), (1,)), ((40, 3, 30, 5), (0, 2)),
    ],
)  # fmt: skip
def test_more_than_one_block(dtype: str, layout: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = laid_out(np.random.default_rng(4), shape, dtype, layout)
    assert_total("sum", x, axes)
    np.testing.assert_array_equal(run("max", x, axes), x.max(axes, keepdims=True))
    if len(axes) == 1:
        np.testing.assert_array_equal(run("argmin", x, axes), x.argmin(axes[0], keepdims=True))


def test_long_float32_sums_are_accurate() -> None:
    x = np.full(10_000_000, 0.1, np.float32)
    exact = float(x[0]) * x.size
    assert abs(run("sum", x, (0,)).item() / exact - 1) < 1e-6
    assert abs(run("mean", x, (0,)).item() / float(x[0]) - 1) < 1e-6
    assert abs(run("sum_of_squares", x, (0,)).item() / (float(x[0]) * exact) - 1) < 1e-6
    for columns in (1, 2, 50, 1000):
        by_rows = x.reshape(-1, columns)
        np.testing.assert_allclose(run("sum", by_rows, (0,)), exact / columns, rtol=1e-6)
        np.testing.assert_allclose(run("sum", np.asfortranarray(by_rows.T), (1,)), exact / columns, rtol=1e-6)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("length", [1, 3, 17, 70, 5000])
def test_nan_and_inf(dtype: str, length: int) -> None:
    for place in {0, length // 3, length - 1}:
        x = np.arange(length, dtype=dtype) - length // 2
        x[place] = np.nan
        for both in (x[None], np.ascontiguousarray(x[:, None]), np.stack([x, x], 1)):
            axis = int(both.shape[0] != 1) ^ 1
            for name in ("sum", "mean", "sum_of_squares", "prod", "max", "min"):
                assert np.isnan(run(name, both, (axis,))).all(), name
            for name in ("argmax", "argmin"):
                assert (run(name, both, (axis,)) == place).all(), name
            assert run("any", both, (axis,)).all()
        x[place], x[-1] = np.inf, -np.inf
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(run("sum", x, (0,)), x.sum(keepdims=True))
        np.testing.assert_array_equal(run("max", x, (0,)), x.max(keepdims=True))
        np.testing.assert_array_equal(run("min", x, (0,)), x.min(keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_of_equals_is_the_position(dtype: str) -> None:
    x = np.zeros((3, 500), dtype)
    x[1, [7, 8, 300]] = 1
    assert run("argmax", x, (1,)).ravel().tolist() == [0, 7, 0]
    assert run("argmax", x, (0, 1)).item() == 507
    assert run("argmin", x, (0,)).ravel().tolist() == [0] * 500
    assert run("argmax", np.ascontiguousarray(x.T), (0,)).ravel().tolist() == [0, 7, 0]


def test_integer_totals_wrap_and_extremes_do_not_lose_bits() -> None:
    big = np.array([2**63 - 1, 1, 1], np.int64)
    assert run("sum", big, (0,)).item() == -(2**63) + 1
    assert run("prod", np.array([2**62, 4, 3], np.int64), (0,)).item() == 0
    assert run("sum", np.array([2**31 - 1] * 3, np.int32), (0,)).item() == 3 * (2**31 - 1)
    assert run("max", big - 1, (0,)).item() == 2**63 - 2
    assert run("sum", np.full(1000, 255, np.uint8), (0,)).item() == 255_000


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_empty_reductions_give_the_identity(shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    axes = tuple(axis for axis, length in enumerate(shape) if length == 0)
    for name, identity in {"sum": 0, "sum_of_squares": 0, "prod": 1, "any": False, "all": True, "mean": np.nan}.items():
        np.testing.assert_array_equal(run(name, x, axes), np.full(run(name, x, axes).shape, identity))
    untouched = tuple(axis for axis, length in enumerate(shape) if length != 0)
    for name in ("sum", "max", "argmax"):
        assert run(name, x, untouched).size == 0


@pytest.mark.parametrize("dtype", ["int64", *REALS])
@given(data=st.data())
def test_cumsum(dtype: str, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, min_ndim=1, max_side=9))
    axis = data.draw(st.sampled_from(range(x.ndim)))
    out = laid_out(
        np.random.default_rng(0), x.shape, dtype, data.draw(st.sampled_from(["contiguous", "transposed", "sliced"]))
    )
    launch_kernel("cumsum", [out, x], i=(axis,))
    expected = x.astype(np.int64 if dtype == "int64" else np.float64).cumsum(axis)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def test_cumsum_of_many_columns_and_of_a_long_row() -> None:
    x = np.random.default_rng(5).standard_normal((50, 300)).astype(np.float32)
    out = np.empty_like(x)
    for axis in (0, 1):
        launch_kernel("cumsum", [out, x], i=(axis,))
        np.testing.assert_allclose(out, x.astype(np.float64).cumsum(axis), rtol=1e-6, atol=1e-6)
    ones = np.full(1_000_000, 0.1, np.float32)
    launch_kernel("cumsum", [ones_out := np.empty_like(ones), ones], i=(0,))
    assert abs(ones_out[-1] / (float(ones[0]) * ones.size) - 1) < 1e-6


@pytest.mark.torch
@given(data=st.data())
def test_kernels_agree_with_torch(data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    x = data.draw(arrays("float32", min_ndim=1, min_side=1))
    axis = data.draw(st.sampled_from(range(x.ndim)))
    x = x.copy()
    x.flat[:: max(1, x.size // 2)] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0]))
    t = torch.from_numpy(x)
    for name in ("max", "min", "argmax", "argmin", "any", "all"):
        reference = getattr(t, {"max": "amax", "min": "amin"}.get(name, name))(axis, True)
        np.testing.assert_array_equal(run(name, x, (axis,)), reference.numpy())
    for name in ("sum", "mean", "prod"):
        reference = getattr(t, name)(axis, True)
        np.testing.assert_allclose(run(name, x, (axis,)), reference.numpy(), rtol=1e-5, atol=1e-5)
