"""Batches of sequences of unequal length: padded to one length, or packed without padding.

A packed batch holds the first steps of all sequences, longest sequence first, then all second steps, and so on; its
`batch_sizes` say how many sequences are still running at each step. Packing is one gather of rows, padding one scatter;
both are differentiable. Names, arguments and error types are those of PyTorch's `torch.nn.utils.rnn`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastgrad import _core
from fastgrad._core import Tensor

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]

Self = TypeVar("Self", bound="PackedSequence")


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of unequal length without padding, as `pack_sequence` and `pack_padded_sequence` make them.

    `data`: the rows of the first step of all sequences, then those of the second, ...; `batch_sizes`: int64, how many
    sequences each step has; `sorted_indices`: the sequences' numbers in the order by length, None if they came sorted;
    `unsorted_indices`: its inverse. See torch.nn.utils.rnn.PackedSequence.

    >>> import fastgrad as torch
    >>> torch.nn.utils.rnn.pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])])
    PackedSequence(data=tensor([1, 4, 2, 3]), batch_sizes=tensor([2, 1, 1]), sorted_indices=None, unsorted_indices=None)
    """

    __slots__ = ()

    def __new__(
        cls: type[Self],
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        if batch_sizes is None:
            if not isinstance(data, (tuple, list)) or len(data) != 2:
                raise AssertionError(
                    "[PackedSequence] without batch_sizes, data must be a pair (data, batch_sizes); got "
                    f"{type(data).__name__}"
                )
            data, batch_sizes = data
        for name, tensor in (("data", data), ("batch_sizes", batch_sizes)):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"[PackedSequence] {name} must be a Tensor; got {type(tensor).__name__}")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """`data` moved or cast as by `Tensor.to`, the indices moved along; the same object if nothing changes."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        indices = (None if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, *indices)

    def cpu(self: Self) -> Self:
        """`data` on the CPU."""
        return self.to("cpu")

    def double(self: Self) -> Self:
        """`data` in float64."""
        return self.to(_core.float64)

    def float(self: Self) -> Self:
        """`data` in float32."""
        return self.to(_core.float32)

    def long(self: Self) -> Self:
        """`data` in int64."""
        return self.to(_core.int64)

    def int(self: Self) -> Self:
        """`data` in int32."""
        return self.to(_core.int32)

    def byte(self: Self) -> Self:
        """`data` in uint8."""
        return self.to(_core.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether `data` is on a GPU."""
        return self.data.device.type == "cuda"


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes this one; None for None.

    permutation: a vector of int64 that holds 0 ... n-1, each once. Raises IndexError for another number of dimensions
    and RuntimeError for other values or another dtype.

    >>> import fastgrad as torch
    >>> torch.nn.utils.rnn.invert_permutation(torch.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    if permutation is None:
        return None
    if not isinstance(permutation, Tensor):
        raise TypeError(f"[invert_permutation] permutation must be a Tensor; got {type(permutation).__name__}")
    if permutation.ndim != 1:
        raise IndexError(f"[invert_permutation] permutation must be 1-d; got shape {tuple(permutation.shape)}")
    if permutation.dtype is not _core.int64:
        raise RuntimeError(f"[invert_permutation] permutation must be int64; got {permutation.dtype}")
    values = permutation.numpy()
    inverse = np.argsort(values, kind="stable")
    if not np.array_equal(values[inverse], np.arange(len(values))):
        raise RuntimeError(
            f"[invert_permutation] permutation must hold each of 0 ... {len(values) - 1} once; got {values.tolist()}"
        )
    return _core.from_numpy(inverse)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The sequences in a padded batch as a PackedSequence.

    input: (T, B, *), with `batch_first` (B, T, *), of any dtype; lengths: B numbers from 1 to T, a sequence or a CPU
    tensor; with `enforce_sorted` they must not increase, else the sequences are sorted here. Raises RuntimeError for
    other lengths and an empty input, IndexError for an input with less than two dimensions. (PyTorch reads lengths
    beyond T as if the last rows were repeated.) See torch.nn.utils.rnn.pack_padded_sequence.

    >>> import fastgrad as torch
    >>> padded = torch.tensor([[1, 2, 0], [3, 4, 5]])
    >>> torch.nn.utils.rnn.pack_padded_sequence(padded, [2, 3], batch_first=True, enforce_sorted=False).data
    tensor([3, 1, 4, 2, 5])
    """
    op = "pack_padded_sequence"
    if not isinstance(input, Tensor):
        raise TypeError(f"[{op}] input must be a Tensor; got {type(input).__name__}")
    if input.ndim < 2:
        raise IndexError(f"[{op}] input must have at least two dimensions; got shape {tuple(input.shape)}")
    counts = _lengths(lengths, op)
    steps, batch = (input.shape[1], input.shape[0]) if batch_first else (input.shape[0], input.shape[1])
    if len(counts) != batch:
        raise RuntimeError(f"[{op}] lengths must have one number for each sequence; got {len(counts)}, batch {batch}")
    if input.numel() == 0:
        raise RuntimeError(f"[{op}] input must not be empty; got shape {tuple(input.shape)}")
    if counts.max() > steps:
        raise RuntimeError(f"[{op}] a length must not exceed the steps of input; got {counts.max()}, steps {steps}")
    order, batch_sizes, step, place = _layout(counts, enforce_sorted, op)
    column = order[place]
    rows = column * steps + step if batch_first else step * batch + column
    data = input.reshape(steps * batch, *input.shape[2:]).index_select(0, _core.from_numpy(rows))
    return PackedSequence(data, batch_sizes, None if enforce_sorted else _core.from_numpy(order))


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (L, *) of unequal length L >= 1 as a PackedSequence, in the first one's dtype.

    With `enforce_sorted` the lengths must not increase, else they are sorted here. Raises RuntimeError for other
    lengths, an empty list and sizes that do not agree. See torch.nn.utils.rnn.pack_sequence.

    >>> import fastgrad as torch
    >>> torch.nn.utils.rnn.pack_sequence([torch.tensor([1]), torch.tensor([2, 3])], enforce_sorted=False).data
    tensor([2, 1, 3])
    """
    parts = _alike(sequences, "pack_sequence")
    counts = np.array([len(part) for part in parts], np.int64)
    order, batch_sizes, step, place = _layout(counts, enforce_sorted, "pack_sequence")
    first = np.cumsum(counts) - counts
    data = _core.cat(parts).index_select(0, _core.from_numpy(first[order[place]] + step))
    return PackedSequence(data, batch_sizes, None if enforce_sorted else _core.from_numpy(order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The sequences of a PackedSequence in one tensor (T, B, *), with `batch_first` (B, T, *), and their lengths.

    They stand in the order in which they were packed. T is the longest length, or `total_length` if that is given:
    ValueError if it is shorter. Elements behind a sequence's end are `padding_value`. See
    torch.nn.utils.rnn.pad_packed_sequence.

    >>> import fastgrad as torch
    >>> packed = torch.nn.utils.rnn.pack_sequence([torch.tensor([1]), torch.tensor([2, 3])], enforce_sorted=False)
    >>> torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (tensor([[ 1, -1],
            [ 2,  3]]), tensor([1, 2]))
    """
    op = "pad_packed_sequence"
    counts, step, column = _places(sequence, op)
    steps = counts.max().item()
    if total_length is not None:
        if not isinstance(total_length, int):
            raise TypeError(f"[{op}] total_length must be an int; got {type(total_length).__name__}")
        if total_length < steps:
            raise ValueError(
                f"[{op}] total_length must not be less than the longest length; got {total_length}, longest {steps}"
            )
        steps = total_length
    padded = _padded(sequence.data, step, column, steps, len(counts), batch_first, padding_value)
    return padded, _core.from_numpy(counts)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a PackedSequence, in their original order. See torch.nn.utils.rnn.unpack_sequence.

    >>> import fastgrad as torch
    >>> packed = torch.nn.utils.rnn.pack_sequence([torch.tensor([1]), torch.tensor([2, 3])], enforce_sorted=False)
    >>> torch.nn.utils.rnn.unpack_sequence(packed)
    [tensor([1]), tensor([2, 3])]
    """
    counts, step, column = _places(packed_sequences, "unpack_sequence")
    rows = np.empty(len(step), np.int64)
    rows[(np.cumsum(counts) - counts)[column] + step] = np.arange(len(step))
    parts = packed_sequences.data.index_select(0, _core.from_numpy(rows)).split(counts.tolist())
    return [part.clone() for part in parts]


def pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Tensors (L, *) of unequal length L in one tensor (T, B, *), with `batch_first` (B, T, *), T the longest length.

    The result has the first one's dtype; elements beside a sequence are `padding_value`. Raises RuntimeError for an
    empty list, sizes that do not agree, and a `padding_side` that is neither "left" nor "right". See
    torch.nn.utils.rnn.pad_sequence.

    >>> import fastgrad as torch
    >>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1]), torch.tensor([2, 3])], True, padding_side="left")
    tensor([[0, 1],
            [2, 3]])
    """
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"[pad_sequence] padding_side must be 'left' or 'right'; got {padding_side!r}")
    parts = _alike(sequences, "pad_sequence")
    counts = np.array([len(part) for part in parts], np.int64)
    steps = counts.max().item()
    column = np.repeat(np.arange(len(parts)), counts)
    step = np.arange(len(column)) - (np.cumsum(counts) - counts)[column]
    if padding_side == "left":
        step += (steps - counts)[column]
    return _padded(_core.cat(parts), step, column, steps, len(parts), batch_first, padding_value)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The first `lengths[b]` steps of each sequence in a padded batch (T, B, *), with `batch_first` (B, T, *).

    Raises ValueError if there are not as many lengths as sequences. Other than in PyTorch `padded_sequences` keeps its
    shape. See torch.nn.utils.rnn.unpad_sequence.

    >>> import fastgrad as torch
    >>> torch.nn.utils.rnn.unpad_sequence(torch.tensor([[1, 0], [2, 3]]), [1, 2], batch_first=True)
    [tensor([1]), tensor([2, 3])]
    """
    op = "unpad_sequence"
    if not isinstance(padded_sequences, Tensor):
        raise TypeError(f"[{op}] padded_sequences must be a Tensor; got {type(padded_sequences).__name__}")
    if padded_sequences.ndim < 2:
        raise IndexError(
            f"[{op}] padded_sequences must have at least two dimensions; got shape {tuple(padded_sequences.shape)}"
        )
    counts = _lengths(lengths, op).tolist()
    columns = padded_sequences.unbind(0 if batch_first else 1)
    if len(counts) != len(columns):
        raise ValueError(
            f"[{op}] lengths must have one number for each sequence; got {len(counts)}, batch {len(columns)}"
        )
    return [column[: max(count, 0)].clone() for column, count in zip(columns, counts, strict=True)]


