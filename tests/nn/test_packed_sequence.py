"""nn.utils.rnn: packing, padding and back, against loops over the elements; derivatives; errors."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad.autograd import gradcheck, gradgradcheck
from fastgrad.nn.utils import rnn as utils
from fastgrad.nn.utils.rnn import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

lengths_of_batches = st.lists(st.integers(1, 5), min_size=1, max_size=5)
trailing_sizes = st.sampled_from([(), (3,), (2, 2)])


def draw(lengths: list[int], trailing: tuple[int, ...]) -> list[Any]:
    return [fg.randn(length, *trailing, dtype=fg.float64) for length in lengths]


def packed_by_hand(sequences: list[Any]) -> tuple[list[Any], list[int], list[int]]:
    """Rows, batch sizes and order: step by step, the longest sequence first, ties in the order given."""
    order = sorted(range(len(sequences)), key=lambda k: -len(sequences[k]))
    steps = [
        [sequences[k][t].tolist() for k in order if t < len(sequences[k])] for t in range(len(sequences[order[0]]))
    ]
    return [row for step in steps for row in step], [len(step) for step in steps], order


class TestValues:
    @given(lengths_of_batches, trailing_sizes, st.booleans())
    def test_packing(self, lengths: list[int], trailing: tuple, batch_first: bool) -> None:
        sequences = draw(lengths, trailing)
        rows, batch_sizes, order = packed_by_hand(sequences)
        padded = pad_sequence(sequences, batch_first, padding_value=np.nan)
        for packed in (
            pack_sequence(sequences, enforce_sorted=False),
            pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False),
        ):
            assert packed.data.tolist() == rows and packed.batch_sizes.tolist() == batch_sizes
            assert packed.sorted_indices.tolist() == order
            assert [order[k] for k in packed.unsorted_indices.tolist()] == list(range(len(lengths)))
        in_order = [sequences[k] for k in order]
        padded = pad_sequence(in_order, batch_first, padding_value=np.nan)
        for packed in (
            pack_sequence(in_order),
            pack_padded_sequence(padded, fg.tensor([lengths[k] for k in order]), batch_first),
        ):
            assert packed.data.tolist() == rows and packed.batch_sizes.tolist() == batch_sizes
            assert packed.sorted_indices is None and packed.unsorted_indices is None

    @given(lengths_of_batches, trailing_sizes, st.booleans(), st.integers(0, 2))
    def test_padding(self, lengths: list[int], trailing: tuple, batch_first: bool, more: int) -> None:
        sequences, steps = draw(lengths, trailing), max(lengths) + more
        expected = np.full((len(lengths), steps, *trailing), -2.0)
        left = expected[:, : max(lengths)].copy()
        for b, sequence in enumerate(sequences):
            expected[b, : lengths[b]] = sequence.numpy()
            left[b, max(lengths) - lengths[b] :] = sequence.numpy()
        if not batch_first:
            expected, left = expected.swapaxes(0, 1), left.swapaxes(0, 1)
        packed = pack_sequence(sequences, enforce_sorted=False)
        padded, found = pad_packed_sequence(packed, batch_first, -2.0, steps)
        assert found.tolist() == lengths and found.dtype is fg.int64
        np.testing.assert_array_equal(padded.numpy(), expected)
        np.testing.assert_array_equal(pad_sequence(sequences, batch_first, -2.0, "left").numpy(), left)
        if not more:
            np.testing.assert_array_equal(pad_sequence(sequences, batch_first, -2.0).numpy(), expected)
        back = unpad_sequence(padded, found, batch_first)
        assert [part.tolist() for part in back] == [sequence.tolist() for sequence in sequences]
        assert [part.tolist() for part in unpack_sequence(packed)] == [sequence.tolist() for sequence in sequences]

    def test_the_parts_are_tensors_of_their_own(self) -> None:
        data = fg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        packed = pack_padded_sequence(data, [2, 2])
        for parts in (unpack_sequence(packed), unpad_sequence(data, [2, 2])):
            parts[0].mul_(10)
            assert [part.tolist() for part in parts] == [[10, 30], [2, 4]]
        assert packed.data.tolist() == [1, 2, 3, 4] and data.tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize("dtype", [fg.float32, fg.float64, fg.int64, fg.int32, fg.uint8, fg.bool])
    def test_every_dtype(self, dtype: Any) -> None:
        sequences = [fg.tensor([1, 0], dtype=dtype), fg.tensor([0, 1, 1], dtype=dtype)]
        padded, _ = pad_packed_sequence(pack_sequence(sequences, enforce_sorted=False), True)
        assert padded.dtype is dtype and padded.long().tolist() == [[1, 0, 0], [0, 1, 1]]
        assert pad_sequence(sequences).dtype is dtype

    def test_views_and_kinds_of_lengths(self) -> None:
        x = fg.arange(24).view(2, 3, 4).permute(2, 1, 0)
        expected = pack_padded_sequence(x.contiguous(), [4, 2, 1])
        for lengths in ((4, 2, 1), np.array([4, 2, 1]), fg.tensor([4, 2, 1], dtype=fg.int32), [4.0, 2.0, 1.9]):
            found = pack_padded_sequence(x, lengths)
            assert found.data.tolist() == expected.data.tolist()
            assert found.batch_sizes.tolist() == [3, 2, 1, 1]
        assert pack_padded_sequence(x.transpose(0, 1), [4, 2, 1], True).data.tolist() == expected.data.tolist()
        # Shorter than the padded batch: the steps that nobody has are left out.
        assert pack_padded_sequence(x, [2, 1, 1]).batch_sizes.tolist() == [3, 1]

    def test_sequences_that_broadcast(self) -> None:
        assert pad_sequence([fg.zeros(2, 3), fg.ones(1, 1)])[0].tolist() == [[0, 0, 0], [1, 1, 1]]
        assert pad_sequence([fg.zeros(1, 3), fg.ones(1)])[0].tolist() == [[0, 0, 0], [1, 1, 1]]
        mixed = pad_sequence([fg.zeros(1, dtype=fg.int64), fg.tensor([1.5])])
        assert mixed.dtype is fg.int64 and mixed.tolist() == [[0, 1]]
        assert pad_sequence([fg.ones(2), fg.ones(0)]).tolist() == [[1, 0], [1, 0]]
        assert pad_sequence([fg.ones(0, 2), fg.ones(0, 2)]).shape == (0, 2, 2)
        assert pad_sequence(fg.tensor([[1, 2], [3, 4]])).tolist() == [[1, 3], [2, 4]]
        assert pad_sequence(part for part in (fg.ones(1), fg.ones(1))).tolist() == [[1, 1]]

    def test_unpad_takes_what_is_there(self) -> None:
        x = fg.arange(6).view(2, 3)
        assert [part.tolist() for part in unpad_sequence(x, [0, -1, 5])] == [[], [], [2, 5]]
        assert x.shape == (2, 3)


class TestDerivatives:
    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize("lengths", [[3, 2, 1], [1, 3, 2]])
    def test_there_and_back(self, lengths: list[int], batch_first: bool) -> None:
        shape = (3, 3, 2)

        def there(x: Any) -> Any:
            return pack_padded_sequence(x, lengths, batch_first, lengths[0] == 3).data.sin()

        def back(x: Any) -> Any:
            packed = pack_padded_sequence(x, lengths, batch_first, lengths[0] == 3)
            return pad_packed_sequence(packed, batch_first, 0.5, 4)[0].sin()

        for function in (there, back):
            x = fg.randn(shape, dtype=fg.float64, requires_grad=True)
            assert gradcheck(function, x) and gradgradcheck(function, x)

    def test_lists(self) -> None:
        parts = [fg.randn(n, 2, dtype=fg.float64, requires_grad=True) for n in (1, 3, 2)]

        def lists(*sequences: Any) -> tuple:
            packed = pack_sequence(sequences, enforce_sorted=False)
            padded = pad_sequence(sequences, padding_side="left")
            return (
                padded.sin(),
                *(part.cos() for part in (*unpack_sequence(packed), *unpad_sequence(padded, [1, 2, 3]))),
            )

        assert gradcheck(lists, parts) and gradgradcheck(lists, parts)

    def test_padding_has_no_gradient(self) -> None:
        x = fg.ones(2, 3, requires_grad=True)
        pack_padded_sequence(x, [1, 2, 1], enforce_sorted=False).data.sum().backward()
        assert x.grad.tolist() == [[1, 1, 1], [0, 1, 0]]


class TestPackedSequence:
    def packed(self) -> PackedSequence:
        return pack_sequence([fg.tensor([1.0]), fg.tensor([2.0, 3.0])], enforce_sorted=False)

    def test_fields(self) -> None:
        packed = self.packed()
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        assert packed._fields == ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
        assert data.tolist() == [2, 1, 3] and batch_sizes.tolist() == [2, 1]
        assert sorted_indices.tolist() == unsorted_indices.tolist() == [1, 0]
        assert isinstance(packed, tuple) and not packed.is_cuda

    def test_construction(self) -> None:
        data, sizes = fg.ones(3), fg.tensor([2, 1])
        for made in (PackedSequence(data, sizes), PackedSequence((data, sizes)), PackedSequence([data, sizes])):
            assert made.data is data and made.batch_sizes is sizes and made.unsorted_indices is None
        made = PackedSequence(data, sizes, fg.tensor([1, 0]))
        assert made.unsorted_indices.tolist() == [1, 0]
        with pytest.raises(AssertionError, match=r"must be a pair \(data, batch_sizes\); got Tensor"):
            PackedSequence(data)
        with pytest.raises(TypeError, match="batch_sizes must be a Tensor; got list"):
            PackedSequence(data, [2, 1])
        with pytest.raises(TypeError, match="data must be a Tensor; got list"):
            PackedSequence([1.0], sizes)

    def test_conversions(self) -> None:
        packed = self.packed()
        assert packed.to(fg.float32) is packed and packed.cpu() is packed and packed.float() is packed
        for name, dtype in (("double", fg.float64), ("long", fg.int64), ("int", fg.int32), ("byte", fg.uint8)):
            changed = getattr(packed, name)()
            assert type(changed) is PackedSequence and changed.data.dtype is dtype
            assert changed.batch_sizes is packed.batch_sizes and changed.sorted_indices.tolist() == [1, 0]
        assert packed.to(dtype=fg.float64).data.dtype is fg.float64

    def test_copies(self) -> None:
        packed = self.packed()
        for made in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
            assert type(made) is PackedSequence and made.data is not packed.data
            assert [tensor.tolist() for tensor in made] == [tensor.tolist() for tensor in packed]


class TestErrors:
    @pytest.mark.parametrize("enforce_sorted", [True, False])
    @pytest.mark.parametrize(
        ("x", "lengths", "error", "text"),
        [
            (fg.ones(4, 3), [4, 2, 0], RuntimeError, "each length must be greater than 0; got 0"),
            (fg.ones(4, 3), [4, 2, -1], RuntimeError, "each length must be greater than 0; got -1"),
            (fg.ones(4, 3), [5, 2, 1], RuntimeError, "must not exceed the steps of input; got 5, steps 4"),
            (fg.ones(4, 3), [2**62, 2, 1], RuntimeError, "must not exceed the steps of input; got 4611686"),
            (fg.ones(4, 3), [4, 1], RuntimeError, "one number for each sequence; got 2, batch 3"),
            (fg.ones(4, 3), [4, 1, 1, 1], RuntimeError, "one number for each sequence; got 4, batch 3"),
            (fg.ones(4, 3), [], RuntimeError, "one number for each sequence; got 0, batch 3"),
            (fg.ones(4, 3), fg.tensor([[4, 1, 1]]), RuntimeError, r"lengths must be 1-d; got shape \(1, 3\)"),
            (fg.ones(4, 1), 4, RuntimeError, r"lengths must be 1-d; got shape \(\)"),
            (fg.ones(4, 3), None, TypeError, "lengths must be numbers; got NoneType"),
            (fg.ones(4, 3), [2**70, 1, 1], TypeError, "lengths must be numbers; got list"),
            (fg.ones(4, 3), [math.nan, 1, 1], RuntimeError, "length"),
            (fg.ones(4, 3), [math.inf, 1, 1], RuntimeError, "length"),
            (fg.ones(4, 3), "abc", TypeError, "lengths must be numbers; got str"),
            (fg.ones(4, 0, 2), [], RuntimeError, r"input must not be empty; got shape \(4, 0, 2\)"),
            (fg.ones(0, 2, 2), [0, 0], RuntimeError, r"input must not be empty; got shape \(0, 2, 2\)"),
            (fg.ones(4, 2, 0), [4, 2], RuntimeError, r"input must not be empty; got shape \(4, 2, 0\)"),
            (fg.ones(4), [4], IndexError, r"at least two dimensions; got shape \(4,\)"),
            (fg.ones(()), [1], IndexError, r"at least two dimensions; got shape \(\)"),
            ([[1.0]], [1], TypeError, "input must be a Tensor; got list"),
        ],
    )
    def test_pack_padded_sequence(
        self, x: Any, lengths: Any, error: type[Exception], text: str, enforce_sorted: bool
    ) -> None:
        with pytest.raises(error, match=text):
            pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)

    def test_lengths_that_increase(self) -> None:
        for pack in (
            lambda: pack_padded_sequence(fg.ones(4, 3), [2, 4, 1]),
            lambda: pack_sequence([fg.ones(2), fg.ones(4), fg.ones(1)]),
        ):
            with pytest.raises(RuntimeError, match=r"lengths must not increase; got \[2, 4, 1\]"):
                pack()

    @pytest.mark.parametrize(
        ("sequences", "error", "text"),
        [
            ([], RuntimeError, "sequences must not be empty"),
            (3, RuntimeError, "must be an iterable of Tensors; got int"),
            ([1, 2], TypeError, "sequences must be Tensors; got int"),
            ([fg.ones(())], RuntimeError, "at least one dimension"),
            ([fg.ones(2, 3), fg.ones(1, 2)], RuntimeError, r"got \(1, 2\), expected \(length, \*\(3,\)\)"),
            ([fg.ones(2, 1), fg.ones(1, 3)], RuntimeError, r"got \(1, 3\), expected \(length, \*\(1,\)\)"),
            ([fg.ones(2), fg.ones(1, 3)], RuntimeError, r"got \(1, 3\), expected \(length, \*\(\)\)"),
        ],
    )
    def test_lists(self, sequences: Any, error: type[Exception], text: str) -> None:
        for function in (pad_sequence, pack_sequence):
            with pytest.raises(error, match=text):
                function(sequences)

    def test_padding(self) -> None:
        with pytest.raises(RuntimeError, match="padding_side must be 'left' or 'right'; got 'up'"):
            pad_sequence([fg.ones(1)], padding_side="up")
        with pytest.raises(RuntimeError, match="each length must be greater than 0; got 0"):
            pack_sequence([fg.ones(1), fg.ones(0)])
        packed = pack_sequence([fg.ones(3), fg.ones(2)])
        with pytest.raises(ValueError, match="total_length must not be less than the longest length; got 2, longest 3"):
            pad_packed_sequence(packed, total_length=2)
        with pytest.raises(TypeError, match="total_length must be an int; got float"):
            pad_packed_sequence(packed, total_length=4.0)
        with pytest.raises(TypeError):
            pad_packed_sequence(packed, padding_value="a")
        for function in (pad_packed_sequence, unpack_sequence):
            with pytest.raises(TypeError, match="must be a PackedSequence; got Tensor"):
                function(fg.ones(3))

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((fg.ones(3), fg.tensor([], dtype=fg.int64)), "vector of int64 that is not empty"),
            ((fg.ones(3), fg.tensor([[2, 1]])), r"vector of int64 that is not empty; got .*int64, shape \(1, 2\)"),
            ((fg.ones(3), fg.tensor([2, 1], dtype=fg.int32)), "vector of int64 that is not empty; got .*int32"),
            ((fg.ones(3), fg.tensor([1, 2])), r"positive and not increase; got \[1, 2\]"),
            ((fg.ones(3), fg.tensor([3, 0])), r"positive and not increase; got \[3, 0\]"),
            ((fg.ones(3), fg.tensor([2, 2])), "sum to the rows of data; got 4, rows 3"),
            ((fg.ones(()), fg.tensor([1])), "sum to the rows of data; got 1, rows 0"),
            ((fg.ones(3), fg.tensor([2, 1]), fg.tensor([0])), "one number for each sequence; got 1, batch 2"),
            (
                (fg.ones(3), fg.tensor([2, 1]), fg.tensor([0, 1]), fg.tensor([1, 1])),
                r"each of 0 ... 1 once; got \[1, 1\]",
            ),
            (
                (fg.ones(3), fg.tensor([2, 1]), fg.tensor([0, 1]), fg.tensor([0, 2])),
                r"each of 0 ... 1 once; got \[0, 2\]",
            ),
        ],
    )
    def test_packed_sequences_of_ones_own(self, arguments: tuple, text: str) -> None:
        packed = PackedSequence(*arguments)
        for function in (pad_packed_sequence, unpack_sequence):
            with pytest.raises(RuntimeError, match=text):
                function(packed)

    def test_unpad_sequence(self) -> None:
        with pytest.raises(ValueError, match="one number for each sequence; got 2, batch 3"):
            unpad_sequence(fg.ones(4, 3), fg.tensor([1, 2]))
        with pytest.raises(IndexError, match=r"at least two dimensions; got shape \(4,\)"):
            unpad_sequence(fg.ones(4), fg.tensor([1]))
        with pytest.raises(TypeError, match="padded_sequences must be a Tensor; got list"):
            unpad_sequence([[1.0]], [1])

    def test_invert_permutation(self) -> None:
        assert invert_permutation(None) is None
        assert invert_permutation(fg.tensor([2, 0, 1])).tolist() == [1, 2, 0]
        for values in ([2, 0, 3], [2, 0, 0], [2, 0, -1]):
            with pytest.raises(RuntimeError, match=r"each of 0 ... 2 once; got \[2, 0, "):
                invert_permutation(fg.tensor(values))
        with pytest.raises(IndexError, match=r"permutation must be 1-d; got shape \(1, 2\)"):
            invert_permutation(fg.tensor([[1, 0]]))
        for dtype in (fg.float32, fg.int32):
            with pytest.raises(RuntimeError, match="permutation must be int64; got"):
                invert_permutation(fg.tensor([1, 0], dtype=dtype))
        with pytest.raises(TypeError, match="permutation must be a Tensor; got list"):
            invert_permutation([1, 0])


def test_what_is_exported() -> None:
    assert fg.nn.utils.rnn is utils and all(hasattr(utils, name) for name in utils.__all__)
