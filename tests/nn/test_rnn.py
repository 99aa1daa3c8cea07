"""RNN, LSTM, GRU and their cells: numbers by hand, NumPy step by step, derivatives, parameters."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numeric
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn
from fastgrad.autograd import gradcheck, gradgradcheck
from fastgrad.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

MODULES = ["RNN_TANH", "RNN_RELU", "LSTM", "GRU"]
NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]


def randn(*shape: int) -> Any:
    return fg.randn(*shape, dtype=fg.float64)


def make(mode: str, *sizes: int, dtype: Any = fg.float64, **options: Any) -> Any:
    name, _, nonlinearity = mode.partition("_")
    if nonlinearity:
        options["nonlinearity"] = nonlinearity.lower()
    return getattr(nn, name)(*sizes, dtype=dtype, **options)


def make_cell(mode: str, *sizes: int, **options: Any) -> Any:
    name, _, nonlinearity = mode.partition("_")
    if nonlinearity:
        options["nonlinearity"] = nonlinearity.lower()
    return getattr(nn, name + "Cell")(*sizes, dtype=fg.float64, **options)


def states_for(module: Any, *batch: int) -> Any:
    """Random initial states in the form that the module takes."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    h = randn(count, *batch, module.proj_size or module.hidden_size)
    return (h, randn(count, *batch, module.hidden_size)) if module.mode == "LSTM" else h


def listed(states: Any) -> list[Any]:
    return list(states) if isinstance(states, tuple) else [states]


# The definitions, one step at a time


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def numpy_step(mode: str, x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, w_hr: Any) -> Any:
    z_x, z_h = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if mode == "RNN_TANH":
        return np.tanh(z_x + z_h), None
    if mode == "RNN_RELU":
        return np.maximum(z_x + z_h, 0), None
    if mode == "GRU":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(z_x, 3, -1), np.split(z_h, 3, -1)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        return (1 - z) * np.tanh(n_x + r * n_h) + z * h, None
    i, f, g, o = np.split(z_x + z_h, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h if w_hr is None else h @ w_hr.T), c


def numpy_sequence(module: Any, x: Any, h_0: Any, c_0: Any) -> tuple[Any, Any, Any]:
    """All layers over one sequence (T, I), without dropout; h_0 and c_0 (num_layers * directions, size)."""
    h_n, c_n = [], []
    directions = 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"_l{layer}{'_reverse' if direction else ''}"
            weights = [getattr(module, name + suffix, None) for name in NAMES]
            w_ih, w_hh, b_ih, b_hh, w_hr = (None if w is None else w.detach().numpy() for w in weights)
            number = layer * directions + direction
            h, c = h_0[number], None if c_0 is None else c_0[number]
            steps: list[Any] = [None] * len(x)
            for t in range(len(x))[:: -1 if direction else 1]:
                h, c = numpy_step(
                    module.mode, x[t], h, c, w_ih, w_hh, 0 if b_ih is None else b_ih, 0 if b_hh is None else b_hh, w_hr
                )
                steps[t] = h
            outputs.append(np.stack(steps))
            h_n.append(h)
            c_n.append(c)
        x = np.concatenate(outputs, -1)
    return x, np.stack(h_n), None if c_0 is None else np.stack(c_n)


def check_against_numpy(module: Any, sequences: list[Any], hx: Any, outputs: list[Any], last: Any) -> None:
    """Each sequence (T, I) on its own; states (num_layers * directions, B, size)."""
    given = [None, None] if hx is None else [*(s.numpy() for s in listed(hx)), None][:2]
    for b, (x, output) in enumerate(zip(sequences, outputs, strict=True)):
        count = module.num_layers * (2 if module.bidirectional else 1)
        h_0 = np.zeros((count, module.proj_size or module.hidden_size)) if hx is None else given[0][:, b]
        c_0 = None
        if module.mode == "LSTM":
            c_0 = np.zeros((count, module.hidden_size)) if hx is None else given[1][:, b]
        expected = numpy_sequence(module, x.numpy(), h_0, c_0)
        np.testing.assert_allclose(output.detach().numpy(), expected[0], rtol=1e-10, atol=1e-12)
        for state, wanted in zip(listed(last), expected[1:], strict=False):
            np.testing.assert_allclose(state.detach().numpy()[:, b], wanted, rtol=1e-10, atol=1e-12)


options = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
    }
)


class TestValues:
    def test_lstm_by_hand(self) -> None:
        """One unit without weights: the biases give i = 3/4, f = 1/4, g = 1/2, o = 1/2 (atanh 1/2 = log(3)/2)."""
        lstm = nn.LSTM(1, 1, dtype=fg.float64)
        for parameter in lstm.parameters():
            nn.init.zeros_(parameter)
        lstm.bias_ih_l0.data.copy_(fg.tensor([math.log(3), 0, math.log(3) / 2, 0]))
        lstm.bias_hh_l0.data.copy_(fg.tensor([0, -math.log(3), 0, 0]))
        start = fg.tensor([[2.0]], dtype=fg.float64)
        output, (h_n, c_n) = lstm(fg.zeros(1, 1, dtype=fg.float64), (start * 5, start))
        assert c_n.item() == pytest.approx(2 / 4 + 3 / 8, rel=1e-6)
        assert output.item() == h_n.item() == pytest.approx(math.tanh(7 / 8) / 2, rel=1e-6)

    def test_gru_by_hand(self) -> None:
        """r = 3/4, z = 1/4, n = tanh(r * atanh(0.6) / r) = 0.6; the state 2 becomes 3/4 * 0.6 + 1/4 * 2."""
        gru = nn.GRU(1, 1, dtype=fg.float64)
        for parameter in gru.parameters():
            nn.init.zeros_(parameter)
        gru.bias_ih_l0.data.copy_(fg.tensor([math.log(3), 0, 0]))
        gru.bias_hh_l0.data.copy_(fg.tensor([0, -math.log(3), math.atanh(0.6) / 0.75], dtype=fg.float64))
        output, h_n = gru(fg.zeros(1, 1, dtype=fg.float64), fg.full((1, 1), 2.0, dtype=fg.float64))
        assert output.item() == h_n.item() == pytest.approx(0.95, rel=1e-6)

    def test_bidirectional_by_hand(self) -> None:
        """Sums from the left and from the right, each with its own start."""
        rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=True)
        for parameter in rnn.parameters():
            nn.init.ones_(parameter)
        output, h_n = rnn(fg.tensor([[1.0], [2.0], [4.0]]), fg.tensor([[10.0], [20.0]]))
        assert output.tolist() == [[11, 27], [13, 26], [17, 24]]
        assert h_n.tolist() == [[17], [27]]

    def test_projection_by_hand(self) -> None:
        """The output and the recurrent state are projected, the cell is not."""
        lstm = nn.LSTM(1, 2, bias=False, proj_size=1)
        for parameter in lstm.parameters():
            nn.init.zeros_(parameter)
        lstm.weight_hr_l0.data.copy_(fg.tensor([[3.0, -1.0]]))
        output, (h_n, c_n) = lstm(fg.ones(1, 1), (fg.ones(1, 1), fg.tensor([[2.0, 4.0]])))
        assert c_n.tolist() == [[1, 2]]
        assert output.item() == h_n.item() == pytest.approx(1.5 * math.tanh(1) - 0.5 * math.tanh(2), rel=1e-6)

    @given(
        st.sampled_from(MODULES), options, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.integers(2, 5),
        st.booleans(), st.booleans(),
    )  # fmt: skip
    def test_against_numpy(
        self, mode: str, choice: dict, steps: int, batch: int, inputs: int, hidden: int, with_state: bool,
        projected: bool,
    ) -> None:  # fmt: skip
        if projected and mode == "LSTM":
            choice = {**choice, "proj_size": hidden - 1}
        module = make(mode, inputs, hidden, **choice)
        x, hx = randn(steps, batch, inputs), states_for(module, batch) if with_state else None
        output, last = module(x.transpose(0, 1) if module.batch_first else x, hx)
        output = output.transpose(0, 1) if module.batch_first else output
        assert output.shape[:2] == (steps, batch) and all(state.shape[1] == batch for state in listed(last))
        check_against_numpy(module, list(x.unbind(1)), hx, list(output.unbind(1)), last)

    @given(
        st.sampled_from(MODULES), options, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(),
        st.booleans(),
    )  # fmt: skip
    def test_packed_against_numpy(
        self, mode: str, choice: dict, lengths: list[int], in_order: bool, with_state: bool
    ) -> None:
        """Each sequence of a packed batch, in either order, gives what it gives alone."""
        if mode == "LSTM" and with_state:
            choice = {**choice, "proj_size": 2}
        module = make(mode, 2, 3, **choice)
        lengths = sorted(lengths, reverse=True) if in_order else lengths
        sequences = [randn(length, 2) for length in lengths]
        hx = states_for(module, len(lengths)) if with_state else None
        output, last = module(pack_sequence(sequences, enforce_sorted=in_order), hx)
        assert isinstance(output, PackedSequence)
        check_against_numpy(module, sequences, hx, nn.utils.rnn.unpack_sequence(output), last)

    @pytest.mark.parametrize("mode", MODULES)
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_one_sequence_without_a_batch(self, mode: str, batch_first: bool) -> None:
        module = make(mode, 2, 3, num_layers=2, bidirectional=True, batch_first=batch_first)
        x, hx = randn(5, 2), states_for(module)
        output, last = module(x, hx)
        assert output.shape == (5, 6) and all(state.shape == (4, 3) for state in listed(last))
        with_batch = [state.unsqueeze(1) for state in listed(hx)]
        check_against_numpy(
            module, [x], tuple(with_batch) if mode == "LSTM" else with_batch[0], [output],
            tuple(state.unsqueeze(1) for state in listed(last)),
        )  # fmt: skip

    @pytest.mark.parametrize("mode", MODULES)
    def test_one_step_at_a_time(self, mode: str) -> None:
        module, x = make(mode, 3, 4, num_layers=2), randn(6, 1, 3)
        whole, last = module(x)
        state, outputs = None, []
        with fg.no_grad():
            for x_t in x.split(1):
                output, state = module(x_t, state)
                outputs.append(output)
        np.testing.assert_allclose(fg.cat(outputs).numpy(), whole.detach().numpy(), rtol=1e-12)
        for a, b in zip(listed(state), listed(last), strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12)

    @pytest.mark.parametrize("mode", MODULES)
    def test_states_in_a_list_and_inputs_that_are_views(self, mode: str) -> None:
        module = make(mode, 2, 3)
        x, hx = randn(2, 4, 3).permute(2, 1, 0), states_for(module, 4)
        strided = [state.transpose(1, 2).contiguous().transpose(1, 2) for state in listed(hx)]
        expected = module(x.contiguous(), hx)[0].tolist()
        assert module(x, strided if mode == "LSTM" else strided[0])[0].tolist() == expected

    @pytest.mark.parametrize("mode", MODULES)
    def test_an_empty_batch(self, mode: str) -> None:
        module = make(mode, 2, 3, num_layers=2, bidirectional=True)
        output, last = module(fg.zeros(4, 0, 2, dtype=fg.float64), states_for(module, 0))
        assert output.shape == (4, 0, 6) and all(state.shape == (4, 0, 3) for state in listed(last))
        output.sum().backward()
        assert all(not parameter.grad.any() for parameter in module.parameters())

    @pytest.mark.parametrize("mode", MODULES)
    def test_float32(self, mode: str) -> None:
        module = make(mode, 3, 5, num_layers=2, dtype=fg.float32)
        x = fg.randn(7, 2, 3)
        assert module(x)[0].dtype is fg.float32
        expected = copy.deepcopy(module).double()(x.double())[0]
        np.testing.assert_allclose(module(x)[0].detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-6)

    def test_dropout_acts_between_layers_while_training(self) -> None:
        for module in (nn.RNN(2, 64, 2, dropout=0.5), nn.GRU(2, 64, 2, dropout=0.5), nn.LSTM(2, 64, 2, dropout=0.5)):
            for x in (fg.randn(3, 1, 2), pack_sequence([fg.randn(3, 2), fg.randn(2, 2)])):
                (first, states), (second, again) = module.train()(x), module(x)
                data = [y.data if isinstance(y, PackedSequence) else y for y in (first, second)]
                assert data[0].tolist() != data[1].tolist()
                # The first layer's state is before the dropout.
                assert listed(states)[0][0].tolist() == listed(again)[0][0].tolist()
                module.eval()
                results = [module(x)[0] for _ in range(2)]
                data = [y.data if isinstance(y, PackedSequence) else y for y in results]
                assert data[0].tolist() == data[1].tolist()

    def test_everything_dropped(self) -> None:
        """Behind dropout=1 the second layer sees zeros."""
        rnn = nn.RNN(2, 3, 2, dropout=1.0)
        assert rnn(fg.randn(4, 1, 2))[0].tolist() == rnn(fg.randn(4, 1, 2))[0].tolist()