def checked_batch_sizes(sequence: Any, op: str) -> np.ndarray:
    """The batch sizes of a PackedSequence, which anybody can make: positive, not increasing, their sum the rows."""
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"[{op}] sequence must be a PackedSequence; got {type(sequence).__name__}")
    data, batch_sizes = sequence.data, sequence.batch_sizes
    if batch_sizes.ndim != 1 or batch_sizes.dtype is not _core.int64 or len(batch_sizes) == 0:
        raise RuntimeError(
            f"[{op}] batch_sizes must be a vector of int64 that is not empty; got {batch_sizes.dtype}, shape "
            f"{tuple(batch_sizes.shape)}"
        )
    sizes = batch_sizes.numpy()
    if sizes.min() < 1 or (sizes[1:] > sizes[:-1]).any():
        raise RuntimeError(f"[{op}] batch_sizes must be positive and not increase; got {sizes.tolist()}")
    rows = data.shape[0] if data.ndim else 0
    # Summed as Python numbers, which do not wrap around.
    if sum(sizes.tolist()) != rows:
        raise RuntimeError(f"[{op}] batch_sizes must sum to the rows of data; got {sum(sizes.tolist())}, rows {rows}")
    return sizes


def _lengths(lengths: Any, op: str) -> np.ndarray:
    values = lengths.detach().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"[{op}] lengths must be numbers; got {type(lengths).__name__} {lengths!r}")
    if values.ndim != 1:
        raise RuntimeError(f"[{op}] lengths must be 1-d; got shape {values.shape}")
    with np.errstate(invalid="ignore"):  # inf and NaN become numbers that no batch has
        return values.astype(np.int64)


