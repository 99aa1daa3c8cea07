"""The kernels of index.c against NumPy's indexing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import DTYPES, LAYOUTS, arrays, generators, laid_out, sample

from fastgrad._core import launch_kernel

Array = np.ndarray[Any, Any]
WRITABLE = ["contiguous", "transposed", "sliced"]


def along_axis(
    data: st.DataObject,
) -> tuple[np.random.Generator, tuple[int, ...], tuple[int, ...], int, Array]:
    """A shape to index, the shape of an index that is not larger on the other axes, the axis, and the index."""
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axis = data.draw(st.sampled_from(range(len(shape))))
    rng = data.draw(generators())
    smaller = tuple(
        int(rng.integers(0, 7) if a == axis else rng.integers(0, length + 1)) for a, length in enumerate(shape)
    )
    index = laid_out(rng, smaller, "int64", data.draw(st.sampled_from(WRITABLE)))
    index[...] = rng.integers(0, shape[axis], smaller)
    return rng, shape, smaller, axis, index


def box(shape: tuple[int, ...], axis: int, whole: int) -> tuple[slice, ...]:
    """The part of an array that an index of this shape reaches: all of the axis, the beginning of the others."""
    return tuple(slice(0, whole if a == axis else length) for a, length in enumerate(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_gather(dtype: str, data: st.DataObject) -> None:
    rng, shape, smaller, axis, index = along_axis(data)
    x = laid_out(rng, shape, dtype, data.draw(st.sampled_from(LAYOUTS)))
    out = laid_out(rng, smaller, dtype, data.draw(st.sampled_from(WRITABLE)))
    launch_kernel("gather", [out, x, index], i=(axis,))
    np.testing.assert_array_equal(out, np.take_along_axis(x[box(smaller, axis, shape[axis])], index, axis))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["scatter", "scatter_add"])
@given(data=st.data())
def test_scatter(name: str, dtype: str, data: st.DataObject) -> None:
    rng, shape, smaller, axis, index = along_axis(data)
    out = laid_out(rng, shape, dtype, data.draw(st.sampled_from(WRITABLE)))
    number = data.draw(st.booleans())
    x = sample(rng, (), dtype) if number else laid_out(rng, smaller, dtype, data.draw(st.sampled_from(LAYOUTS)))
    expected = out.copy()
    for place in np.ndindex(smaller):
        target = (*place[:axis], int(index[place]), *place[axis + 1 :])
        value = x[()] if number else x[place]
        expected[target] = expected[target] + value if name == "scatter_add" else value
    launch_kernel(name, [out, index, x.item() if number else x], i=(axis,))
    np.testing.assert_array_equal(out, expected)


def test_gather_and_scatter_of_a_scalar() -> None:
    x, out, index = np.array(3.5), np.array(0.0), np.array(0)
    launch_kernel("gather", [out, x, index], i=(0,))
    assert out == 3.5
    launch_kernel("scatter_add", [out, index, x], i=(0,))
    assert out == 7


@st.composite
def places(draw: st.DrawFn) -> tuple[np.random.Generator, tuple[int, ...], tuple[int, ...], list[Array]]:
    """The shape to index, the shape S + R of what is read or written, and the index arrays, some of them negative."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    count = draw(st.integers(1, len(shape)))
    at = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    rest = tuple(draw(st.sampled_from([shape[count:], tuple(0 for _ in shape[count:])])))
    shape = shape[:count] + rest
    rng = draw(generators())
    return rng, shape, at + rest, [np.asarray(rng.integers(-shape[a], shape[a], at)) for a in range(count)]


@pytest.mark.parametrize("dtype", DTYPES)
@given(case=places(), layout=st.sampled_from(LAYOUTS))
def test_index_get(dtype: str, case: Any, layout: str) -> None:
    rng, shape, dense, index = case
    x = laid_out(rng, shape, dtype, layout)
    out = sample(rng, dense, dtype)
    launch_kernel("index_get", [out, x, *index])
    np.testing.assert_array_equal(out, x[tuple(index)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["index_put", "index_add"])
@given(case=places(), out_layout=st.sampled_from(WRITABLE), layout=st.sampled_from([*LAYOUTS, "number"]))
def test_index_put_and_add(name: str, dtype: str, case: Any, out_layout: str, layout: str) -> None:
    rng, shape, dense, index = case
    if name == "index_add" and dtype == "bool":
        dtype = "uint8"
    out = laid_out(rng, shape, dtype, out_layout)
    x = sample(rng, (), dtype) if layout == "number" else laid_out(rng, dense, dtype, layout)
    expected = out.astype(np.float64) if dtype == "float32" else out.copy()
    values = np.broadcast_to(x, dense)
    for place in np.ndindex(index[0].shape):
        target = tuple(int(i[place]) for i in index)
        expected[target] = expected[target] + values[place] if name == "index_add" else values[place]
    launch_kernel(name, [out, x.item() if layout == "number" else x, *index])
    tolerance = 1e-5 if dtype == "float32" and name == "index_add" else 0
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("width", [1, 3, 8, 16, 33, 100])
def test_rows_of_a_table(dtype: str, width: int) -> None:
    rng = np.random.default_rng(1)
    table, index = sample(rng, (50, width), dtype), rng.integers(0, 50, 200)
    rows = np.empty((200, width), dtype)
    launch_kernel("index_get", [rows, table, index])
    np.testing.assert_array_equal(rows, table[index])
    total, expected = np.zeros_like(table), np.zeros(table.shape)
    launch_kernel("index_add", [total, rows, index])
    np.add.at(expected, index, rows.astype(np.float64))
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)


def test_sums_of_integers_wrap() -> None:
    for dtype, top in (("int32", 2**31 - 1), ("int64", 2**63 - 1), ("uint8", 255)):
        out = np.array([top], dtype)
        launch_kernel("index_add", [out, np.array([1, 1], dtype), np.array([0, -1])])
        assert out.item() == (np.array([top], dtype) + np.array([2], dtype)).item()
        launch_kernel("scatter_add", [out, np.array([0]), np.array([top], dtype)], i=(0,))
        assert out.item() == (np.array([top], dtype) + np.array([2], dtype) + np.array([top], dtype)).item()


@given(x=arrays("int64", max_side=9))
def test_index_range(x: Array) -> None:
    out = np.zeros(2, np.int64)
    launch_kernel("index_range", [out, x])
    limits = np.iinfo(np.int64)
    assert out.tolist() == ([x.min(), x.max()] if x.size else [limits.max, limits.min])


def test_index_range_of_many() -> None:
    out = np.zeros(2, np.int64)
    for length in (1, 7, 8, 9, 1000):
        for place in (0, length - 1):
            x = np.zeros(length, np.int64)
            x[place] = -(2**40)
            launch_kernel("index_range", [out, x])
            assert out.tolist() == [x.min(), x.max()]


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_nonzero(dtype: str, data: st.DataObject) -> None:
    x = data.draw(arrays(dtype, max_side=9))
    if dtype.startswith("float"):
        x = np.where(np.abs(x) < 2, -0.0, x).astype(dtype)
        x[x > 6] = np.nan
    expected = np.argwhere(x)
    walled = np.full((len(expected) + 2, x.ndim), -1)
    launch_kernel("nonzero", [walled[1:-1], x])
    np.testing.assert_array_equal(walled[1:-1], expected)
    assert (walled[[0, -1]] == -1).all()
