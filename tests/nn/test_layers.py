"""Linear, Embedding, Dropout, Flatten, activations: values against NumPy, kinks, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn
from fastgrad.nn import functional as F


def double(values: Any, requires_grad: bool = False) -> Any:
    return fg.tensor(values, dtype=fg.float64, requires_grad=requires_grad)


class TestLinear:
    @given(st.lists(st.integers(0, 3), max_size=2), st.integers(1, 4), st.integers(1, 4), st.booleans())
    def test_value(self, leading: list[int], inputs: int, outputs: int, bias: bool) -> None:
        layer = nn.Linear(inputs, outputs, bias=bias, dtype=fg.float64)
        x = fg.randn(*leading, inputs, dtype=fg.float64)
        expected = x.numpy() @ layer.weight.detach().numpy().T
        if bias:
            expected = expected + layer.bias.detach().numpy()
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
        assert F.linear(x, layer.weight, layer.bias).shape == expected.shape

    def test_initial_values(self) -> None:
        layer = nn.Linear(100, 50)
        assert layer.weight.abs().max().item() <= 0.1 and layer.bias.abs().max().item() <= 0.1
        assert layer.weight.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
        assert nn.Linear(2, 3, bias=False).bias is None

    def test_repr(self) -> None:
        assert repr(nn.Linear(3, 2, bias=False)) == "Linear(in_features=3, out_features=2, bias=False)"

    def test_shape_error(self) -> None:
        with pytest.raises(RuntimeError, match="linear"):
            nn.Linear(3, 2)(fg.ones(2, 4))


class TestEmbedding:
    @given(st.lists(st.integers(0, 4), max_size=6), st.sampled_from([None, 1, -1]))
    def test_rows_and_their_gradient(self, indices: list[int], padding: int | None) -> None:
        layer = nn.Embedding(5, 3, padding_idx=padding, dtype=fg.float64)
        if padding is not None:
            assert layer.weight[padding].tolist() == [0.0] * 3
            assert layer.padding_idx == padding % 5
        out = layer(fg.tensor(indices, dtype=fg.int64))
        assert out.tolist() == [layer.weight[k].tolist() for k in indices] and out.shape == (len(indices), 3)
        (out * 2).sum().backward()
        for row in range(5):
            count = 0 if padding is not None and row == padding % 5 else indices.count(row)
            assert layer.weight.grad[row].tolist() == [2.0 * count] * 3

    def test_given_table(self) -> None:
        table = fg.arange(6.0).reshape(3, 2)
        layer = nn.Embedding.from_pretrained(table)
        assert layer(fg.tensor(2)).tolist() == [4.0, 5.0] and not layer.weight.requires_grad
        assert repr(nn.Embedding(3, 2, padding_idx=0)) == "Embedding(3, 2, padding_idx=0)"

    def test_errors(self) -> None:
        with pytest.raises(IndexError):
            nn.Embedding(3, 2)(fg.tensor([3]))
        with pytest.raises(AssertionError, match="within num_embeddings"):
            nn.Embedding(3, 2, padding_idx=3)
        with pytest.raises(AssertionError, match="must have shape"):
            nn.Embedding(3, 2, _weight=fg.ones(2, 2))
        with pytest.raises(AssertionError, match="2-dimensional"):
            nn.Embedding.from_pretrained(fg.ones(2))


class TestDropout:
    def test_scales_what_it_keeps(self) -> None:
        layer = nn.Dropout(0.25)
        x = fg.ones(10_000, requires_grad=True)
        y = layer(x)
        assert sorted(set(y.tolist())) == pytest.approx([0.0, 4 / 3])
        assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
        y.sum().backward()
        assert x.grad.tolist() == y.tolist()
        assert layer.eval()(x) is x
        assert nn.Dropout(1.0)(x).sum().item() == 0.0 and repr(layer) == "Dropout(p=0.25, inplace=False)"

    def test_inplace(self) -> None:
        x = fg.ones(100)
        y = nn.Dropout(0.5, inplace=True)(x)
        assert y.tolist() == x.tolist() and 0.0 in x.tolist()

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
    def test_errors(self, p: float) -> None:
        with pytest.raises(ValueError, match="between 0 and 1"):
            nn.Dropout(p)
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(fg.ones(1), p)


def test_flatten() -> None:
    assert nn.Flatten()(fg.ones(2, 3, 4)).shape == (2, 12)
    assert nn.Flatten(0, 1)(fg.ones(2, 3, 4)).shape == (6, 4)
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"


def test_identity() -> None:
    x = fg.ones(2)
    assert nn.Identity(54, unused=0)(x) is x


# module, formula, derivative; formulas with NumPy, in float64
X = np.array([-1000.0, -40.0, -3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 30.0, 1000.0])
ERF = np.vectorize(math.erf)


def sigmoid(x: Any) -> Any:
    return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


ACTIVATIONS = {
    "ReLU()": (nn.ReLU(), lambda x: np.maximum(x, 0), lambda x: x > 0),
    "LeakyReLU(negative_slope=0.1)": (
        nn.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.where(x > 0, 1, 0.1),
    ),
    "ELU(alpha=1.5)": (
        nn.ELU(1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))),
    ),
    "Hardtanh(min_val=-1.0, max_val=2.0)": (
        nn.Hardtanh(-1.0, 2.0), lambda x: np.clip(x, -1, 2), lambda x: (x > -1) & (x < 2),
    ),
    "SiLU()": (nn.SiLU(), lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "GELU(approximate='none')": (
        nn.GELU(), lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2))),
        lambda x: 0.5 * (1 + ERF(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "Softplus(beta=2.0, threshold=20.0)": (
        nn.Softplus(2.0), lambda x: np.where(2 * x > 20, x, np.logaddexp(0, 2 * x) / 2),
        lambda x: np.where(2 * x > 20, 1, sigmoid(2 * x)),
    ),
    "Tanh()": (nn.Tanh(), np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "Sigmoid()": (nn.Sigmoid(), sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
}  # fmt: skip


class TestActivations:
    @pytest.mark.parametrize("text", ACTIVATIONS)
    def test_value_and_derivative(self, text: str) -> None:
        module, formula, derivative = ACTIVATIONS[text]
        assert repr(module) == text
        x = double(X, requires_grad=True)
        y = module(x)
        y.sum().backward()
        np.testing.assert_allclose(y.detach().numpy(), formula(X), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(x.grad.numpy(), np.asarray(derivative(X), float), rtol=1e-9, atol=1e-15)
        assert math.isnan(module(double([math.nan])).item())
        assert module(fg.zeros(0, 3)).shape == (0, 3)

    def test_tanh_form_of_gelu(self) -> None:
        x = np.linspace(-3, 3, 13)
        expected = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        np.testing.assert_allclose(nn.GELU("tanh")(double(x)).numpy(), expected, rtol=1e-12)
        with pytest.raises(RuntimeError, match="none or tanh"):
            F.gelu(double(x), approximate="other")

    @pytest.mark.parametrize("module", [nn.ReLU(True), nn.SiLU(True), nn.ELU(inplace=True), nn.LeakyReLU(inplace=True)])
    def test_inplace(self, module: Any) -> None:
        x = double([-1.0, 2.0], requires_grad=True)
        y = x * 1
        out = module(y)
        assert out.data_ptr() == y.data_ptr() and "inplace=True" in repr(module)
        out.sum().backward()
        z = double([-1.0, 2.0], requires_grad=True)
        module.inplace = False
        module(z).sum().backward()
        module.inplace = True
        assert x.grad.tolist() == z.grad.tolist()

    def test_softmax(self) -> None:
        x = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]])
        shifted = np.exp(x - x.max(1, keepdims=True))
        expected = shifted / shifted.sum(1, keepdims=True)
        np.testing.assert_allclose(nn.Softmax(dim=1)(double(x)).numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(nn.LogSoftmax(dim=-1)(double(x)).exp().numpy(), expected, rtol=1e-12)
        with pytest.warns(UserWarning, match="dim should be given; 1"):
            assert nn.Softmax()(double(x)).shape == (2, 3)
        assert repr(nn.Softmax(dim=1)) == "Softmax(dim=1)"

    def test_limits(self) -> None:
        with pytest.raises(AssertionError, match="larger"):
            nn.Hardtanh(1.0, 1.0)
        with pytest.raises(ValueError, match="not exceed"):
            F.hardtanh(fg.ones(1), 1.0, 0.0)

    @pytest.mark.parametrize("module", [nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Hardtanh(), nn.LeakyReLU()])
    def test_second_derivative(self, module: Any) -> None:
        x = double([-0.7, 0.3, 1.7], requires_grad=True)
        assert fg.autograd.gradgradcheck(module, (x,))


class TestOneHot:
    def test_value(self) -> None:
        assert F.one_hot(fg.tensor([[1], [0]]), 3).tolist() == [[[0, 1, 0]], [[1, 0, 0]]]
        assert F.one_hot(fg.tensor([2])).tolist() == [[0, 0, 1]]
        assert F.one_hot(fg.zeros(0, dtype=fg.int64), 2).shape == (0, 2)

    @pytest.mark.parametrize(
        ("index", "classes"), [([3], 3), ([-1], -1), ([-1], 3), ([], -1), ([1.0], 3)]
    )  # fmt: skip
    def test_errors(self, index: list, classes: int) -> None:
        tensor = fg.tensor(index, dtype=fg.float32 if 1.0 in index and isinstance(index[0], float) else fg.int64)
        with pytest.raises(RuntimeError, match="one_hot"):
            F.one_hot(tensor, classes)
