"""Samplers: the order in which a DataLoader asks for indices.

Drawn as PyTorch draws them: the same seed gives the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from fastgrad import _core
from fastgrad._core import Generator

Index = TypeVar("Index", covariant=True)


class Sampler(Generic[Index]):
    """Base class: a subclass defines `__iter__` over indices and, usually, `__len__`."""

    def __iter__(self) -> Iterator[Index]:
        raise NotImplementedError(f"[Sampler] {type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


def _generator_of(generator: Any) -> Any:
    """The given generator, or one seeded from the default generator, as PyTorch does."""
    if generator is not None:
        return generator
    seed = int(_core.empty((), dtype=_core.int64).random_().item())
    return Generator().manual_seed(seed)


def _check_num_samples(op: str, num_samples: Any) -> None:
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 0:
        raise ValueError(f"[{op}] num_samples should be a positive integer; got {num_samples!r}")


class RandomSampler(Sampler[int]):
    """All indices in random order; with `replacement`, or `num_samples` of them."""

    def __init__(
        self, data_source: Sized, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"[RandomSampler] replacement should be a boolean value; got {replacement!r}")
        if num_samples is not None:
            _check_num_samples("RandomSampler", num_samples)
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices one iteration gives."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, count = len(self.data_source), self.num_samples
        generator = _generator_of(self.generator)
        if n == 0:
            return
        if self.replacement:
            for start in range(0, count, 32):
                size = min(32, count - start)
                yield from _core.randint(0, n, (size,), dtype=_core.int64, generator=generator).tolist()
        else:
            for _ in range(count // n):
                yield from _core.randperm(n, generator=generator).tolist()
            # Drawn even when nothing of it is used, as PyTorch does: a given generator's next epoch depends on it.
            yield from _core.randperm(n, generator=generator).tolist()[: count % n]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for k in _core.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[k]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices with probabilities proportional to `weights`; without replacement each at most once."""

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None
    ) -> None:
        _check_num_samples("WeightedRandomSampler", num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"[WeightedRandomSampler] replacement should be a boolean value; got {replacement!r}")
        self.weights = _core.as_tensor(weights, dtype=_core.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"[WeightedRandomSampler] weights must be 1-d; got shape {tuple(self.weights.shape)}")
        if not bool(((self.weights >= 0) & (self.weights < float("inf"))).all()):
            raise ValueError("[WeightedRandomSampler] weights must be finite and not negative; got others")
        positive = int((self.weights > 0).sum())
        if num_samples and positive < (1 if replacement else num_samples):
            raise ValueError(
                f"[WeightedRandomSampler] too few weights are above zero; got {positive} for {num_samples} samples, "
                f"replacement={replacement}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        import numpy

        def uniform(count: int) -> Any:
            return _core.rand(count, dtype=_core.float64, generator=self.generator).numpy()

        weights = self.weights.numpy()
        if self.replacement:
            edges = numpy.cumsum(weights)
            # A draw at the upper edge by rounding belongs to the last index that has a weight.
            last = int(numpy.flatnonzero(weights)[-1]) if len(weights) else 0
            drawn = numpy.searchsorted(edges, uniform(self.num_samples) * edges[-1], side="right")
            yield from numpy.minimum(drawn, last).tolist()
        else:
            # Exponential clocks: the order of E_i / w_i is a draw without replacement (Efraimidis and Spirakis 2006).
            with numpy.errstate(divide="ignore"):
                clocks = -numpy.log1p(-uniform(len(weights))) / weights
            clocks[weights == 0] = numpy.inf
            yield from numpy.argsort(clocks, kind="stable")[: self.num_samples].tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler; the last one may be shorter, or dropped.

    >>> import fastgrad as torch
    >>> list(torch.utils.data.BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"[BatchSampler] batch_size should be a positive integer value; got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"[BatchSampler] drop_last should be a boolean value; got {drop_last!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
