"""Datasets: what has samples under indices, or is iterated over."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from fastgrad import _core
from fastgrad._core import Tensor

Sample = TypeVar("Sample", covariant=True)


class Dataset(Generic[Sample]):
    """Base class of datasets with `__getitem__(index)` and, usually, `__len__`.

    A subclass may define `__getitems__(indices)`, a list of samples at once. `a + b` is their concatenation.
    """

    def __getitem__(self, index: Any) -> Sample:
        raise NotImplementedError(f"[Dataset] {type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample], Iterable[Sample]):
    """Base class of datasets that give their samples by iteration only."""

    def __iter__(self) -> Iterator[Sample]:
        raise NotImplementedError(f"[IterableDataset] {type(self).__name__} must define __iter__")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples are the rows of tensors of equal first size: `dataset[i]` is `(t[i] for t in tensors)`.

    >>> import fastgrad as torch
    >>> dataset = torch.utils.data.TensorDataset(torch.zeros(5, 3), torch.arange(5))
    >>> len(dataset), dataset[4][1]
    (5, tensor(4))
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or any(tensor.ndim == 0 or tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
            raise AssertionError(
                "[TensorDataset] the tensors must have the same first size; got shapes "
                f"{[tuple(tensor.shape) for tensor in tensors]}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class ConcatDataset(Dataset[Sample]):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("[ConcatDataset] datasets must not be empty; got none")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("[ConcatDataset] the datasets must have indices; got an IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise ValueError(f"[ConcatDataset] the index must be in [{-len(self)}, {len(self)}); got {index}")
        index %= len(self)
        number = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[number][index - (self.cumulative_sizes[number - 1] if number else 0)]


class Subset(Dataset[Sample]):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Dataset[Sample], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Sample:
        if isinstance(index, list):
            return self.dataset[[self.indices[k] for k in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Sample]:
        chosen = [self.indices[k] for k in indices]
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(chosen)
        return [self.dataset[k] for k in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Dataset, lengths: Sequence[int | float], generator: Any = None) -> list[Subset]:
    """Split a dataset at random into parts of the given lengths, or of fractions that sum to 1.

    What fractions leave over goes one by one to the parts from the first on.

    >>> import fastgrad as torch
    >>> [len(part) for part in torch.utils.data.random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    total = len(dataset)  # type: ignore[arg-type]
    sizes: list = list(lengths)
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1:
        if any(not 0 <= fraction <= 1 for fraction in sizes):
            raise ValueError(f"[random_split] a fraction must be between 0 and 1; got {sizes}")
        sizes = [math.floor(total * fraction) for fraction in sizes]
        for k in range(total - sum(sizes)):
            sizes[k % len(sizes)] += 1
        if 0 in sizes:
            warnings.warn(f"[random_split] part {sizes.index(0)} is empty", stacklevel=2)
    if sum(sizes) != total:
        raise ValueError(f"[random_split] the lengths must sum to the dataset's length {total}; got {sizes}")
    indices = _core.randperm(total, generator=generator).tolist()
    return [
        Subset(dataset, indices[end - size : end])
        for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)
    ]  # fmt: skip