class TestDerivatives:
    @pytest.mark.parametrize("mode", ["RNN_TANH", "LSTM", "GRU"])
    @pytest.mark.parametrize(
        ("shape", "hidden", "options"),
        [
            ((3, 2, 2), 2, {}),
            ((1, 2, 2), 2, {"bidirectional": True}),
            ((2, 1, 1), 1, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
            ((3, 2), 3, {"bias": False}),
        ],
    )
    def test_first_and_second(self, mode: str, shape: tuple, hidden: int, options: dict) -> None:
        """By the input, states that differ and are not zero, and all parameters."""
        module = make(mode, shape[-1], hidden, **options)
        batch = () if len(shape) == 2 else (shape[0 if module.batch_first else 1],)
        hx = [state.requires_grad_() for state in listed(states_for(module, *batch))]
        inputs = (randn(*shape).requires_grad_(), *hx, *module.parameters())

        def function(x: Any, *rest: Any) -> tuple:
            states = rest[: len(hx)]
            output, last = module(x, tuple(states) if mode == "LSTM" else states[0])
            return (output, *listed(last))

        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)

    @given(
        st.sampled_from(["RNN_TANH", "LSTM", "GRU"]), options, st.lists(st.integers(1, 3), min_size=1, max_size=3),
        st.booleans(), st.integers(0, 2**16),
    )  # fmt: skip
    def test_all_options(self, mode: str, choice: dict, lengths: list[int], packed: bool, seed: int) -> None:
        """First and second derivatives along random directions, with projections, layers and unequal lengths."""
        projected = {"proj_size": 2} if mode == "LSTM" and seed % 2 else {}
        module = make(mode, 2, 3, **choice, **projected)
        names = list(module.state_dict())
        states = listed(states_for(module, len(lengths)))
        shape = (len(lengths), max(lengths)) if module.batch_first else (max(lengths), len(lengths))
        arrays = [t.detach().numpy().copy() for t in (randn(*shape, 2), *states, *module.parameters())]
        for name in names:
            delattr(module, name)

        def function(x: Any, *rest: Any) -> tuple:
            for name, weight in zip(names, rest[len(states) :], strict=True):
                setattr(module, name, weight)
            hx = rest[: len(states)]
            x = pack_padded_sequence(x, lengths, module.batch_first, False) if packed else x
            output, last = module(x, tuple(hx) if mode == "LSTM" else hx[0])
            return (output.data if packed else output, *listed(last))

        numeric.check_first(function, arrays, range(len(arrays)), seed)
        numeric.check_second(function, arrays, range(len(arrays)), seed)

    def test_projection_and_unequal_lengths(self) -> None:
        module = nn.LSTM(1, 3, proj_size=2, bidirectional=True, dtype=fg.float64)
        hx = [state.requires_grad_() for state in states_for(module, 2)]
        inputs = (randn(2, 2, 1).requires_grad_(), *hx, *module.parameters())

        def function(x: Any, h: Any, c: Any, *parameters: Any) -> tuple:
            output, last = module(pack_padded_sequence(x, [1, 2], enforce_sorted=False), (h, c))
            return pad_packed_sequence(output)[0], *last

        assert gradcheck(function, inputs)

    @pytest.mark.parametrize("mode", MODULES)
    @pytest.mark.parametrize("steps", [1, 4])
    def test_gradients_equal_those_of_the_loop_over_the_cell(self, mode: str, steps: int) -> None:
        module, cell = make(mode, 3, 4), make_cell(mode, 3, 4)
        cell.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})
        x, hx = randn(steps, 2, 3).requires_grad_(), [s.requires_grad_() for s in listed(states_for(module, 2))]
        weights = [randn(steps, 2, 4), *(randn(1, 2, 4) for _ in hx)]

        def gradients(results: list[Any], parameters: Any) -> list[Any]:
            loss = sum((result * weight).sum() for result, weight in zip(results, weights, strict=True))
            return [*results, *fg.autograd.grad(loss, [x, *hx, *parameters])]

        state, outputs = tuple(s[0] for s in hx) if mode == "LSTM" else hx[0][0], []
        for x_t in x.unbind(0):
            state = cell(x_t, state)
            outputs.append(listed(state)[0])
        looped = gradients([fg.stack(outputs), *(s.unsqueeze(0) for s in listed(state))], cell.parameters())
        output, last = module(x, tuple(hx) if mode == "LSTM" else hx[0])
        fused = gradients([output, *listed(last)], module.parameters())
        for a, b in zip(fused, looped, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("mode", MODULES)
    def test_packed_gradients_equal_those_of_each_sequence_alone(self, mode: str) -> None:
        module = make(mode, 2, 3, num_layers=2, bidirectional=True)
        lengths = [2, 4, 1, 4]
        sequences = [randn(length, 2).requires_grad_() for length in lengths]
        hx = [state.requires_grad_() for state in listed(states_for(module, 4))]
        weights = [[randn(length, 6) for length in lengths], *(randn(4, 4, 3) for _ in hx)]
        leaves = [*sequences, *hx, *module.parameters()]

        output, last = module(pack_sequence(sequences, False), tuple(hx) if mode == "LSTM" else hx[0])
        parts = nn.utils.rnn.unpack_sequence(output)
        loss = sum((y * w).sum() for y, w in zip(parts, weights[0], strict=True))
        loss = loss + sum((s * w).sum() for s, w in zip(listed(last), weights[1:], strict=True))
        together = fg.autograd.grad(loss, leaves)

        loss = fg.zeros((), dtype=fg.float64)
        for b, sequence in enumerate(sequences):
            states = [state[:, b] for state in hx]
            output, last = module(sequence, tuple(states) if mode == "LSTM" else states[0])
            loss = loss + (output * weights[0][b]).sum()
            loss = loss + sum((s * w[:, b]).sum() for s, w in zip(listed(last), weights[1:], strict=True))
        for a, b in zip(together, fg.autograd.grad(loss, leaves), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


class TestParameters:
    @pytest.mark.parametrize("mode", MODULES)
    def test_names_and_initial_values(self, mode: str) -> None:
        module = make(mode, 5, 16, num_layers=2, bidirectional=True)
        gates = {"LSTM": 4, "GRU": 3}.get(mode, 1)
        names = [
            f"{name}_l{layer}{suffix}" for layer in (0, 1) for suffix in ("", "_reverse") for name in NAMES[:4]
        ]  # fmt: skip
        assert list(module.state_dict()) == names == module._flat_weights_names
        assert module.weight_ih_l1.shape == (16 * gates, 32) and module.weight_hh_l0.shape == (16 * gates, 16)
        assert 0.2 < max(parameter.abs().max().item() for parameter in module.parameters()) <= 0.25
        assert [[id(w) for w in weights] for weights in module.all_weights] == [
            [id(getattr(module, name)) for name in names[first : first + 4]] for first in (0, 4, 8, 12)
        ]
        assert [id(weight) for weight in module._flat_weights] == [id(p) for p in module.parameters()]
        assert list(make(mode, 2, 3, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]

    def test_projection_names(self) -> None:
        lstm = nn.LSTM(5, 16, 2, proj_size=3, bidirectional=True)
        assert list(lstm.state_dict())[:5] == [name + "_l0" for name in NAMES]
        assert lstm.weight_hr_l0.shape == (3, 16) and lstm.weight_hh_l0.shape == (64, 3)
        assert lstm.weight_ih_l1.shape == (64, 6)
        assert list(nn.LSTM(2, 3, bias=False, proj_size=1).state_dict()) == [
            "weight_ih_l0", "weight_hh_l0", "weight_hr_l0",
        ]  # fmt: skip

    def test_attributes_and_repr(self) -> None:
        lstm = nn.LSTM(2, 3, 2, False, True, 0.5, True, 1)
        assert repr(lstm) == (
            "LSTM(2, 3, proj_size=1, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)"
        )
        assert [getattr(lstm, name) for name in ("mode", "input_size", "hidden_size", "num_layers", "proj_size")] == [
            "LSTM", 2, 3, 2, 1,
        ]  # fmt: skip
        assert repr(nn.RNN(2, 3, 2, "relu", batch_first=True)) == "RNN(2, 3, num_layers=2, batch_first=True)"
        assert (nn.RNN(2, 3, 1, "relu").mode, nn.RNN(2, 3).nonlinearity) == ("RNN_RELU", "tanh")
        assert repr(nn.GRU(2, 3)) == "GRU(2, 3)" and nn.GRU(2, 3).mode == "GRU"
        assert nn.GRU(2, 3).flatten_parameters() is None

    @pytest.mark.parametrize("mode", MODULES)
    @pytest.mark.parametrize("layers", [1, 2])
    def test_replaced_weights_are_used(self, mode: str, layers: int) -> None:
        """By assignment, by register_parameter, through _parameters, by load_state_dict, by a tensor of their own."""
        module, other = (make(mode, 2, 3, num_layers=layers) for _ in range(2))
        x = randn(4, 1, 2)
        expected = other(x)[0].tolist()
        assert module(x)[0].tolist() != expected
        ways = [
            lambda name, value: setattr(module, name, nn.Parameter(value)),
            lambda name, value: module.register_parameter(name, nn.Parameter(value)),
            lambda name, value: module._parameters.__setitem__(name, nn.Parameter(value)),
        ]
        for k, (name, value) in enumerate(other.state_dict().items()):
            ways[k % 3](name, value)
        assert module(x)[0].tolist() == expected
        for assign in (False, True):
            module = make(mode, 2, 3, num_layers=layers)
            module.load_state_dict(other.state_dict(), assign=assign)
            assert module(x)[0].tolist() == expected
        weight = module.weight_hh_l0
        del module.weight_hh_l0
        scale = fg.ones((), dtype=fg.float64, requires_grad=True)
        module.weight_hh_l0 = weight.detach() * scale
        output = module(x)[0]
        assert output.tolist() == expected
        output.sum().backward()
        assert scale.grad.item() != 0

    def test_a_weight_that_is_computed(self) -> None:
        class Orthogonal(nn.RNN):
            @property
            def weight_hh_l0(self) -> Any:
                return self.angle.cos() * fg.eye(2) + self.angle.sin() * fg.tensor([[0.0, -1.0], [1.0, 0.0]])

            @weight_hh_l0.setter
            def weight_hh_l0(self, value: Any) -> None:
                self.angle = nn.Parameter(fg.zeros(()))

        rnn = Orthogonal(1, 2)
        outputs = []
        for angle in (0.0, 1.0):
            nn.init.constant_(rnn.angle, angle)
            outputs.append(rnn(fg.ones(3, 1, 1))[0])
        assert outputs[0].tolist() != outputs[1].tolist()
        outputs[1].sum().backward()
        assert rnn.angle.grad.item() != 0

    @pytest.mark.parametrize("mode", MODULES)
    def test_copies_are_independent(self, mode: str) -> None:
        module = make(mode, 2, 3, num_layers=2, bidirectional=True)
        x = randn(4, 1, 2)
        expected = module(x)[0].tolist()
        copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.copy(module)]
        assert [made(x)[0].tolist() for made in copies] == [expected] * 3
        for parameter in copies[0].parameters():
            nn.init.zeros_(parameter)
        assert module(x)[0].tolist() == expected and not copies[0](x)[0].any()
        assert module.float()(x.float())[0].dtype is fg.float32

    @pytest.mark.parametrize("mode", MODULES)
    def test_the_options_may_change(self, mode: str) -> None:
        module = make(mode, 2, 3)
        x = randn(4, 5, 2)
        expected = module(x.transpose(0, 1))[0].transpose(0, 1).tolist()
        module.batch_first = True
        assert module(x)[0].tolist() == expected


class TestCells:
    @pytest.mark.parametrize("mode", MODULES)
    @pytest.mark.parametrize("bias", [True, False])
    def test_value_and_derivatives(self, mode: str, bias: bool) -> None:
        cell = make_cell(mode, 2, 3, bias=bias)
        weights = [getattr(cell, name) for name in NAMES[:4]]
        x, hx = randn(4, 2).requires_grad_(), [randn(4, 3).requires_grad_() for _ in range(1 + (mode == "LSTM"))]
        arrays = [0 if w is None else w.detach().numpy() for w in weights]
        states = [*(s.detach().numpy() for s in hx), None][:2]
        expected = numpy_step(mode, x.detach().numpy(), *states, *arrays, None)
        result = cell(x, tuple(hx) if mode == "LSTM" else hx[0])
        assert isinstance(result, tuple) == (mode == "LSTM")
        for a, b in zip(listed(result), expected, strict=False):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-12)

        def function(x: Any, *rest: Any) -> Any:
            return cell(x, tuple(rest[:2]) if mode == "LSTM" else rest[0])

        assert gradcheck(function, (x, *hx, *cell.parameters()))
        if bias and mode != "RNN_RELU":
            small = (randn(1, 2).requires_grad_(), *(s[:1].detach().requires_grad_() for s in hx))
            assert gradgradcheck(function, (*small, *cell.parameters()))

    @pytest.mark.parametrize("mode", MODULES)
    def test_without_batch_or_state(self, mode: str) -> None:
        cell = make_cell(mode, 2, 3)
        count = 1 + (mode == "LSTM")
        x, hx = randn(2), [randn(3) for _ in range(count)]
        form = tuple if mode == "LSTM" else lambda states: states[0]
        alone = cell(x, form(hx))
        in_batch = cell(x.unsqueeze(0), form([s.unsqueeze(0) for s in hx]))
        for a, b in zip(listed(alone), listed(in_batch), strict=True):
            assert a.shape == (3,) and a.tolist() == b[0].tolist()
        assert listed(cell(x))[0].tolist() == listed(cell(x, form([fg.zeros(3, dtype=fg.float64)] * count)))[0].tolist()
        assert listed(cell(randn(0, 2)))[0].shape == (0, 3)
        if mode == "LSTM":
            assert cell(x, hx)[0].tolist() == alone[0].tolist()

    @pytest.mark.parametrize(("name", "gates"), [("RNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3)])
    def test_parameters(self, name: str, gates: int) -> None:
        cell = getattr(nn, name)(2, 16)
        assert list(cell.state_dict()) == NAMES[:4]
        assert cell.weight_ih.shape == (16 * gates, 2) and cell.weight_hh.shape == (16 * gates, 16)
        assert 0.2 < max(p.abs().max().item() for p in cell.parameters()) <= 1 / math.sqrt(16)
        assert repr(cell) == f"{name}(2, 16)"
        without = getattr(nn, name)(2, 3, bias=False)
        assert without.bias_ih is None and repr(without) == f"{name}(2, 3, bias=False)"
        assert repr(nn.RNNCell(2, 16, nonlinearity="relu")) == "RNNCell(2, 16, nonlinearity=relu)"
        assert copy.deepcopy(cell)(fg.ones(2))[0].tolist() == cell(fg.ones(2))[0].tolist()
