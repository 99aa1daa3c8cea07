"""The elementwise kernels against NumPy: every dtype, layouts, numbers, aliasing, special values, accuracy in ULP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from fastgrad._core import launch_kernel

BOOL, UINT8, INT32, INT64, FLOAT32, FLOAT64 = (
    np.dtype(t) for t in (np.bool_, np.uint8, np.int32, np.int64, np.float32, np.float64)
)
EXACT, FLOATS = (BOOL, UINT8, INT32, INT64), (FLOAT32, FLOAT64)
ANY, NUMBERS = EXACT + FLOATS, EXACT[1:] + FLOATS
LAYOUTS = ("contiguous", "permuted", "sliced", "broadcast", "number")


class Kernel(NamedTuple):
    reference: Callable[..., Any]
    dtypes: Sequence[np.dtype]
    arity: int
    ulp: float = 0
    to_bool: bool = False


def unchanged(of_float: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: of_float(x) if x.dtype.kind == "f" else x


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.power(a, b)
    bits = 8 * a.itemsize

    def one(x: int, n: int) -> int:
        if n < 0:
            return {1: 1, -1: 1 - 2 * (n & 1)}.get(x, 0)
        return pow(x, n, 2**bits)

    wrapped = np.array([one(int(x), int(n)) for x, n in zip(a.flat, b.flat, strict=True)], dtype=object)
    return np.array([x % 2**bits for x in wrapped], dtype=f"u{a.itemsize}").view(a.dtype).reshape(a.shape)


KERNELS = {
    "neg": Kernel(np.negative, NUMBERS, 1),
    "abs": Kernel(np.abs, ANY, 1),
    "sign": Kernel(lambda x: x if x.dtype == bool else np.sign(x), ANY, 1),
    "sqrt": Kernel(np.sqrt, FLOATS, 1),
    "rsqrt": Kernel(lambda x: 1 / np.sqrt(x), FLOATS, 1, ulp=1.5),
    "reciprocal": Kernel(lambda x: 1 / x, FLOATS, 1),
    "square": Kernel(np.square, ANY, 1),
    "exp": Kernel(np.exp, FLOATS, 1, ulp=2),
    "expm1": Kernel(np.expm1, FLOATS, 1, ulp=3),
    "log": Kernel(np.log, FLOATS, 1, ulp=2),
    "log1p": Kernel(np.log1p, FLOATS, 1, ulp=3),
    "sin": Kernel(np.sin, FLOATS, 1, ulp=2),
    "cos": Kernel(np.cos, FLOATS, 1, ulp=2),
    "tanh": Kernel(np.tanh, FLOATS, 1, ulp=3),
    "sigmoid": Kernel(sigmoid, FLOATS, 1, ulp=4),
    "erf": Kernel(np.vectorize(math.erf, otypes=[float]), FLOATS, 1, ulp=2),
    "relu": Kernel(lambda x: x if x.dtype == bool else np.maximum(x, x.dtype.type(0)), ANY, 1),
    "floor": Kernel(unchanged(np.floor), ANY, 1),
    "ceil": Kernel(unchanged(np.ceil), ANY, 1),
    "round": Kernel(unchanged(np.rint), ANY, 1),
    "trunc": Kernel(unchanged(np.trunc), ANY, 1),
    "bitwise_not": Kernel(np.invert, EXACT, 1),
    "isnan": Kernel(np.isnan, ANY, 1, to_bool=True),
    "isinf": Kernel(np.isinf, ANY, 1, to_bool=True),
    "logical_not": Kernel(np.logical_not, ANY, 1, to_bool=True),
    "add": Kernel(np.add, ANY, 2),
    "sub": Kernel(np.subtract, NUMBERS, 2),
    "mul": Kernel(np.multiply, ANY, 2),
    "div": Kernel(np.divide, FLOATS, 2),
    "pow": Kernel(power, NUMBERS, 2, ulp=1),
    "floor_divide": Kernel(np.floor_divide, NUMBERS, 2),
    "remainder": Kernel(np.remainder, NUMBERS, 2),
    "fmod": Kernel(np.fmod, NUMBERS, 2),
    "maximum": Kernel(np.maximum, ANY, 2),
    "minimum": Kernel(np.minimum, ANY, 2),
    "eq": Kernel(np.equal, ANY, 2, to_bool=True),
    "ne": Kernel(np.not_equal, ANY, 2, to_bool=True),
    "lt": Kernel(np.less, ANY, 2, to_bool=True),
    "le": Kernel(np.less_equal, ANY, 2, to_bool=True),
    "gt": Kernel(np.greater, ANY, 2, to_bool=True),
    "ge": Kernel(np.greater_equal, ANY, 2, to_bool=True),
    "logical_and": Kernel(np.logical_and, ANY, 2, to_bool=True),
    "logical_or": Kernel(np.logical_or, ANY, 2, to_bool=True),
    "logical_xor": Kernel(np.logical_xor, ANY, 2, to_bool=True),
    "bitwise_and": Kernel(np.bitwise_and, EXACT, 2),
    "bitwise_or": Kernel(np.bitwise_or, EXACT, 2),
    "bitwise_xor": Kernel(np.bitwise_xor, EXACT, 2),
    "relu_backward": Kernel(lambda dy, y: np.where(y <= 0, 0, dy), FLOATS, 2),
    "sigmoid_backward": Kernel(lambda dy, y: dy * (1 - y) * y, FLOATS, 2, ulp=2),
    "clamp": Kernel(lambda x, low, high: np.minimum(np.maximum(x, low), high), ANY, 3),
    "clamp_backward": Kernel(lambda dy, x, low, high: np.where((low <= x) & (x <= high), dy, 0), FLOATS, 4),
}
CASES = [pytest.param(name, dtype, id=f"{name}-{dtype}") for name, kernel in KERNELS.items() for dtype in kernel.dtypes]
NONZERO_DIVISOR = ("floor_divide", "remainder", "fmod")


def sample(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Ordinary numbers and, in a fifth of the places, special ones."""
    if dtype == BOOL:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        special = [0, -0.0, math.inf, -math.inf, math.nan, 1, -1, info.max, info.min, info.tiny, -info.tiny / 4]
        ordinary = rng.normal(scale=3, size=shape)
    else:
        integers = np.iinfo(dtype)
        special = [0, 1, integers.min, integers.max, integers.max // 2]
        ordinary = rng.integers(max(integers.min, -9), 10, size=shape)
    return np.where(rng.random(shape) < 0.2, rng.choice(np.array(special, dtype), size=shape), ordinary).astype(dtype)


def lay_out(rng: np.random.Generator, values: np.ndarray, layout: str) -> np.ndarray:
    """An array with these values in another layout; `broadcast` repeats the first index along some axes."""
    if layout == "permuted":
        order = rng.permutation(values.ndim)
        return values.transpose(order).copy().transpose(np.argsort(order))
    if layout == "sliced":
        base = np.zeros([2 * n + 1 for n in values.shape], values.dtype)
        view = base[(..., *(slice(1, None, 2) for _ in values.shape))]
        view[...] = values
        return view
    if layout == "broadcast":
        kept = [slice(None) if rng.random() < 0.5 else slice(0, 1) for _ in values.shape]
        base = values[(..., *kept)].copy()
        steps = [0 if base.shape[d] == 1 else base.strides[d] for d in range(values.ndim)]
        return np.lib.stride_tricks.as_strided(base, values.shape, steps)
    return values.copy()


class Output:
    """An array between memory that must not be written."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype, sliced: bool) -> None:
        self.base = np.frombuffer(b"\x01" * (dtype.itemsize * math.prod(2 * n + 1 for n in shape)), dtype).copy()
        self.before = self.base.copy()
        self.ours = np.zeros(self.base.shape, bool)
        self.array, ours = (self.view(x, shape, sliced) for x in (self.base, self.ours))
        ours[...] = True

    @staticmethod
    def view(base: np.ndarray, shape: Sequence[int], sliced: bool) -> np.ndarray:
        if sliced:
            return base.reshape([2 * n + 1 for n in shape])[(..., *(slice(1, None, 2) for _ in shape))]
        start = (base.size - math.prod(shape)) // 2
        return base[start : start + math.prod(shape)].reshape(shape)

    def check_the_rest(self) -> None:
        assert (self.base[~self.ours] == self.before[~self.ours]).all(), "wrote outside its output"


def assert_within(actual: np.ndarray, expected: np.ndarray, ulp: float) -> None:
    """`actual` is within `ulp` units in the last place of `expected`, which has a higher precision or the same."""
    rounded = expected.astype(actual.dtype)
    if ulp == 0 or actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, rounded)
        return
    same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
    unit = np.spacing(np.maximum(np.abs(rounded), np.finfo(actual.dtype).tiny)).astype(expected.dtype)
    error = np.where(same, 0, np.abs(actual.astype(expected.dtype) - expected) / unit)
    worst = np.argmax(np.nan_to_num(error, nan=np.inf)) if error.size else 0
    assert not error.size or error.flat[worst] <= ulp, (actual.flat[worst], expected.flat[worst], error.flat[worst])


@pytest.mark.parametrize(("name", "dtype"), CASES)
@given(
    shape=array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4) | st.tuples(st.integers(0, 150)),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=4, max_size=4),
    sliced=st.booleans(),
    alias=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_matches_numpy(
    name: str, dtype: np.dtype, shape: tuple[int, ...], layouts: list[str], sliced: bool, alias: int, seed: int
) -> None:
    kernel = KERNELS[name]
    rng = np.random.default_rng(seed)
    out = Output(shape, BOOL if kernel.to_bool else dtype, sliced)
    arrays: list[np.ndarray] = []
    operands: list[Any] = []
    layouts = layouts[: kernel.arity]
    if all(layout == "number" for layout in layouts):
        layouts[0] = "contiguous"
    for k, layout in enumerate(layouts):
        values = sample(rng, shape, dtype)
        if name in NONZERO_DIVISOR and dtype.kind != "f" and k == 1:
            values[values == 0] = 3
        if name.startswith("clamp"):
            values = np.nan_to_num(values) if k else values
        if layout == "number":
            number = values.flat[0] if values.size else dtype.type(1)
            operands.append(number.item())
            arrays.append(np.full(shape, number))
        elif alias == k + 1 and not kernel.to_bool:
            out.array[...] = values
            operands.append(out.array)
            arrays.append(values)
        else:
            operands.append(lay_out(rng, values, layout))
            arrays.append(operands[-1].copy())
    with np.errstate(all="ignore"):
        wide = dtype == FLOAT32 and name != "floor_divide"
        expected = kernel.reference(*(x.astype(FLOAT64) for x in arrays)) if wide else kernel.reference(*arrays)
        launch_kernel(name, [out.array, *operands])
        assert_within(out.array, np.asarray(expected), kernel.ulp)
    out.check_the_rest()
    for operand, before in zip(operands, arrays, strict=True):
        if isinstance(operand, np.ndarray) and operand is not out.array:
            np.testing.assert_array_equal(operand, before)


@pytest.mark.parametrize("dtype", ANY)
@given(
    shape=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
    layouts=st.lists(st.sampled_from(LAYOUTS[:4]), min_size=3, max_size=3),
    numbers=st.sets(st.sampled_from(("a", "b"))),
    seed=st.integers(0, 2**32 - 1),
)
def test_where(dtype: np.dtype, shape: tuple[int, ...], layouts: list[str], numbers: set[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    condition = lay_out(rng, sample(rng, shape, BOOL), layouts[0])
    a, b = (lay_out(rng, sample(rng, shape, dtype), layout) for layout in layouts[1:])
    if "a" in numbers:
        a = np.full(shape, sample(rng, (), dtype))
    if "b" in numbers and ("a" not in numbers or dtype == BOOL):
        b = np.full(shape, sample(rng, (), dtype))
    operands = [
        x.flat[0].item() if key in numbers and x.size and len(numbers) == 1 else x for key, x in (("a", a), ("b", b))
    ]
    out = np.empty(shape, dtype)
    launch_kernel("where", [out, condition, *operands])
    np.testing.assert_array_equal(out, np.where(condition, a, b))


@pytest.mark.parametrize("dtype", FLOATS)
def test_tanh_backward(dtype: np.dtype) -> None:
    """y * y is rounded before it is taken from 1, so near 1 the error is one of dy, not of the result."""
    rng = np.random.default_rng(0)
    dy, y = rng.normal(size=1001).astype(dtype), rng.uniform(-1, 1, 1001).astype(dtype)
    out = np.empty(1001, dtype)
    launch_kernel("tanh_backward", [out, dy, y])
    exact = dy.astype(np.longdouble) * (1 - y.astype(np.longdouble) ** 2)
    assert (np.abs(out - exact) <= 2 * np.finfo(dtype).eps * np.abs(dy)).all()


def test_signed_zeros_and_ends() -> None:
    def run(name: str, *operands: Any) -> np.ndarray:
        arrays = [np.array(x, np.float32) if isinstance(x, list) else x for x in operands]
        out = np.empty(len(operands[0]), np.float32)
        launch_kernel(name, [out, *arrays])
        return out

    zeros = [0.0, -0.0]
    for name in ("sqrt", "sin", "tanh", "expm1", "log1p", "erf", "floor", "ceil", "round", "trunc"):
        assert np.signbit(run(name, zeros)).tolist() == [False, True], name
    assert np.signbit(run("abs", zeros)).tolist() == [False, False]
    assert np.signbit(run("neg", zeros)).tolist() == [True, False]
    assert run("reciprocal", zeros).tolist() == [math.inf, -math.inf]
    assert run("round", [0.5, 1.5, 2.5, -0.5]).tolist() == [0, 2, 2, 0]
    assert run("relu_backward", [math.nan, 2.0, 3.0, 4.0], [0.0, -1.0, 0.5, math.nan]).tolist() == [0, 0, 3, 4]
    assert run("clamp", [math.nan, -9.0, 9.0], -1.0, 1.0)[1:].tolist() == [-1, 1]
    assert np.isnan(run("clamp", [math.nan, -9.0, 9.0], -1.0, 1.0)[0])
    assert run("floor_divide", [7.0, -7.0, 1.0, -1.0], [2.0, 2.0, 0.0, 0.0]).tolist() == [3, -4, math.inf, -math.inf]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 1.7, math.inf, math.nan])
def test_power_with_a_number(dtype: np.dtype, exponent: float) -> None:
    x = np.concatenate([sample(np.random.default_rng(0), (200,), dtype), [0, -0.0, math.inf, -math.inf]]).astype(dtype)
    out, same = np.empty_like(x), np.empty_like(x)
    launch_kernel("pow", [out, x, exponent])
    launch_kernel("pow", [same, x, np.full_like(x, exponent)])
    np.testing.assert_array_equal(out, same)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), np.full(x.size, dtype.type(exponent), np.float64))
        assert_within(out, exact, 1.5 if exponent == 3 else 1)  # a * a * a is rounded twice


def test_least_integer_by_minus_one() -> None:
    for dtype in (INT32, INT64):
        least = np.iinfo(dtype).min
        for name, expected in (("floor_divide", least), ("remainder", 0), ("fmod", 0), ("mul", least)):
            out = np.empty(3, dtype)
            launch_kernel(name, [out, np.full(3, least, dtype), np.full(3, -1, dtype)])
            assert out.tolist() == [expected] * 3


def test_twelve_axes_in_every_order() -> None:
    rng = np.random.default_rng(0)
    shape = (2, 1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 2)
    a, b = (lay_out(rng, rng.normal(size=shape), layout) for layout in ("permuted", "broadcast"))
    out = lay_out(rng, np.zeros(shape), "permuted")
    launch_kernel("mul", [out, a, b])
    np.testing.assert_array_equal(out, a * b)


# The worst error in ULP that simd.h states, rounded up.
ACCURACY = {
    "exp": (1.0, np.exp),
    "expm1": (2.0, np.expm1),
    "log": (1.0, np.log),
    "log1p": (1.5, np.log1p),
    "sin": (1.0, np.sin),
    "cos": (1.0, np.cos),
    "tanh": (2.5, np.tanh),
    "sigmoid": (2.0, sigmoid),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_float32(name: str) -> None:
    """Every 8,191st of all floats, and the neighbourhood of 0 and of the multiples of pi/2 densely."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.arange(0, 2**32, 8191, dtype=np.uint64).astype(np.uint32).view(np.float32),
            rng.uniform(-1, 1, 100_000).astype(np.float32),
            rng.uniform(-20, 20, 100_000).astype(np.float32),
            (np.arange(-4000, 4000) * (math.pi / 2)).astype(np.float32),
        ]
    )
    out = np.empty_like(x)
    launch_kernel(name, [out, x])
    bound, reference = ACCURACY[name]
    with np.errstate(all="ignore"):
        assert_within(out, reference(x.astype(np.float64)), bound)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="no longer float to compare with")
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_float64(name: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64),
            *(rng.uniform(-scale, scale, 50_000) for scale in (1, 20, 750)),
            2.0 ** rng.uniform(-60, 60, 50_000),
            np.arange(-4000, 4000) * (math.pi / 2),
            [0, -0.0, math.inf, -math.inf, math.nan, -1, 5e-324, -5e-324, 709.78, 709.79, -708.5, -745.1, -745.2],
        ]
    )
    out = np.empty_like(x)
    launch_kernel(name, [out, x])
    bound, reference = ACCURACY[name]
    with np.errstate(all="ignore"):
        assert_within(out, reference(x.astype(np.longdouble)), bound)


@pytest.mark.parametrize("dtype", FLOATS)
def test_accuracy_erf(dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(-scale, scale, 20_000) for scale in (1e-3, 1.1, 7)] + [[0, 1, 6, math.inf, -math.inf]]
    )
    x = x.astype(dtype)
    out = np.empty_like(x)
    launch_kernel("erf", [out, x])
    assert_within(out, np.array([math.erf(v) for v in x.tolist()]), 1.5 if dtype == FLOAT32 else 2)
