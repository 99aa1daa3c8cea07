"""The generator against NumPy's mt19937 with the transformations spelled out, and against torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastgrad._core import launch_kernel

SIZES = [0, 1, 2, 15, 16, 17, 31, 32, 100, 625, 5000]
SEEDS = [0, 1, 12345, 2**32 - 1, 2**40 + 7]
RANGES = [(0, 2), (-5, 100), (0, 2**28 - 1), (0, 2**28), (-(2**31), 2**31 - 1), (0, 2**40), (-(2**62), 2**62)]
DTYPES = [np.float32, np.float64]
STATE_BYTES = 5120


class Ours:
    def __init__(self, seed: int) -> None:
        self.state = np.zeros(STATE_BYTES, np.uint8)
        launch_kernel("random_seed", [self.state], i=(seed,))

    def draw(self, name: str, size: int, dtype: Any, i: tuple[int, ...] = (), f: tuple[float, ...] = ()) -> np.ndarray:
        out = np.empty(size, dtype)
        launch_kernel(name, [out, self.state, *([None] if name == "bernoulli" else [])], i=i, f=f)
        return out

    def bernoulli(self, p: np.ndarray, dtype: Any) -> np.ndarray:
        out = np.empty(p.shape, dtype)
        launch_kernel("bernoulli", [out, self.state, p])
        return out


class Reference:
    """One number at a time, in Python, from NumPy's 32-bit words."""

    def __init__(self, seed: int) -> None:
        self.words = np.random.RandomState(seed % 2**32)
        self.cached: float | None = None

    def word(self) -> int:
        return int(self.words.randint(0, 2**32, dtype=np.uint32))

    def double_word(self) -> int:
        high = self.word()
        return high << 32 | self.word()

    def unit(self, dtype: Any) -> float:
        if dtype == np.float32:
            return (self.word() % 2**24) / 2**24
        return (self.double_word() % 2**53) / 2**53

    def normal(self, size: int, dtype: Any) -> np.ndarray:
        if size < 16:
            return np.array([self.scalar_normal() for _ in range(size)])
        x = np.array([self.unit(dtype) for _ in range(size)])
        blocks = [slice(k, k + 16) for k in range(0, size - 15, 16)]
        for block in blocks:
            x[block] = self.box_muller(x[block])
        if size % 16:
            x[-16:] = self.box_muller(np.array([self.unit(dtype) for _ in range(16)]))
        return x

    @staticmethod
    def box_muller(u: np.ndarray) -> np.ndarray:
        radius, angle = np.sqrt(-2 * np.log(1 - u[:8])), 2 * math.pi * u[8:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])

    def scalar_normal(self) -> float:
        if self.cached is not None:
            value, self.cached = self.cached, None
            return value
        u1, u2 = self.unit(np.float64), self.unit(np.float64)
        radius = math.sqrt(-2 * math.log1p(-u2))
        self.cached = radius * math.sin(2 * math.pi * u1)
        return radius * math.cos(2 * math.pi * u1)

    def integers(self, size: int, low: int, high: int) -> list[int]:
        draw: Callable[[], int] = self.double_word if high - low >= 2**28 else self.word
        return [low + draw() % (high - low) for _ in range(size)]

    def permutation(self, size: int) -> list[int]:
        x = list(range(size))
        for k in range(size - 1):
            other = k + self.word() % (size - k)
            x[k], x[other] = x[other], x[k]
        return x


def test_known_numbers() -> None:
    """What `torch.manual_seed(0); torch.rand(5)` prints, and mt19937's 10,000th word for its default seed."""
    out = Ours(0).draw("uniform", 5, np.float32, f=(0, 1))
    assert [f"{x:.4f}" for x in out] == ["0.4963", "0.7682", "0.0885", "0.1320", "0.3074"]
    words = Ours(5489).draw("random_integers", 10_000, np.int64, i=(0, 2**28 - 1))
    assert words[-1] == 4123659995 % (2**28 - 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_matches_the_reference_in_mixed_calls(seed: int) -> None:
    ours, reference = Ours(seed), Reference(seed)
    for size, dtype in itertools.product(SIZES[:-1], DTYPES):
        tolerance = {"rtol": 0, "atol": 4e-6 if dtype == np.float32 else 1e-14}
        uniform = np.array([reference.unit(dtype) for _ in range(size)])
        np.testing.assert_array_equal(ours.draw("uniform", size, dtype, f=(0, 1)), uniform)
        normal = reference.normal(size, dtype)
        np.testing.assert_allclose(ours.draw("normal", size, dtype, f=(0, 1)), normal, **tolerance)
        normal = 3 + reference.normal(size, dtype) / 2
        np.testing.assert_allclose(ours.draw("normal", size, dtype, f=(3, 0.5)), normal, **tolerance)
        chances = np.linspace(0, 1, size).astype(dtype)
        truth = [reference.unit(dtype) < p for p in chances]
        np.testing.assert_array_equal(ours.bernoulli(chances, dtype), truth)
        truth = [reference.unit(np.float64) < 0.3 for _ in range(size)]
        np.testing.assert_array_equal(ours.draw("bernoulli", size, np.bool_, f=(0, 0, 0.3)), truth)
        exponential = np.array([-math.log1p(-reference.unit(np.float64)) / 1.7 for _ in range(size)])
        np.testing.assert_allclose(
            ours.draw("exponential", size, dtype, f=(1.7,)), exponential.astype(dtype), rtol=1e-6
        )
        assert ours.draw("randperm", size, np.int64).tolist() == reference.permutation(size)
    for low, high in RANGES:
        assert ours.draw("random_integers", 20, np.int64, i=(low, high)).tolist() == reference.integers(20, low, high)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.int64, np.float32, np.float64])
