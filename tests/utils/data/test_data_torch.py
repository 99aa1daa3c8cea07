"""The DataLoader's random order is PyTorch's, from the same seed."""

from __future__ import annotations

from typing import Any

import pytest

import fastgrad as fg
from fastgrad.utils import data

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def epochs(package: Any, loaders: Any, given: bool, replacement: bool) -> list[list[int]]:
    package.manual_seed(3)
    generator = None
    if given:
        generator = package.Generator()
        generator.manual_seed(5)
    dataset = loaders.TensorDataset(package.arange(23))
    sampler = (
        loaders.RandomSampler(dataset, replacement=True, num_samples=50, generator=generator) if replacement else None
    )
    loader = loaders.DataLoader(dataset, 4, shuffle=None if replacement else True, sampler=sampler, generator=generator)
    return [batch.tolist() for _ in range(2) for (batch,) in loader]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("replacement", [False, True])
def test_order(given: bool, replacement: bool) -> None:
    assert epochs(fg, data, given, replacement) == epochs(torch, torch.utils.data, given, replacement)


def test_random_split() -> None:
    splits = []
    for package, loaders in ((fg, data), (torch, torch.utils.data)):
        generator = package.Generator()
        generator.manual_seed(1)
        splits.append([list(part.indices) for part in loaders.random_split(range(17), [0.6, 0.4], generator)])
    assert splits[0] == splits[1]
