"""Indexing, get and set, against NumPy over generated expressions; its gradients against counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import LAYOUTS, Draw, as_index, numpy_get, numpy_set, place
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgrad as fg

MORE = settings(max_examples=10 * settings().max_examples)


@st.composite
def indexed(draw: Any) -> tuple[np.ndarray, tuple[Any, ...], Draw]:
    d = Draw(draw)
    shape = d.shape(0, 4)
    array = np.arange(
        1, 1 + int(np.prod(shape)), dtype=d.choice((np.float32, np.float64, np.int64, np.int32, np.uint8))
    )
    return place(array.reshape(shape), d.choice(LAYOUTS)), d.index(shape), d


@MORE
@given(indexed())
def test_get(given_: Any) -> None:
    array, index, _ = given_
    expected = numpy_get(array, index)
    found = fg.from_numpy(array)[as_index(fg, index)]
    assert tuple(found.shape) == expected.shape
    np.testing.assert_array_equal(found.numpy(), expected)


@MORE
@given(indexed())
def test_set_numbers_and_tensors(given_: Any) -> None:
    array, index, d = given_
    target = numpy_get(array, index)
    shape = target.shape
    value = d.choice(
        (
            7,
            np.full(shape, 5, array.dtype),
            np.full(shape[1:], 5, array.dtype),
            np.full((1, *shape[1:]), 4, array.dtype),
        )
    )
    if isinstance(value, np.ndarray) and value.ndim > len(shape):
        value = 3
    expected = numpy_set(array, index, value)
    tensor = fg.from_numpy(array.copy())
    tensor[as_index(fg, index)] = fg.from_numpy(value) if isinstance(value, np.ndarray) else value
    np.testing.assert_array_equal(tensor.numpy(), expected)


@MORE
@given(indexed())
def test_gradient_of_get_counts_how_often_an_element_was_read(given_: Any) -> None:
    array, index, _ = given_
    x = fg.from_numpy(array.astype(np.float64)).requires_grad_()
    y = x[as_index(fg, index)]
    weights = np.asarray(np.random.default_rng(0).normal(size=tuple(y.shape)))
    y.backward(fg.from_numpy(weights))
    expected = np.zeros(array.shape)
    flat_positions = numpy_get(np.arange(array.size).reshape(array.shape), index)
    np.add.at(expected.reshape(-1), flat_positions.reshape(-1), weights.reshape(-1))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12, atol=1e-15)


@MORE
@given(indexed())
def test_gradient_of_set(given_: Any) -> None:
    array, index, _ = given_
    x = fg.from_numpy(array.astype(np.float64)).requires_grad_()
    value = fg.tensor(2.0, dtype=fg.float64, requires_grad=True)
    y = x * 1
    y[as_index(fg, index)] = value
    y.sum().backward()
    written = numpy_set(np.zeros(array.shape), index, 1.0)
    np.testing.assert_array_equal(x.grad.numpy(), 1 - written)
    # A place named twice counts twice, as in PyTorch, though the last write wins.
    assert value.grad.item() == numpy_get(np.ones(array.shape), index).sum()


class TestForms:
    X = [[1, 2, 3], [4, 5, 6]]

    @pytest.mark.parametrize(
        ("index", "expected"),
        [
            (1, [4, 5, 6]),
            (-1, [4, 5, 6]),
            ((0, 2), 3),
            ((slice(None), 1), [2, 5]),
            ((slice(None), slice(None, None, 2)), [[1, 3], [4, 6]]),
            ((..., 0), [1, 4]),
            ((None, 1), [[4, 5, 6]]),
            ((slice(None), None, 0), [[1], [4]]),
            ([1, 0], [[4, 5, 6], [1, 2, 3]]),
            (([1, 0], [2, 0]), [6, 1]),
            (([[0], [1]], [0, 1]), [[1, 2], [4, 5]]),
            ((slice(5, 9),), []),
            ((), [[1, 2, 3], [4, 5, 6]]),
            (..., [[1, 2, 3], [4, 5, 6]]),
            ([True, False], [[1, 2, 3]]),
            ((0, [0, 2]), [1, 3]),
            ((slice(None), [True, False, True]), [[1, 3], [4, 6]]),
            (np.int64(1), [4, 5, 6]),
            (np.array([0, 0]), [[1, 2, 3], [1, 2, 3]]),
            (slice(np.int64(0), np.int64(1)), [[1, 2, 3]]),
        ],
    )
    def test_get(self, index: Any, expected: Any) -> None:
        assert fg.tensor(self.X)[index].tolist() == expected

    def test_tensor_indices(self) -> None:
        x = fg.tensor(self.X)
        assert x[fg.tensor(1)].tolist() == [4, 5, 6]
        assert x[fg.tensor([1, -1])].tolist() == [[4, 5, 6]] * 2
        assert x[fg.tensor([0, 1], dtype=fg.int32)].tolist() == self.X
        assert x[x > 2].tolist() == [3, 4, 5, 6]
        assert x[fg.tensor([False, True])].tolist() == [[4, 5, 6]]
        assert x[fg.tensor([True, True]), 0].tolist() == [1, 4]
        assert x[fg.zeros(0, dtype=fg.int64)].shape == (0, 3)
        assert x[x > 99].shape == (0,)

    def test_basic_indexing_is_a_view_and_advanced_a_copy(self) -> None:
        x = fg.zeros(2, 3)
        x[0][1] = 5.0
        x[:, 2][0] = 6.0
        x[[1]][0, 0] = 7.0
        assert x.tolist() == [[0.0, 5.0, 6.0], [0.0, 0.0, 0.0]]

    def test_masked_augmented_assignment(self) -> None:
        x = fg.arange(6.0).view(2, 3)
        x[x > 2] *= 10
        x[1] += 1
        assert x.tolist() == [[0.0, 1.0, 2.0], [31.0, 41.0, 51.0]]

    def test_set_converts(self) -> None:
        x = fg.zeros(2, dtype=fg.int64)
        x[0] = 2.9
        x[1] = fg.tensor(3.9)
        assert x.tolist() == [2, 3]

    def test_set_from_itself(self) -> None:
        x = fg.arange(5.0)
        x[:] = x
        x[[0, 1]] = x[[1, 0]]
        assert x.tolist() == [1.0, 0.0, 2.0, 3.0, 4.0]


class TestErrors:
    @pytest.mark.parametrize(
        ("index", "error", "text"),
        [
            (2, IndexError, "out of range|out of bounds"),
            (-3, IndexError, "out of range|out of bounds"),
            ((0, 3), IndexError, "out of range|out of bounds"),
            ((0, 0, 0), IndexError, "too many indices"),
            ((..., ...), IndexError, ""),
            ([2], IndexError, "out of (range|bounds)"),
            (([0, 1], [0, -4]), IndexError, "out of (range|bounds)"),
            (([0, 1], [0, 1, 2]), IndexError, "broadcast"),
            ([True, False, True], IndexError, "mask|does not match"),
            (slice(None, None, -1), ValueError, "step"),
            (slice(None, None, 0), ValueError, "step"),
            (1.5, (TypeError, IndexError), ""),
            ("a", (TypeError, IndexError), ""),
            ([0.5], (TypeError, IndexError), ""),
            ({}, (TypeError, IndexError), ""),
            (2**70, (IndexError, OverflowError, TypeError, ValueError, RuntimeError), ""),
            ([2**62], IndexError, ""),
        ],
    )
    def test_get_and_set(self, index: Any, error: Any, text: str) -> None:
        x = fg.zeros(2, 3)
        with pytest.raises(error, match=text or None):
            x[index]
        with pytest.raises(error, match=text or None):
            x[index] = 1.0
        assert x.tolist() == [[0.0] * 3] * 2

    def test_value_does_not_fit(self) -> None:
        x = fg.zeros(2, 3)
        for index, value in [
            (0, fg.ones(2)),
            ((slice(None), 0), fg.ones(3)),
            ([0, 1], fg.ones(3, 3)),
            (x > -1, fg.ones(5)),
        ]:
            with pytest.raises((RuntimeError, ValueError, IndexError)):
                x[index] = value
        assert x.tolist() == [[0.0] * 3] * 2

    def test_zero_dim(self) -> None:
        with pytest.raises(IndexError, match="0-dim"):
            fg.tensor(1.0)[0]
        assert fg.tensor(1.0)[None].tolist() == [1.0] and fg.tensor(1.0)[...].item() == 1.0

    def test_gather_and_its_kin(self) -> None:
        x = fg.zeros(2, 3)
        for call in (
            lambda: x.gather(1, fg.tensor([[3]])),
            lambda: x.gather(1, fg.tensor([[-1]])),
            lambda: x.gather(2, fg.tensor([[0]])),
            lambda: x.gather(1, fg.tensor([0])),
            lambda: x.gather(1, fg.tensor([[0.5]])),
            lambda: x.gather(0, fg.zeros(1, 4, dtype=fg.int64)),
            lambda: x.index_select(0, fg.tensor([2])),
            lambda: x.index_select(0, fg.tensor([-1])),
            lambda: x.scatter_add(1, fg.tensor([[3]]), fg.ones(1, 1)),
            lambda: x.scatter_add(1, fg.tensor([[0, 0]]), fg.ones(1, 1)),
            lambda: fg.nn.functional.embedding(fg.tensor([2]), x),
            lambda: fg.nn.functional.embedding(fg.tensor([-1]), x),
            lambda: fg.nn.functional.cross_entropy(x, fg.tensor([0, 3])),
            lambda: fg.nn.functional.cross_entropy(x, fg.tensor([0, -1])),
            lambda: fg.nn.functional.nll_loss(x, fg.tensor([0, 3])),
        ):
            with pytest.raises((IndexError, RuntimeError)):
                call()
        assert not x.any()