def test_every_dtype(dtype: Any) -> None:
    expected = np.array(Reference(3).integers(100, 0, 2)).astype(dtype)
    np.testing.assert_array_equal(Ours(3).draw("random_integers", 100, dtype, i=(0, 2)), expected)
    reference = Reference(3)
    expected = np.array([reference.unit(np.float64) < 0.25 for _ in range(100)]).astype(dtype)
    np.testing.assert_array_equal(Ours(3).draw("bernoulli", 100, dtype, f=(0, 0, 0.25)), expected)


def test_integers_of_the_whole_range() -> None:
    """-2**63 ... 2**63 - 1 are 2**64 integers, a number that wraps to 0; the upper bound is passed wrapped too."""
    reference = Reference(3)
    expected = [reference.double_word() - 2**63 for _ in range(20)]
    assert Ours(3).draw("random_integers", 20, np.int64, i=(-(2**63), -(2**63))).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_between_two_numbers(dtype: Any) -> None:
    """The product and the sum are rounded once."""
    low, high = dtype(-0.3), dtype(0.7)
    reference = Reference(0)
    exact = [np.longdouble(reference.unit(dtype)) * np.longdouble(high - low) + np.longdouble(low) for _ in range(1000)]
    out = Ours(0).draw("uniform", 1000, dtype, f=(-0.3, 0.7))
    np.testing.assert_allclose(out, np.array(exact), rtol=0, atol=np.finfo(dtype).eps / 4)
    assert out.min() >= low and out.max() < high


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_chances(p: float) -> None:
    assert (Ours(0).draw("bernoulli", 1000, np.float32, f=(0, 0, p)) == p).all()
    assert (Ours(0).bernoulli(np.full(1000, p), np.float32) == p).all()


def test_moments() -> None:
    x = Ours(7).draw("normal", 100_000, np.float32, f=(2, 3))
    assert abs(x.mean() - 2) < 0.05 and abs(x.std() - 3) < 0.05
    assert sorted(Ours(7).draw("randperm", 1000, np.int64).tolist()) == list(range(1000))
    x = Ours(7).draw("exponential", 100_000, np.float64, f=(4,))
    assert x.min() >= 0 and abs(x.mean() - 0.25) < 0.005


@pytest.mark.torch
@pytest.mark.parametrize("seed", [*SEEDS, 2**63 - 1])
def test_is_torch_in_mixed_calls(seed: int) -> None:
    """Without scalar Bernoulli numbers, which PyTorch takes from MKL's generator on an Intel processor."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    ours = Ours(seed)

    def theirs(method: str, size: int, dtype: Any, *arguments: Any) -> np.ndarray:
        out = torch.from_numpy(np.empty(size, dtype))
        return getattr(out, method)(*arguments, generator=generator).numpy()

    for size, dtype in itertools.product(SIZES, DTYPES):
        eps = np.finfo(dtype).eps
        for low, high in ((0, 1), (-0.3, 0.7), (-2.5, 3.1)):
            expected = theirs("uniform_", size, dtype, low, high)
            np.testing.assert_array_equal(ours.draw("uniform", size, dtype, f=(low, high)), expected)
        for mean, deviation in ((0, 1), (1.5, 2)):
            expected = theirs("normal_", size, dtype, mean, deviation)
            out = ours.draw("normal", size, dtype, f=(mean, deviation))
            np.testing.assert_allclose(out, expected, rtol=8 * eps, atol=4 * eps)
        expected = theirs("exponential_", size, dtype, 1.7)
        np.testing.assert_allclose(ours.draw("exponential", size, dtype, f=(1.7,)), expected, rtol=4 * eps)
        chances = np.linspace(0, 1, size).astype(dtype)
        np.testing.assert_array_equal(
            ours.bernoulli(chances, dtype), theirs("bernoulli_", size, dtype, torch.from_numpy(chances))
        )
        for low, high in RANGES:
            expected = theirs("random_", 20, np.int64, low, high)
            np.testing.assert_array_equal(ours.draw("random_integers", 20, np.int64, i=(low, high)), expected)
        expected = torch.randperm(size, generator=generator).numpy()
        np.testing.assert_array_equal(ours.draw("randperm", size, np.int64), expected)
