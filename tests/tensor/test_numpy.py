"""NumPy and fastgrad look at the same memory, and whoever borrowed it keeps it alive."""

from __future__ import annotations

import gc
import operator
from typing import Any

import numpy as np
import pytest

import fastgrad as fg

DTYPES = [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_]


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_share_memory(dtype: Any) -> None:
    a = np.zeros((2, 3), dtype)
    t = fg.from_numpy(a)
    b = t.numpy()
    assert t.dtype == getattr(fg, np.dtype(dtype).name) and b.dtype == a.dtype and np.shares_memory(a, b)
    t[0, 1] = 1
    a[1, 2] = 1
    assert b.tolist() == a.tolist() == t.tolist()


def test_strides_survive() -> None:
    a = np.arange(24.0).reshape(4, 6)[1::2, ::3]
    t = fg.from_numpy(a)
    assert t.stride() == (12, 3) and t.tolist() == a.tolist() and t.numpy().strides == a.strides
    assert fg.arange(6).view(2, 3).t().numpy().strides == (8, 24)
    assert fg.ones(1).expand(3).numpy().strides == (0,)


def test_what_cannot_be_shared() -> None:
    for refused in (
        np.arange(3)[::-1],
        np.zeros(2, complex),
        np.zeros(2, "U3"),
        np.zeros(2, object),
        np.zeros(2, ">f4"),
        np.zeros(2, [("a", "f4"), ("b", "i1")]),
    ):
        with pytest.raises((TypeError, ValueError)):
            fg.from_numpy(refused)
    for refused in ([1, 2], 3.0, None):
        with pytest.raises(TypeError):
            fg.from_numpy(refused)
    odd = np.zeros(9, np.uint8)[1:].view(np.float32)
    assert fg.from_numpy(odd.copy()).tolist() == [0.0, 0.0]


def test_a_read_only_array_is_not_written() -> None:
    a = np.ones(3)
    a.flags.writeable = False
    try:
        with pytest.warns(UserWarning, match="not writable"):
            t = fg.from_numpy(a)
    except (TypeError, ValueError):
        return
    assert t.tolist() == [1.0] * 3


def test_requires_grad_refuses_numpy() -> None:
    x = fg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        x.numpy()
    assert x.detach().numpy().tolist() == [1.0, 1.0]


def test_lifetimes() -> None:
    t = fg.from_numpy(np.arange(100_000.0))
    a = fg.arange(100_000.0).numpy()
    view = fg.arange(100_000.0)[50_000:].numpy()
    gc.collect()
    junk = [fg.full((100_000,), -1.0) for _ in range(5)] + [np.full(100_000, -2.0) for _ in range(5)]
    assert t[12_345].item() == a[12_345] == 12_345.0 and view[0] == 50_000.0
    del junk


def test_an_array_in_use_is_not_resized() -> None:
    a = np.arange(4.0)
    t = fg.from_numpy(a)
    with pytest.raises(ValueError):
        a.resize(1000, refcheck=True)
    assert t.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_numpy_functions_take_tensors() -> None:
    t = fg.arange(6.0).view(2, 3)
    assert np.asarray(t).shape == (2, 3) and np.array(t, dtype=np.float64).dtype == np.float64
    assert np.sum(np.asarray(t)) == 15.0 and np.array(t) is not None
    assert not np.shares_memory(np.array(t), t.numpy()) and np.shares_memory(np.asarray(t), t.numpy())


def test_buffer_protocol_and_dlpack() -> None:
    t = fg.arange(6.0).view(2, 3)
    view = memoryview(t.numpy())
    assert view.shape == (2, 3) and view.format == "f"
    d = np.from_dlpack(t)
    t[0, 0] = 9.0
    assert d[0, 0] == 9.0
    back = fg.from_dlpack(np.arange(3.0))
    assert back.tolist() == [0.0, 1.0, 2.0]


def test_numpy_scalars_in_arithmetic() -> None:
    t = fg.ones(2)
    for result in (t * np.float32(2), t * np.float64(2), t + np.int64(1), t * np.bool_(True) + 1):
        assert isinstance(result, fg.Tensor) and result.dtype == fg.float32 and result.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.sub, operator.truediv])
def test_an_array_on_the_right(operation: Any) -> None:
    try:
        result = operation(fg.ones(2), np.ones(2, np.float32))
    except TypeError:
        return
    assert isinstance(result, fg.Tensor) and result.shape == (2,)


def test_empty_arrays() -> None:
    for shape in ((0,), (2, 0), (0, 3)):
        t = fg.from_numpy(np.zeros(shape))
        assert tuple(t.shape) == shape and t.numpy().shape == shape
