"""What must not reach memory that is not ours: lengths that wrap, tensors exchanged behind a graph, odd states."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.autograd import Function


def leaf(*values: float) -> fg.Tensor:
    return fg.tensor(values, requires_grad=True)


def test_a_length_that_wraps_around() -> None:
    with pytest.raises(RuntimeError, match=r"\[narrow\]"):
        fg.arange(4.0).narrow(0, 1, 2**63 - 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda x, i: x[i],
        lambda x, i: x.gather(0, i),
        lambda x, i: x.index_select(0, i),
        lambda x, i: fg.zeros(3).scatter_add(0, i, x[:2]),
        lambda x, i: fg.nn.functional.embedding(i, x.reshape(3, 1)),
        lambda x, i: fg.nn.functional.cross_entropy(x.expand(2, 3), i),
    ],
)
def test_indices_changed_behind_the_graph(use: Any) -> None:
    gradients = []
    for spoil in (False, True):
        x, i = leaf(1.0, 2.0, 3.0), fg.tensor([0, 1])
        y = use(x, i).sum()
        if spoil:
            i.numpy()[0] = 10**12
            i.data = fg.zeros(7, dtype=fg.int64)
        y.backward()
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1]


def test_an_array_keeps_the_memory_of_a_tensor_that_went_elsewhere() -> None:
    t = fg.ones(1000)
    array = np.asarray(t)
    t.data = fg.zeros(1)
    gc.collect()
    others = [fg.full((1000,), 7.0) for _ in range(8)]
    assert array.tolist() == [1.0] * 1000 and len(others) == 8


def test_as_strided_stays_inside_a_broadcast_array() -> None:
    t = fg.from_numpy(np.ones((4, 6))[:, ::2])
    assert t.as_strided((2,), (1,), 4).tolist() == [1.0, 1.0]
    array = np.broadcast_to(np.zeros(1), (10**6,))
    with pytest.warns(UserWarning):
        wide = fg.from_numpy(array)
    with pytest.raises(RuntimeError, match=r"\[as_strided\]"):
        wide.as_strided((10**5,), (1,))


@pytest.mark.parametrize("use", [lambda x: x[7:], lambda x: x * 2, lambda x: x + 1, lambda x: x.exp()])
@pytest.mark.parametrize("swap", ["grad", "grad dtype", "leaf"])
def test_a_gradient_of_another_shape_or_dtype(use: Any, swap: str) -> None:
    x = fg.zeros(10, requires_grad=True)
    y = use(x).sum()
    x.grad = fg.zeros(10)
    if swap == "grad":
        x.grad.data = fg.zeros(1)
    elif swap == "grad dtype":
        x.grad.data = fg.zeros(10, dtype=fg.uint8)
    else:
        x.grad = None
        x.data = fg.zeros(1)
    with pytest.raises(RuntimeError, match=r"\[backward\]"):
        y.backward()


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w: fg.nn.functional.linear(x, w),
        lambda x, w: x @ w.t(),
        lambda x, w: fg._core.recurrent_cell("rnn_tanh", x, None, None, w, w),
    ],
)
def test_a_saved_tensor_exchanged_through_data(use: Any) -> None:
    x, w = fg.ones(2, 3, requires_grad=True), fg.ones(3, 3, requires_grad=True)
    y = use(x, w).sum()
    w.data = fg.ones(50, 50)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation|a leaf must keep its shape"):
        y.backward()


def test_a_root_exchanged_through_data() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"\[data\]"):
        y.data = fg.zeros(())


def test_any_bytes_are_a_random_state() -> None:
    generator = fg.Generator()
    for byte in (0, 1, 127, 128, 255):
        generator.set_state(fg.full((generator.get_state().numel(),), byte, dtype=fg.uint8))
        assert fg.rand(2000, generator=generator).numel() == 2000
    assert fg.rand(3, generator=fg.Generator.__new__(fg.Generator)).numel() == 3


def test_a_shape_that_lies_about_its_length() -> None:
    class Liar:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[int]:
            return iter([1] * 1000)

    with pytest.raises(RuntimeError, match="at most 12 dimensions"):
        fg.zeros(Liar())


def test_launch_kernel_is_not_public_and_counts() -> None:
    assert not hasattr(fg, "launch_kernel")
    from fastgrad._core import launch_kernel

    with pytest.raises(ValueError, match=r"\[launch_kernel\]"):
        launch_kernel("add", [np.zeros(1)] * 3, i=range(10000))
    with pytest.raises(ValueError, match=r"\[launch_kernel\]"):
        launch_kernel("add", [np.zeros((1,) * 13)] * 3)


def test_long_chains_are_freed() -> None:
    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, d: Any) -> Any:
            return d

    y = leaf(1.0)
    for _ in range(100_000):
        y = Identity.apply(y)
    del y
    t = fg.zeros(1)
    for _ in range(100_000):
        g = fg.zeros(1)
        g.grad = t
        t = g
    with pytest.raises(RecursionError):
        __import__("copy").deepcopy(t)
    del t, g


def test_a_hook_must_keep_the_dtype() -> None:
    for x in (leaf(1.0), leaf(1.0) * 2):
        x.register_hook(lambda d: d.double())
        with pytest.raises(RuntimeError, match=r"\[hook\].*float64"):
            x.sum().backward()


def test_a_dtype_is_not_made() -> None:
    with pytest.raises(TypeError, match=r"\[dtype\]"):
        type(fg.float32).__new__(type(fg.float32))


U8 = fg.tensor([1, 200], dtype=fg.uint8)


@pytest.mark.parametrize(
    "function",
    [
        lambda: U8.clamp(max=300),
        lambda: U8.clone().fill_(300),
        lambda: fg.full((2,), 300, dtype=fg.uint8),
        lambda: U8.masked_fill(U8 > 1, 300),
        lambda: fg.randint(0, 300, (2,), dtype=fg.uint8),
        lambda: fg.tensor([300], dtype=fg.uint8),
        lambda: fg.tensor(300, dtype=fg.uint8),
        lambda: fg.tensor([1], dtype=fg.int32).clamp(min=2**40),
    ],
)
def test_a_number_that_does_not_fit(function: Any) -> None:
    with pytest.raises(RuntimeError, match="without overflow; got"):
        function()


def test_numbers_beside_integer_tensors() -> None:
    assert (-1 / U8).tolist()[0] == -1.0 and (U8 / -1).tolist() == [-1.0, -200.0]
    assert fg.tensor([-3, 5], dtype=fg.int32).clamp(min=2).tolist() == [2, 5]
    assert fg.ones(2).clamp(min=fg.tensor([float("nan"), 0.0])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("size", [(2**32, 2**32), (2**62, 2), (2**31, 2**31, 4)])
def test_products_that_wrap_around(size: tuple[int, ...]) -> None:
    for function in (
        lambda: fg.zeros(0).reshape(size),
        lambda: fg.zeros(1, 1, 1)[0, 0].expand(size),
        lambda: fg.zeros(size),
    ):
        with pytest.raises(RuntimeError):
            function()


def test_embedding_of_an_index_with_too_many_axes() -> None:
    with pytest.raises(RuntimeError, match="at most 12 dimensions"):
        fg.nn.functional.embedding(fg.zeros([1] * 12, dtype=fg.int64), fg.ones(2, 2))


def test_strides_that_lie() -> None:
    class Liar(int):
        def __mul__(self, other: Any) -> int:
            return 0

        __rmul__ = __mul__

        def __lt__(self, other: Any) -> bool:
            return False

    with pytest.raises(RuntimeError, match="as_strided"):
        fg.zeros(4).as_strided((4,), (Liar(10**9),))


def test_a_reader_that_asks_for_row_major_order() -> None:
    import hashlib

    with pytest.raises(BufferError, match=r"\[buffer\]"):
        hashlib.sha256(fg.zeros(3, 2).t())


def test_dtypes_and_generators_are_pickled() -> None:
    import copy
    import pickle

    for dtype in (fg.float32, fg.bool, fg.uint8):
        assert pickle.loads(pickle.dumps(dtype)) is dtype
    generator = fg.Generator().manual_seed(3)
    again = copy.deepcopy(generator)
    assert fg.rand(3, generator=again).tolist() == fg.rand(3, generator=generator).tolist()


def test_modes_decorate_with_and_without_parentheses() -> None:
    x = leaf(1.0)

    @fg.no_grad
    def plain() -> Any:
        return x * 2

    @fg.inference_mode()
    def called() -> Any:
        return x * 2

    assert not plain().requires_grad and not called().requires_grad and (x * 2).requires_grad


def test_factors_of_many_axes_that_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match=r"\[matmul\]"):
        fg.matmul(fg.ones(2, 3, 4, 5), fg.ones(6, 5))


def test_a_dtype_is_needed() -> None:
    for function in (lambda: fg.promote_types(None, None), lambda: fg.frombuffer(bytearray(4), dtype=None)):
        with pytest.raises(TypeError, match=r"\[dtype\]"):
            function()


def test_bools_are_zero_or_one() -> None:
    with pytest.raises(ValueError, match=r"\[from_numpy\]"):
        fg.from_numpy(np.array([2, 3], np.uint8).view(bool))


def test_powers_with_a_modulus_are_refused() -> None:
    with pytest.raises(TypeError):
        pow(fg.ones(2), 2, 3)


def test_an_index_that_is_part_of_what_is_written() -> None:
    x = fg.tensor([1, 2, 0])
    x[x] = 10**12
    assert x.tolist() == [10**12] * 3


def test_scatter_into_a_number_checks_the_index() -> None:
    for function in (fg.scatter, fg.scatter_add):
        with pytest.raises(RuntimeError, match="out of bounds"):
            function(fg.zeros(()), 0, fg.tensor([10**9]), fg.ones(1))
        assert function(fg.zeros(()), 0, fg.tensor([0]), fg.ones(1)).item() == 1.0


def test_index_add_wants_one_dtype() -> None:
    with pytest.raises(RuntimeError, match=r"\[index_add\]"):
        fg.zeros(3).index_add(0, fg.tensor([0]), fg.ones(1, dtype=fg.float64))


def test_a_table_exchanged_for_a_smaller_one() -> None:
    w = fg.ones(1000, 3, requires_grad=True)
    y = fg.nn.functional.embedding(fg.tensor([999]), w).sum()
    w.data = fg.ones(1, 3)
    with pytest.raises(RuntimeError, match="a leaf must keep its shape"):
        y.backward()


def test_a_mask_of_bytes_from_numpy() -> None:
    x = fg.arange(4).reshape(2, 2)
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    assert x[mask].tolist() == [0, 3]
