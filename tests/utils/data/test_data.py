"""Datasets, samplers, collation and the DataLoader."""

from __future__ import annotations

from collections import Counter, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad.utils import data

Point = namedtuple("Point", "x y")


class Squares(data.Dataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(index * index)

    def __len__(self) -> int:
        return self.count


class Stream(data.IterableDataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        return iter(range(self.count))

    def __len__(self) -> int:
        return self.count


def tensors(count: int) -> data.TensorDataset:
    return data.TensorDataset(fg.arange(2.0 * count).reshape(count, 2), fg.arange(count))


class TestDatasets:
    def test_tensor_dataset(self) -> None:
        dataset = tensors(3)
        assert len(dataset) == 3 and [t.tolist() for t in dataset[1]] == [[2.0, 3.0], 1]
        with pytest.raises(AssertionError, match="same first size"):
            data.TensorDataset(fg.ones(2), fg.ones(3))
        with pytest.raises(AssertionError, match="same first size"):
            data.TensorDataset(fg.tensor(1.0))

    def test_concatenation(self) -> None:
        dataset = Squares(2) + Squares(0) + Squares(3)
        assert [dataset[k][0] for k in range(-5, 5)] == [0, 1, 0, 1, 2] * 2 and len(dataset) == 5
        with pytest.raises(ValueError, match="must be in"):
            dataset[5]
        with pytest.raises(AssertionError, match="must not be empty"):
            data.ConcatDataset([])
        with pytest.raises(AssertionError, match="got an IterableDataset"):
            data.ConcatDataset([Stream(1)])

    def test_subset(self) -> None:
        subset = data.Subset(data.Subset(Squares(9), [8, 6, 4, 2]), [3, 1])
        assert [subset[k] for k in range(len(subset))] == subset.__getitems__([0, 1]) == [(2, 4.0), (6, 36.0)]
        assert data.Subset(tensors(5), [4, 2])[[0, 1]][1].tolist() == [4, 2]

    @pytest.mark.filterwarnings("ignore:.*is empty")
    @given(st.integers(0, 30), st.lists(st.integers(0, 10), min_size=1, max_size=4))
    def test_random_split(self, seed: int, sizes: list[int]) -> None:
        total = sum(sizes)
        parts = data.random_split(range(total), sizes, generator=fg.Generator().manual_seed(seed))
        assert [len(part) for part in parts] == sizes
        assert sorted(k for part in parts for k in part.indices) == list(range(total))

    def test_fractions(self) -> None:
        assert [len(part) for part in data.random_split(Squares(11), [0.5, 0.3, 0.2])] == [6, 3, 2]
        with pytest.warns(UserWarning, match="part 1 is empty"):
            data.random_split(Squares(1), [0.5, 0.5])
        with pytest.raises(ValueError, match="must sum to"):
            data.random_split(Squares(3), [1, 1])
        with pytest.raises(ValueError, match="between 0 and 1"):
            data.random_split(Squares(3), [1.5, -0.5])

    @pytest.mark.parametrize(
        "call",
        [lambda: data.Dataset()[0], lambda: iter(data.IterableDataset()), lambda: iter(data.Sampler())],
    )
    def test_base_classes(self, call: Any) -> None:
        with pytest.raises(NotImplementedError, match="must define"):
            call()


class TestSamplers:
    @given(st.integers(0, 70), st.integers(0, 100), st.booleans())
    def test_random_sampler(self, count: int, wanted: int, replacement: bool) -> None:
        sampler = data.RandomSampler(range(count), replacement, wanted, fg.Generator().manual_seed(3))
        drawn = list(sampler)
        assert len(sampler) == wanted and len(drawn) == (wanted if count else 0)
        assert set(drawn) <= set(range(count))
        if not replacement and count:
            counts = Counter(drawn)
            assert max(counts.values(), default=0) - min((counts[k] for k in range(count)), default=0) <= 1

    def test_two_epochs_differ(self) -> None:
        sampler = data.RandomSampler(range(50))
        assert list(sampler) != list(sampler)
        fg.manual_seed(7)
        first = list(sampler)
        fg.manual_seed(7)
        assert list(sampler) == first

    def test_subset_random_sampler(self) -> None:
        sampler = data.SubsetRandomSampler([5, 7, 9])
        assert sorted(sampler) == [5, 7, 9] and len(sampler) == 3

    def test_weighted_sampler(self) -> None:
        drawn = Counter(data.WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
        assert drawn[0] == 0 and drawn[2] / 4000 == pytest.approx(0.75, abs=0.03)
        once = data.WeightedRandomSampler([1.0, 0.0, 3.0, 2.0], 3, replacement=False)
        assert sorted(once) == [0, 2, 3] and len(once) == 3
        first = Counter(next(iter(data.WeightedRandomSampler([1.0, 3.0], 1, replacement=False))) for _ in range(2000))
        assert first[1] / 2000 == pytest.approx(0.75, abs=0.04)

    @given(st.integers(0, 20), st.integers(1, 6), st.booleans())
    def test_batch_sampler(self, count: int, size: int, drop_last: bool) -> None:
        sampler = data.BatchSampler(data.SequentialSampler(range(count)), size, drop_last)
        batches = list(sampler)
        assert len(sampler) == len(batches)
        assert [k for batch in batches for k in batch] == list(range(count - count % size if drop_last else count))
        assert all(len(batch) == size for batch in batches[:-1])

    @pytest.mark.parametrize(
        ("make", "error", "text"),
        [
            (lambda: data.RandomSampler(range(3), num_samples=-1), ValueError, "positive integer"),
            (lambda: data.RandomSampler(range(3), replacement=1), TypeError, "boolean"),
            (lambda: data.BatchSampler(range(3), 0, False), ValueError, "positive integer"),
            (lambda: data.BatchSampler(range(3), True, False), ValueError, "positive integer"),
            (lambda: data.BatchSampler(range(3), 1, 0), ValueError, "boolean"),
            (lambda: data.WeightedRandomSampler([1.0], 1.5), ValueError, "positive integer"),
            (lambda: data.WeightedRandomSampler([[1.0]], 1), ValueError, "must be 1-d"),
            (lambda: data.WeightedRandomSampler([-1.0, 2.0], 1), ValueError, "not negative"),
            (lambda: data.WeightedRandomSampler([float("inf")], 1), ValueError, "finite"),
            (lambda: data.WeightedRandomSampler([0.0], 1), ValueError, "too few weights"),
            (lambda: data.WeightedRandomSampler([0.0, 1.0], 2, replacement=False), ValueError, "too few weights"),
            (lambda: data.WeightedRandomSampler([1.0], 1, replacement=0), ValueError, "boolean"),
        ],
    )
    def test_errors(self, make: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            make()


class TestCollate:
    def test_numbers_arrays_containers(self) -> None:
        batch = [
            {"a": (1, 2.0), "b": Point(fg.zeros(2), np.float32(1.5)), "c": "x", "d": np.ones(3)},
            {"a": (3, 4.0), "b": Point(fg.ones(2), np.float32(2.5)), "c": "y", "d": np.zeros(3)},
        ]
        made = data.default_collate(batch)
        assert [t.tolist() for t in made["a"]] == [[1, 3], [2.0, 4.0]]
        assert made["a"][0].dtype is fg.int64 and made["a"][1].dtype is fg.float64
        assert isinstance(made["b"], Point) and made["b"].x.shape == (2, 2) and made["b"].y.dtype is fg.float32
        assert made["c"] == ["x", "y"] and made["d"].shape == (2, 3)
        assert data.default_collate([True, False]).dtype is fg.bool

    def test_convert(self) -> None:
        made = data.default_convert({"a": np.ones(2), "b": [np.int64(3), "x"], "p": Point(1, np.zeros(1))})
        assert made["a"].tolist() == [1.0, 1.0] and made["b"][0].item() == 3 and made["b"][1] == "x"
        assert made["p"].x == 1 and isinstance(made["p"].y, fg.Tensor)

    def test_errors(self) -> None:
        with pytest.raises(TypeError, match="tensors, arrays, numbers"):
            data.default_collate([object()])
        with pytest.raises(TypeError, match="of numbers"):
            data.default_collate([np.array(["a"])])
        with pytest.raises(RuntimeError, match="of equal size"):
            data.default_collate([[1], [1, 2]])


class TestDataLoader:
    @given(st.integers(1, 20), st.integers(1, 7), st.booleans(), st.booleans())
    def test_every_sample_once(self, count: int, size: int, shuffle: bool, drop_last: bool) -> None:
        loader = data.DataLoader(tensors(count), size, shuffle=shuffle, drop_last=drop_last)
        batches = list(loader)
        assert len(loader) == len(batches)
        seen = [k for _, index in batches for k in index.tolist()]
        assert len(set(seen)) == len(seen) == (count - count % size if drop_last else count)
        for x, index in batches:
            assert x[:, 0].tolist() == [2.0 * k for k in index.tolist()]

    @given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
    def test_the_gather_is_the_collation(self, count: int, size: int, seed: int) -> None:
        class Plain(data.TensorDataset):
            def __getitem__(self, index: Any) -> Any:
                return super().__getitem__(index)

        datasets = [cls(fg.randn(count, 2), fg.arange(count)) for cls in (data.TensorDataset, Plain)]
        datasets[1].tensors = datasets[0].tensors
        subsets = [data.Subset(dataset, list(range(count))[::-1]) for dataset in datasets]
        for fast, slow in (datasets, subsets):
            batches = [
                list(data.DataLoader(d, size, True, generator=fg.Generator().manual_seed(seed))) for d in (fast, slow)
            ]  # fmt: skip
            assert [[t.tolist() for t in b] for b in batches[0]] == [[t.tolist() for t in b] for b in batches[1]]
            assert all(type(batch) is list for batch in batches[0])

    def test_a_batch_is_one_gather_per_tensor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Any, index: Any) -> None:
            raise AssertionError("a sample was made")

        dataset = tensors(6)
        refuse_it = type("Refusing", (data.TensorDataset,), {})
        dataset.__class__ = refuse_it
        assert len(list(data.DataLoader(dataset, 4))) == 2
        refuse_it.__getitem__ = refuse
        with pytest.raises(AssertionError, match="a sample was made"):
            list(data.DataLoader(dataset, 4))

    def test_samplers_of_the_user(self) -> None:
        dataset = tensors(5)
        assert [b[1].tolist() for b in data.DataLoader(dataset, 2, sampler=[4, -1, 0])] == [[4, 4], [0]]
        assert [b[1].tolist() for b in data.DataLoader(dataset, batch_sampler=[[1], [2, 3]])] == [[1], [2, 3]]
        with pytest.raises(IndexError):
            list(data.DataLoader(dataset, sampler=[5]))

    def test_samples_one_by_one(self) -> None:
        assert [k for k, _ in data.DataLoader(Squares(3), batch_size=None)] == [0, 1, 2]
        made = list(data.DataLoader([np.ones(2), np.zeros(2)], batch_size=None))
        assert made[0].tolist() == [1.0, 1.0] and len(data.DataLoader(Squares(3), batch_size=None)) == 3

    def test_a_collate_function(self) -> None:
        assert list(data.DataLoader(Squares(3), 2, collate_fn=sum_of_squares)) == [1.0, 4.0]
        assert [b[0].tolist() for b in data.DataLoader(Squares(3), 2)] == [[0, 1], [2]]

    def test_iterable_datasets(self) -> None:
        assert [b.tolist() for b in data.DataLoader(Stream(5), 2)] == [[0, 1], [2, 3], [4]]
        assert [b.tolist() for b in data.DataLoader(Stream(5), 2, drop_last=True)] == [[0, 1], [2, 3]]
        assert list(data.DataLoader(Stream(2), batch_size=None)) == [0, 1]
        assert len(data.DataLoader(Stream(5), 2)) == 3 and len(data.DataLoader(Stream(5), 2, drop_last=True)) == 2
        for option in ({"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}):
            with pytest.raises(ValueError, match="IterableDataset has no indices"):
                data.DataLoader(Stream(2), **option)

    def test_a_loader_starts_anew_every_time(self) -> None:
        loader = data.DataLoader(tensors(4), 2)
        first = iter(loader)
        next(first)
        assert len(list(loader)) == 2 and len(list(first)) == 1

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"num_workers": 2}, "num_workers must be 0"),
            ({"prefetch_factor": 2}, "need workers"),
            ({"persistent_workers": True}, "need workers"),
            ({"sampler": [0], "shuffle": True}, "mutually exclusive with shuffle"),
            ({"batch_sampler": [[0]], "batch_size": 2}, "mutually exclusive with batch_size"),
            ({"batch_size": None, "drop_last": True}, "mutually exclusive with drop_last"),
            ({"batch_size": 0}, "positive integer"),
        ],
    )
    def test_errors(self, arguments: dict, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            data.DataLoader(tensors(3), **arguments)


def sum_of_squares(samples: list) -> float:
    return sum(square for _, square in samples)