def _layout(counts: np.ndarray, enforce_sorted: bool, op: str) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
    """Where the rows of a packed batch come from: the order of the sequences by length, the batch sizes, and for each
    packed row its step and its sequence's place in that order."""
    if counts.min() < 1:
        raise RuntimeError(f"[{op}] each length must be greater than 0; got {counts.min()}")
    order = np.arange(len(counts)) if enforce_sorted else np.argsort(-counts, kind="stable")
    if enforce_sorted and (counts[1:] > counts[:-1]).any():
        raise RuntimeError(
            f"[{op}] with enforce_sorted=True the lengths must not increase; got {counts.tolist()}: sort the sequences "
            "or pass enforce_sorted=False"
        )
    running = counts[order] > np.arange(counts.max())[:, None]
    step, place = np.nonzero(running)
    return order, _core.from_numpy(running.sum(1)), step, place


def _places(sequence: Any, op: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lengths of the sequences in their original order, and for each packed row its step and its sequence."""
    sizes = checked_batch_sizes(sequence, op)
    running = np.arange(sizes[0]) < sizes[:, None]
    step, place = np.nonzero(running)
    counts = running.sum(0)
    if sequence.unsorted_indices is None:
        return counts, step, place
    if len(sequence.unsorted_indices) != sizes[0]:
        raise RuntimeError(
            f"[{op}] unsorted_indices must have one number for each sequence; got {len(sequence.unsorted_indices)}, "
            f"batch {sizes[0]}"
        )
    order = invert_permutation(sequence.unsorted_indices).numpy()  # type: ignore[union-attr]
    return counts[sequence.unsorted_indices.numpy()], step, order[place]


def _alike(sequences: Any, op: str) -> list[Tensor]:
    """The sequences with the dtype and the trailing sizes of the first, to which they must broadcast."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"[{op}] sequences must be an iterable of Tensors; got {type(sequences).__name__}")
    parts = list(sequences)
    if not parts:
        raise RuntimeError(f"[{op}] sequences must not be empty; got an empty one")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"[{op}] sequences must be Tensors; got {type(part).__name__}")
        if part.ndim == 0:
            raise RuntimeError(f"[{op}] a sequence must have at least one dimension; got shape ()")
    trailing, dtype = tuple(parts[0].shape)[1:], parts[0].dtype
    for k, part in enumerate(parts):
        if tuple(part.shape)[1:] != trailing:
            try:
                parts[k] = part.expand(len(part), *trailing)
            except RuntimeError:
                raise RuntimeError(
                    f"[{op}] the sizes behind the first must be those of the first sequence; got {tuple(part.shape)}, "
                    f"expected (length, *{trailing})"
                ) from None
    return [part if part.dtype is dtype else part.to(dtype) for part in parts]


def _padded(
    data: Tensor, step: np.ndarray, column: np.ndarray, steps: int, batch: int, batch_first: bool, value: float
) -> Tensor:
    """(T, B, *) or (B, T, *) with the rows of `data` at these steps of these sequences, `value` elsewhere."""
    shape, rows = ((batch, steps), column * steps + step) if batch_first else ((steps, batch), step * batch + column)
    padded = data.new_full((steps * batch, *data.shape[1:]), value)
    padded.index_put_((_core.from_numpy(rows),), data)
    return padded.view(*shape, *data.shape[1:])
