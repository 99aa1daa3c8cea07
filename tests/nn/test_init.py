"""Initial values: moments, structure, errors. That the numbers are PyTorch's is in test_nn_torch.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.nn import init

MOMENTS = {  # (fill, mean, standard deviation, bound) of a (200, 300) matrix
    "uniform": (lambda w: init.uniform_(w, -1, 3), 1.0, 4 / math.sqrt(12), 3.0),
    "normal": (lambda w: init.normal_(w, 2.0, 0.5), 2.0, 0.5, math.inf),
    "xavier_uniform": (lambda w: init.xavier_uniform_(w, 2.0), 0.0, 2 * math.sqrt(2 / 500), 2 * math.sqrt(6 / 500)),
    "xavier_normal": (init.xavier_normal_, 0.0, math.sqrt(2 / 500), math.inf),
    "kaiming_uniform": (init.kaiming_uniform_, 0.0, math.sqrt(2 / 300), math.sqrt(6 / 300)),
    "kaiming_normal": (
        lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), 0.0, math.sqrt(2 / 200), math.inf,
    ),
    # The variance of a standard normal restricted to [-2, 2] is 1 - 4 phi(2) / (2 Phi(2) - 1).
    "trunc_normal": (init.trunc_normal_, 0.0, math.sqrt(1 - 4 * 0.05399097 / 0.95449974), 2.0),
    # Restricted to [2, 3]: mean m = (phi(2) - phi(3)) / Z = 2.3158, variance 1 + (2 phi(2) - 3 phi(3)) / Z - m^2.
    "tail": (lambda w: init.trunc_normal_(w, a=2.0, b=3.0), 2.3158, 0.2481, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("dtype", [fg.float32, fg.float64])
def test_moments(name: str, dtype: Any) -> None:
    fill, mean, std, bound = MOMENTS[name]
    weight = fg.nn.Parameter(fg.empty(200, 300, dtype=dtype))
    assert fill(weight) is weight and weight.is_leaf and weight.requires_grad
    values = weight.detach().numpy()
    assert values.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(values.size))
    assert values.std() == pytest.approx(std, rel=0.02)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    if name == "tail":
        assert values.min() >= 2.0


def test_constants() -> None:
    assert init.constant_(fg.empty(2), 3.5).tolist() == [3.5, 3.5]
    assert init.ones_(fg.empty(1)).item() == 1.0 and init.zeros_(fg.empty(1)).item() == 0.0
    assert init.eye_(fg.empty(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_dirac() -> None:
    weight = init.dirac_(fg.empty(4, 2, 3), groups=2).numpy()
    expected = np.zeros((4, 2, 3))
    for group in range(2):
        for channel in range(2):
            expected[group * 2 + channel, channel, 1] = 1
    np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(fg.empty(shape, dtype=fg.float64), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)
    assert init.orthogonal_(fg.empty(0, 3)).numel() == 0


def test_sparse() -> None:
    weight = init.sparse_(fg.empty(10, 4), sparsity=0.25).numpy()
    assert ((weight == 0).sum(0) == 3).all() and np.abs(weight).max() < 0.1


def test_nothing_to_fill() -> None:
    with pytest.warns(UserWarning, match="nothing to initialize"):
        assert init.kaiming_uniform_(fg.empty(0, 3)).shape == (0, 3)
    with pytest.warns(UserWarning, match="more than 2 std"):
        init.trunc_normal_(fg.empty(3), mean=5.0, a=-1.0, b=1.0)


def test_a_generator() -> None:
    first, second = (init.normal_(fg.empty(3), generator=fg.Generator().manual_seed(1)) for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize(
    ("nonlinearity", "param", "gain"),
    [
        ("linear", None, 1.0),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", 1, 1.0),
        ("selu", None, 0.75),
    ],
)
def test_gain(nonlinearity: str, param: Any, gain: float) -> None:
    assert init.calculate_gain(nonlinearity, param) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: init.calculate_gain("other"), "unsupported nonlinearity"),
        (lambda: init.calculate_gain("leaky_relu", True), "must be a number"),
        (lambda: init.eye_(fg.empty(3)), "2 dimensions"),
        (lambda: init.dirac_(fg.empty(3, 3)), "3, 4 or 5"),
        (lambda: init.dirac_(fg.empty(3, 3, 1), groups=2), "divisible"),
        (lambda: init.xavier_uniform_(fg.empty(3)), "2 or more"),
        (lambda: init.kaiming_normal_(fg.empty(3, 3), mode="fan"), "fan_in or fan_out"),
        (lambda: init.orthogonal_(fg.empty(3)), "2 or more"),
        (lambda: init.sparse_(fg.empty(3), 0.5), "2 dimensions"),
    ],
)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()
