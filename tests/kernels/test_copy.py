"""copy from every dtype to every dtype, in every layout, and arange."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from test_elementwise import ANY, BOOL, FLOATS, INT32, INT64, LAYOUTS, UINT8, Output, lay_out, sample

from fastgrad._core import launch_kernel


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """NumPy's cast, but for floats that no integer holds: they become the least integer, as x86 converts them."""
    if x.dtype.kind != "f" or dtype.kind == "f" or dtype == BOOL:
        return x.astype(dtype)
    through = INT32 if dtype == INT32 else INT64
    limits = np.iinfo(through)
    wide = np.array([limits.min if not limits.min <= v <= limits.max else int(v) for v in x.ravel().tolist()], through)
    return wide.reshape(x.shape).astype(dtype)


@pytest.mark.parametrize("to", ANY, ids=str)
@pytest.mark.parametrize("dtype", ANY, ids=str)
@given(
    shape=array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5) | st.tuples(*2 * [st.integers(0, 40)]),
    layout=st.sampled_from(LAYOUTS[:4]),
    sliced=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_casts(dtype: np.dtype, to: np.dtype, shape: tuple[int, ...], layout: str, sliced: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = sample(rng, shape, dtype)
    if to == UINT8 and dtype.kind == "f":
        values = np.where(np.abs(values) < 2.0**62, values, 7).astype(dtype)
    x = lay_out(rng, values, layout)
    out = Output(shape, to, sliced)
    launch_kernel("copy", [out.array, x])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out.array, cast(x, to))
    out.check_the_rest()


@pytest.mark.parametrize("shape", [(300, 70), (3, 65, 129), (64, 2, 64)])
@pytest.mark.parametrize("dtype", ANY, ids=str)
def test_transposed(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for axes in (range(len(shape))[::-1], [*range(1, len(shape)), 0]):
        x = sample(rng, shape, dtype).transpose(axes)
        out = np.empty(x.shape, dtype)
        launch_kernel("copy", [out, x])
        np.testing.assert_array_equal(out, x)
        wide = np.empty(x.shape, np.float64)
        launch_kernel("copy", [wide, x])
        np.testing.assert_array_equal(wide, x)


@pytest.mark.parametrize("dtype", ANY, ids=str)
@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (1000,), (3, 0, 2), (4, 5)])
def test_fill_with_a_number(dtype: np.dtype, sliced: bool, shape: tuple[int, ...]) -> None:
    out = Output(shape, dtype, sliced)
    launch_kernel("copy", [out.array, 1])
    assert (out.array == 1).all()
    out.check_the_rest()


def test_float_to_integer_ends() -> None:
    x = np.array([1.9, -1.9, math.nan, math.inf, -math.inf, 3e9, -3e9, 2.0**63, -(2.0**63), 2147483647.5])
    for dtype in (INT32, INT64):
        least = np.iinfo(dtype).min
        out = np.empty(x.size, dtype)
        launch_kernel("copy", [out, x])
        middle = [3 * 10**9, -3 * 10**9] if dtype == INT64 else [least, least]
        last = 2147483647
        assert out.tolist() == [1, -1, least, least, least, *middle, least, least, last]
    out = np.empty(4, np.uint8)
    launch_kernel("copy", [out, np.array([-1.0, 255.9, 256.0, 300.0])])
    assert out.tolist() == [255, 255, 0, 44]
    truth = np.empty(4, bool)
    launch_kernel("copy", [truth, np.array([0.0, -0.0, math.nan, 0.1])])
    assert truth.tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", ANY[1:], ids=str)
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_arange(dtype: np.dtype, count: int) -> None:
    out = Output((count,), dtype, sliced=False)
    if dtype in FLOATS:
        launch_kernel("arange", [out.array], f=(0.5, -0.1))
        exact = [float(Fraction(0.5) + k * Fraction(-0.1)) for k in range(count)]
        np.testing.assert_array_equal(out.array, np.array(exact).astype(dtype))
    else:
        launch_kernel("arange", [out.array], i=(-3, 2))
        np.testing.assert_array_equal(out.array, (-3 + 2 * np.arange(count)).astype(dtype))
    out.check_the_rest()
