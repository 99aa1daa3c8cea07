"""RNNCell and RNN: against a NumPy loop and, for gradients, against the loop over cells; errors; initial values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn

FUNCTIONS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


def randn(*shape: int) -> Any:
    return fg.randn(*shape, dtype=fg.float64)


def numpy_rnn(rnn: nn.RNN, x_tbi: Any, h_0: Any) -> tuple[Any, Any]:
    """The definition, step by step, without dropout."""
    function, directions = FUNCTIONS[rnn.nonlinearity], 2 if rnn.bidirectional else 1
    last = []
    for layer in range(rnn.num_layers):
        outputs = []
        for direction in range(directions):
            names = [
                f"{name}_l{layer}{'_reverse' if direction else ''}"
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            w_ih, w_hh, b_ih, b_hh = (
                getattr(rnn, name).detach().numpy() if hasattr(rnn, name) else 0.0 for name in names
            )  # fmt: skip
            h = h_0[layer * directions + direction]
            states = [None] * len(x_tbi)
            for t in range(len(x_tbi))[:: -1 if direction else 1]:
                h = function(x_tbi[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
                states[t] = h
            outputs.append(np.stack(states))
            last.append(h)
        x_tbi = np.concatenate(outputs, -1)
    return x_tbi, np.stack(last)


class TestRNN:
    @given(
        st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 3),
        st.sampled_from(["tanh", "relu"]), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    )  # fmt: skip
    def test_value(
        self, steps: int, batch: int, inputs: int, hidden: int, layers: int, nonlinearity: str, bias: bool,
        batch_first: bool, bidirectional: bool, with_state: bool,
    ) -> None:  # fmt: skip
        rnn = nn.RNN(inputs, hidden, layers, nonlinearity, bias, batch_first, 0.0, bidirectional, dtype=fg.float64)
        states = layers * (2 if bidirectional else 1)
        x, h_0 = randn(steps, batch, inputs), randn(states, batch, hidden)
        expected = numpy_rnn(rnn, x.numpy(), h_0.numpy() if with_state else np.zeros((states, batch, hidden)))
        output, h_n = rnn(x.transpose(0, 1) if batch_first else x, *([h_0] if with_state else []))
        output = output.transpose(0, 1) if batch_first else output
        np.testing.assert_allclose(output.detach().numpy(), expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(h_n.detach().numpy(), expected[1], rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    @pytest.mark.parametrize("steps", [1, 4])
    def test_gradients_equal_those_of_the_loop(self, nonlinearity: str, steps: int) -> None:
        rnn = nn.RNN(3, 4, nonlinearity=nonlinearity, dtype=fg.float64)
        cell = nn.RNNCell(3, 4, nonlinearity=nonlinearity, dtype=fg.float64)
        cell.load_state_dict({name.removesuffix("_l0"): value for name, value in rnn.state_dict().items()})
        x, h_0 = randn(steps, 2, 3).requires_grad_(), randn(1, 2, 4).requires_grad_()
        weight_y, weight_h = randn(steps, 2, 4), randn(1, 2, 4)

        def gradients(output: Any, h_n: Any, module: nn.Module) -> list[Any]:
            loss = (output * weight_y).sum() + (h_n * weight_h).sum()
            return [output, h_n, *fg.autograd.grad(loss, [x, h_0, *module.parameters()])]

        h, states = h_0[0], []
        for x_bi in x.unbind(0):
            h = cell(x_bi, h)
            states.append(h)
        looped = gradients(fg.stack(states), h.unsqueeze(0), cell)
        fused = gradients(*rnn(x, h_0), rnn)
        for a, b in zip(fused, looped, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)

    def test_derivatives(self) -> None:
        rnn = nn.RNN(2, 3, 2, bidirectional=True, dtype=fg.float64)
        x, h_0 = randn(3, 2, 2).requires_grad_(), randn(4, 2, 3).requires_grad_()
        assert fg.autograd.gradcheck(rnn, (x, h_0))
        assert fg.autograd.gradgradcheck(nn.RNN(2, 2, dtype=fg.float64), (randn(2, 1, 2).requires_grad_(),))

    def test_one_sequence_without_a_batch(self) -> None:
        for batch_first in (False, True):
            rnn = nn.RNN(2, 3, 2, batch_first=batch_first, dtype=fg.float64)
            x, h_0 = randn(5, 2), randn(2, 3)
            output, h_n = rnn(x, h_0)
            expected = numpy_rnn(rnn, x.numpy()[:, None], h_0.numpy()[:, None])
            assert output.shape == (5, 3) and h_n.shape == (2, 3)
            np.testing.assert_allclose(output.detach().numpy(), expected[0][:, 0], rtol=1e-10)
            np.testing.assert_allclose(h_n.detach().numpy(), expected[1][:, 0], rtol=1e-10)

    def test_dropout_acts_between_layers_while_training(self) -> None:
        rnn = nn.RNN(2, 64, 2, dropout=0.5)
        x = fg.randn(3, 1, 2)
        first, second = rnn(x), rnn(x)
        assert first[0].tolist() != second[0].tolist()
        assert first[1][0].tolist() == second[1][0].tolist()  # the first layer's state is before the dropout
        rnn.eval()
        assert rnn(x)[0].tolist() == rnn(x)[0].tolist()
        with pytest.warns(UserWarning, match="between layers only"):
            nn.RNN(2, 3, dropout=0.5)

    def test_names_and_initial_values(self) -> None:
        rnn = nn.RNN(5, 16, 2, bidirectional=True)
        assert list(rnn.state_dict()) == [
            f"{name}_l{layer}{suffix}"
            for layer in (0, 1)
            for suffix in ("", "_reverse")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        assert rnn.weight_ih_l1.shape == (16, 32) and rnn.weight_hh_l0.shape == (16, 16)
        assert all(parameter.abs().max().item() <= 0.25 for parameter in rnn.parameters())
        assert [len(weights) for weights in rnn.all_weights] == [4] * 4
        assert list(nn.RNN(2, 3, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
        assert repr(nn.RNN(2, 3, 2, batch_first=True)) == "RNN(2, 3, num_layers=2, batch_first=True)"

    def test_a_replaced_weight_is_used(self) -> None:
        rnn = nn.RNN(2, 3)
        rnn.weight_ih_l0 = nn.Parameter(fg.zeros(3, 2))
        x = fg.randn(1, 1, 2)
        assert rnn(x)[0].tolist() == rnn(x * 0)[0].tolist()

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"nonlinearity": "gelu"}, ValueError, "nonlinearity must be"),
            ({"dropout": 1.5}, ValueError, r"in \[0, 1\]"),
            ({"bias": 1}, TypeError, "bias must be a bool"),
            ({"hidden_size": 0}, ValueError, "greater than zero"),
            ({"hidden_size": 3.0}, TypeError, "must be an int"),
            ({"num_layers": 0}, ValueError, "greater than zero"),
        ],
    )
    def test_construction_errors(self, arguments: dict, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            nn.RNN(**{"input_size": 2, "hidden_size": 3, **arguments})

    @pytest.mark.parametrize(
        ("x", "h_0", "error", "text"),
        [
            (fg.ones(2), None, ValueError, "2-d or 3-d; got 1-d"),
            (fg.ones(4, 1, 5), None, RuntimeError, "got 5, expected 2"),
            (fg.ones(0, 1, 2), None, RuntimeError, "at least one step"),
            (fg.ones(4, 1, 2, dtype=fg.float64), None, ValueError, "weights' dtype"),
            (fg.ones(4, 1, 2), fg.ones(1, 3), RuntimeError, "hx must be 3-d"),
            (fg.ones(4, 2), fg.ones(1, 1, 3), RuntimeError, "hx must be 2-d"),
            (fg.ones(4, 1, 2), fg.ones(1, 2, 3), RuntimeError, r"shape \(1, 1, 3\); got \(1, 2, 3\)"),
        ],
    )
    def test_input_errors(self, x: Any, h_0: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            nn.RNN(2, 3)(x, h_0)


class TestRNNCell:
    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_value_and_gradient(self, nonlinearity: str, bias: bool) -> None:
        cell = nn.RNNCell(2, 3, bias, nonlinearity, dtype=fg.float64)
        x, h = randn(4, 2).requires_grad_(), randn(4, 3).requires_grad_()
        summed = (
            x.detach().numpy() @ cell.weight_ih.detach().numpy().T
            + h.detach().numpy() @ cell.weight_hh.detach().numpy().T
        )
        if bias:
            summed = summed + cell.bias_ih.detach().numpy() + cell.bias_hh.detach().numpy()
        np.testing.assert_allclose(cell(x, h).detach().numpy(), FUNCTIONS[nonlinearity](summed), rtol=1e-12)
        assert fg.autograd.gradcheck(cell, (x, h))

    def test_without_batch_or_state(self) -> None:
        cell = nn.RNNCell(2, 3)
        x, h = fg.randn(2), fg.randn(3)
        np.testing.assert_allclose(cell(x, h).tolist(), cell(x.unsqueeze(0), h.unsqueeze(0))[0].tolist(), rtol=1e-6)
        np.testing.assert_allclose(cell(x).tolist(), cell(x, fg.zeros(3)).tolist(), rtol=1e-6)
        assert cell(fg.randn(0, 2)).shape == (0, 3)

    def test_parameters(self) -> None:
        cell = nn.RNNCell(2, 16, nonlinearity="relu")
        assert list(cell.state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        assert max(p.abs().max().item() for p in cell.parameters()) <= 1 / math.sqrt(16)
        assert repr(cell) == "RNNCell(2, 16, nonlinearity=relu)"
        assert nn.RNNCell(2, 3, bias=False).bias_ih is None

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="input must be 1-d or 2-d; got 3-d"):
            nn.RNNCell(2, 3)(fg.ones(1, 1, 2))
        with pytest.raises(ValueError, match="hidden must be 1-d or 2-d"):
            nn.RNNCell(2, 3)(fg.ones(1, 2), fg.ones(1, 1, 3))
        with pytest.raises(RuntimeError, match="hidden must be 2-d"):
            nn.RNNCell(2, 3)(fg.ones(1, 2), fg.ones(3))
        with pytest.raises(RuntimeError):
            nn.RNNCell(2, 3)(fg.ones(1, 4), fg.ones(1, 3))
        with pytest.raises(RuntimeError):
            nn.RNNCell(2, 3)(fg.ones(2, 2), fg.ones(1, 3))
