"""DataLoader: batches of a dataset, in this process."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor
from fastgrad.utils.data.dataset import IterableDataset, Subset, TensorDataset
from fastgrad.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler


def default_convert(data: Any) -> Any:
    """A sample with its NumPy arrays and scalars as tensors; everything else stays as it is."""
    if isinstance(data, Tensor):
        return data
    if type(data).__module__ == "numpy":
        return _core.as_tensor(data) if data.dtype.kind in "biuf" else data
    return _rebuilt(data, default_convert)


def _rebuilt(data: Any, convert: Callable) -> Any:
    """The same container with converted items."""
    if isinstance(data, Mapping):
        return {key: convert(data[key]) for key in data}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(convert(item) for item in data))
    if isinstance(data, (list, tuple)):
        return [convert(item) for item in data]
    return data


def default_collate(batch: Sequence[Any]) -> Any:
    """A list of samples as one: tensors are stacked, numbers become a tensor, containers are collated item by item.

    >>> import fastgrad as torch
    >>> torch.utils.data.default_collate([(torch.zeros(2), 1), (torch.ones(2), 2)])
    [tensor([[0., 0.],
            [1., 1.]]), tensor([1, 2])]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _core.stack(list(batch))
    if type(first).__module__ == "numpy":
        if first.dtype.kind not in "biuf":
            raise TypeError(f"[default_collate] arrays must be of numbers; got dtype {first.dtype}")
        return default_collate([_core.as_tensor(item) for item in batch])
    if isinstance(first, float):
        return _core.tensor(list(batch), dtype=_core.float64)
    if isinstance(first, int):
        return _core.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                f"[default_collate] each element in list of batch should be of equal size; got "
                f"{[len(sample) for sample in batch]}"
            )
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        f"[default_collate] a batch must contain tensors, arrays, numbers, dicts or lists; got {type(first).__name__}"
    )


class DataLoader:
    """Iterates over batches of a dataset.

    `sampler` gives the order (`shuffle` is a RandomSampler), `batch_sampler` whole batches of indices, `collate_fn`
    makes a batch of a list of samples (`default_collate`); with `batch_size=None` samples come one by one. Batches of a
    TensorDataset, or of a Subset of one, are one gather per tensor. Arguments and random order: PyTorch's DataLoader.

    >>> import fastgrad as torch
    >>> data = torch.utils.data.TensorDataset(torch.arange(5))
    >>> [batch.tolist() for batch, in torch.utils.data.DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        if num_workers != 0:
            raise ValueError(
                "[DataLoader] num_workers must be 0: batches are made in the calling process, where a TensorDataset "
                f"needs one gather per tensor; got {num_workers}"
            )
        if prefetch_factor is not None or persistent_workers or timeout:
            raise ValueError(
                "[DataLoader] prefetch_factor, persistent_workers and timeout need workers; got num_workers=0"
            )
        self.iterable = isinstance(dataset, IterableDataset)
        if self.iterable:
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(
                        f"[DataLoader] an IterableDataset has no indices, so no {name}; got {name}={value}"
                    )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
            )
        if batch_sampler is None and batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            if self.iterable:
                sampler = itertools.repeat(None)
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)

    def __iter__(self) -> Iterator[Any]:
        # PyTorch draws the workers' base seed here, whether there are workers or not: the order after it depends on it.
        _core.empty((), dtype=_core.int64).random_(generator=self.generator)
        if self.iterable:
            return self._iterate_over_samples()
        if self.batch_sampler is None:
            return (self.collate_fn(self.dataset[index]) for index in self.sampler)
        fetch = self._fetch_function()
        return (fetch(indices) for indices in self.batch_sampler)

    def _fetch_function(self) -> Callable[[list[Any]], Any]:
        """What makes a batch of a list of indices."""
        dataset, collate = self.dataset, self.collate_fn
        gather = _gather_function(dataset) if collate is default_collate else None
        if gather is not None:
            return gather
        if hasattr(dataset, "__getitems__"):
            return lambda indices: collate(dataset.__getitems__(indices))
        return lambda indices: collate([dataset[index] for index in indices])

    def _iterate_over_samples(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)

    def __len__(self) -> int:
        if not self.iterable:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        count = len(self.dataset)
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def _gather_function(dataset: Any) -> Callable[[list[int]], list[Tensor]] | None:
    """How batches of a plain TensorDataset, or of a plain Subset of one, are made without making samples."""
    method = getattr(type(dataset), "__getitem__", None)
    if method is TensorDataset.__getitem__:
        return functools.partial(_gather, dataset.tensors)
    if method is Subset.__getitem__:
        gather = _gather_function(dataset.dataset)
        if gather is not None:
            return lambda indices: gather([dataset.indices[k] for k in indices])
    return None


def _gather(tensors: tuple[Tensor, ...], indices: list[int]) -> list[Tensor]:
    """The batch that `default_collate` would make of the samples at `indices`."""
    index = _core.tensor(indices, dtype=_core.int64)
    count = tensors[0].shape[0]
    if min(indices) < 0:  # index_select takes no negative index, a sampler may give one
        index = _core.where(index < 0, index + count, index)
    return [tensor.index_select(0, index) for tensor in tensors]
