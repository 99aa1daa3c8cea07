"""What recurrent modules and cells raise: the type that PyTorch raises, naming the argument and both values."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import nn
from fastgrad.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

CONSTRUCTION_ERRORS = [
    ({"dropout": 1.5}, ValueError, r"dropout must be a number in \[0, 1\]; got 1.5"),
    ({"dropout": True}, ValueError, r"dropout must be a number in \[0, 1\]; got True"),
    ({"dropout": math.nan}, ValueError, r"dropout must be a number in \[0, 1\]; got nan"),
    ({"dropout": "0.5"}, ValueError, r"dropout must be a number in \[0, 1\]; got '0.5'"),
    ({"dropout": None}, TypeError, "dropout must be a number; got NoneType"),
    ({"bias": 1}, TypeError, "bias must be a bool; got int"),
    ({"batch_first": None}, TypeError, "batch_first must be a bool; got NoneType"),
    ({"input_size": 0}, ValueError, "input_size must be at least 1; got 0"),
    ({"input_size": 2.0}, TypeError, "input_size must be an int; got float"),
    ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1; got 0"),
    ({"hidden_size": 3.0}, TypeError, "hidden_size must be an int; got float"),
    ({"num_layers": 0}, ValueError, "num_layers must be at least 1; got 0"),
    ({"num_layers": 1.5}, TypeError, "num_layers must be an int; got float"),
    ({"num_layers": "1"}, TypeError, "num_layers must be an int; got str"),
    ({"dtype": fg.int64}, RuntimeError, "float"),
]


class TestModules:
    @pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
    @pytest.mark.parametrize(("arguments", "error", "text"), CONSTRUCTION_ERRORS)
    def test_construction(self, name: str, arguments: dict, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            getattr(nn, name)(**{"input_size": 2, "hidden_size": 3, **arguments})

    def test_construction_of_one_kind(self) -> None:
        with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu'; got 'gelu'"):
            nn.RNN(2, 3, nonlinearity="gelu")
        with pytest.raises(ValueError, match="mode must be one of RNN_TANH, RNN_RELU, LSTM, GRU; got 'X'"):
            nn.RNNBase("X", 2, 3)
        for name in ("RNN", "GRU"):
            with pytest.raises(ValueError, match="an option of LSTM only; got 2"):
                getattr(nn, name)(2, 3, proj_size=2)
        with pytest.raises(ValueError, match="proj_size must be smaller than hidden_size; got 3, hidden_size 3"):
            nn.LSTM(2, 3, proj_size=3)
        with pytest.raises(ValueError, match="proj_size must be at least 0; got -1"):
            nn.LSTM(2, 3, proj_size=-1)
        with pytest.raises(TypeError, match="proj_size must be an int; got float"):
            nn.LSTM(2, 3, proj_size=1.0)
        with pytest.raises(TypeError, match="nonlinearity"):
            nn.LSTM(2, 3, nonlinearity="relu")
        with pytest.warns(UserWarning, match="between layers only; got dropout=0.5, num_layers=1") as warned:
            nn.GRU(2, 3, dropout=0.5)
        assert warned[0].filename == __file__

    @pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
    @pytest.mark.parametrize("layers", [1, 2])
    @pytest.mark.parametrize(
        ("x", "error", "text"),
        [
            ([1.0], TypeError, "input must be a Tensor or a PackedSequence; got list"),
            (None, TypeError, "got NoneType"),
            (np.ones((4, 1, 2), np.float32), TypeError, "got ndarray"),
            (fg.ones(()), ValueError, "2-d or 3-d; got 0-d"),
            (fg.ones(2), ValueError, "2-d or 3-d; got 1-d"),
            (fg.ones(1, 4, 1, 2), ValueError, "2-d or 3-d; got 4-d"),
            (fg.ones(4, 1, 5), RuntimeError, r"input.size\(-1\) must equal input_size; got 5, expected 2"),
            (fg.ones(4, 5), RuntimeError, "got 5, expected 2"),
            (fg.ones(0, 1, 2), RuntimeError, r"at least one step; got input \(0, 1, 2\)"),
            (fg.ones(0, 0, 2), RuntimeError, "at least one step"),
            (fg.ones(0, 2), RuntimeError, "at least one step"),
            (fg.ones(4, 1, 2, dtype=fg.float64), ValueError, "weights' dtype; got .*float64, weights .*float32"),
            (fg.ones(4, 1, 2, dtype=fg.int64), ValueError, "weights' dtype; got .*int64, weights .*float32"),
        ],
    )
    def test_input(self, name: str, layers: int, x: Any, error: type[Exception], text: str) -> None:
        module = getattr(nn, name)(2, 3, num_layers=layers)
        with pytest.raises(error, match=text) as raised:
            module(x)
        assert f"[{type(module).__name__}]" in str(raised.value)

    def test_no_steps_with_batch_first(self) -> None:
        with pytest.raises(RuntimeError, match=r"at least one step; got input \(2, 0, 2\)"):
            nn.GRU(2, 3, batch_first=True)(fg.ones(2, 0, 2))

    @pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
    @pytest.mark.parametrize("option", [{"num_layers": 2}, {"bidirectional": True}])
    @pytest.mark.parametrize(
        ("kind", "expected", "shapes"),
        [
            ("batch", (2, 5, 3), [(1, 3), (2, 3), (2, 4, 3), (2, 5, 4), (1, 5, 3), (3, 5, 3), (4, 5, 3)]),
            ("alone", (2, 3), [(2, 1, 3), (1, 3), (3,), ()]),
            ("sorted", (2, 2, 3), [(2, 3), (2, 3, 3), (2, 1, 3)]),
            ("unsorted", (2, 2, 3), [(2, 3), (2, 3, 3), (2, 1, 3)]),
        ],
    )
    def test_shapes_of_states(self, name: str, option: dict, kind: str, expected: tuple, shapes: list) -> None:
        module = getattr(nn, name)(2, 3, **option)
        x: Any = {"batch": fg.ones(4, 5, 2), "alone": fg.ones(4, 2)}.get(kind)
        if x is None:
            x = pack_sequence([fg.ones(4, 2), fg.ones(3, 2)][:: 1 if kind == "sorted" else -1], kind == "sorted")
        right = fg.ones(expected)
        for shape in shapes:
            wrong = fg.ones(shape)
            text = re.escape(f" must have shape {expected}; got {shape}")
            if name != "LSTM":
                with pytest.raises(RuntimeError, match="hx" + text):
                    module(x, wrong)
                continue
            for position, hx in enumerate([(wrong, right), (right, wrong)]):
                with pytest.raises(RuntimeError, match=rf"hx\[{position}\]" + text):
                    module(x, hx)

    def test_shapes_of_projected_states(self) -> None:
        lstm = nn.LSTM(2, 3, proj_size=1)
        right = fg.ones(1, 5, 1), fg.ones(1, 5, 3)
        lstm(fg.ones(4, 5, 2), right)
        with pytest.raises(RuntimeError, match=r"hx\[0\] must have shape \(1, 5, 1\); got \(1, 5, 3\)"):
            lstm(fg.ones(4, 5, 2), right[::-1])

    @pytest.mark.parametrize("layers", [1, 2])
    @pytest.mark.parametrize("packed", [False, True])
    def test_kinds_of_states(self, layers: int, packed: bool) -> None:
        x = pack_padded_sequence(fg.ones(4, 2, 2), [4, 3]) if packed else fg.ones(4, 2, 2)
        state = fg.ones(layers, 2, 3)
        for module in (nn.RNN(2, 3, layers), nn.GRU(2, 3, layers)):
            for wrong, text in (((state, state), "tuple"), ([state], "list"), (3, "int")):
                with pytest.raises(TypeError, match=f"hx must be a Tensor; got {text}"):
                    module(x, wrong)
            with pytest.raises(RuntimeError, match=r"hx must have the weights' dtype; got .*float64"):
                module(x, state.double())
        lstm = nn.LSTM(2, 3, layers)
        for wrong, text in ((state, "Tensor"), (fg.ones(2, layers, 2, 3), "Tensor"), (3, "int")):
            with pytest.raises(TypeError, match=rf"hx must be a tuple \(h, c\); got {text}"):
                lstm(x, wrong)
        for count in (0, 1, 3):
            with pytest.raises(RuntimeError, match=f"a tuple of two states .*; got {count}"):
                lstm(x, (state,) * count)
        for position, wrong in enumerate([(None, state), (state, None)]):
            with pytest.raises(TypeError, match=rf"hx\[{position}\] must be a Tensor; got NoneType"):
                lstm(x, wrong)
        for position, wrong in enumerate([(state.double(), state), (state, state.double())]):
            with pytest.raises(RuntimeError, match=rf"hx\[{position}\] must have the weights' dtype; got .*float64"):
                lstm(x, wrong)

    @pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
    @pytest.mark.parametrize(
        ("data", "batch_sizes", "error", "text"),
        [
            (fg.ones(3), [2, 1], RuntimeError, "packed input must be 2-d; got 1-d"),
            (fg.ones(3, 1, 2), [2, 1], RuntimeError, "packed input must be 2-d; got 3-d"),
            (fg.ones(3, 5), [2, 1], RuntimeError, "got 5, expected 2"),
            (fg.ones(3, 2, dtype=fg.float64), [2, 1], ValueError, "weights' dtype"),
            (fg.ones(3, 2), [1, 2], RuntimeError, r"positive and not increase; got \[1, 2\]"),
            (fg.ones(3, 2), [3, 0], RuntimeError, r"positive and not increase; got \[3, 0\]"),
            (fg.ones(3, 2), [4, -1], RuntimeError, r"positive and not increase; got \[4, -1\]"),
            (fg.ones(3, 2), [2, 2], RuntimeError, "must sum to the rows of data; got 4, rows 3"),
            (fg.ones(3, 2), [2**62, 2**62, 2**62, 2**62], RuntimeError, "must sum to the rows of data; got 1844"),
            (fg.ones(3, 2), [2], RuntimeError, "must sum to the rows of data; got 2, rows 3"),
            (fg.ones(0, 2), [], RuntimeError, "not empty"),
            (fg.ones(3, 2), [[2, 1]], RuntimeError, r"vector of int64 that is not empty; got .*int64, shape \(1, 2\)"),
            (fg.ones(3, 2), [2.0, 1.0], RuntimeError, "vector of int64"),
        ],
    )
    def test_packed_input(self, name: str, data: Any, batch_sizes: list, error: type[Exception], text: str) -> None:
        sizes = fg.tensor(batch_sizes, dtype=None if batch_sizes else fg.int64)
        module = getattr(nn, name)(2, 3)
        with pytest.raises(error, match=text):
            module(PackedSequence(data, sizes))

    def test_what_is_wrong_elsewhere_is_said_by_the_core(self) -> None:
        rnn = nn.RNN(2, 3)
        rnn.weight_hh_l0 = nn.Parameter(fg.ones(3, 4))
        with pytest.raises(RuntimeError):
            rnn(fg.ones(4, 1, 2))
        del rnn.weight_hh_l0
        with pytest.raises(AttributeError, match="weight_hh_l0"):
            rnn(fg.ones(4, 1, 2))


class TestCells:
    @pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
    @pytest.mark.parametrize(
        ("x", "h", "error", "text"),
        [
            ([1.0], None, TypeError, "input must be a Tensor; got list"),
            (fg.ones(1, 1, 2), None, ValueError, "input must be 1-d or 2-d; got 3-d"),
            (fg.ones(()), None, ValueError, "input must be 1-d or 2-d; got 0-d"),
            (fg.ones(1, 2), fg.ones(1, 1, 3), ValueError, r"hx.* must be 1-d or 2-d; got 3-d"),
            (fg.ones(1, 2), fg.ones(3), RuntimeError, r"hx.* must have shape \(1, 3\); got \(3,\)"),
            (fg.ones(2), fg.ones(1, 3), RuntimeError, r"hx.* must have shape \(3,\); got \(1, 3\)"),
            (fg.ones(1, 4), fg.ones(1, 3), RuntimeError, ".* must equal input_size; got 4, expected 2"),
            (fg.ones(4), None, RuntimeError, ".* must equal input_size; got 4, expected 2"),
            (fg.ones(2, 2), fg.ones(1, 3), RuntimeError, r"hx.* must have shape \(2, 3\); got \(1, 3\)"),
            (fg.ones(1, 2), fg.ones(1, 4), RuntimeError, r"hx.* must have shape \(1, 3\); got \(1, 4\)"),
            (fg.ones(1, 2, dtype=fg.float64), None, RuntimeError, "input must have the weights' dtype; got .*float64"),
            (fg.ones(1, 2, dtype=fg.int64), None, RuntimeError, "input must have the weights' dtype; got .*int64"),
            (fg.ones(1, 2), fg.ones(1, 3, dtype=fg.float64), RuntimeError, "hx.* must have the weights' dtype"),
        ],
    )
    def test_errors(self, name: str, x: Any, h: Any, error: type[Exception], text: str) -> None:
        cell = getattr(nn, name)(2, 3)
        hx = (h, h) if name == "LSTMCell" and h is not None else h
        with pytest.raises(error, match=rf"\[{name}\] {text}"):
            cell(x, hx)

    @pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
    def test_construction(self, name: str) -> None:
        for sizes, argument in (((2.0, 3), "input_size"), ((2, 3.0), "hidden_size")):
            with pytest.raises(TypeError, match=rf"\[{name}\] {argument} must be an int; got float"):
                getattr(nn, name)(*sizes)
        with pytest.raises(RuntimeError, match=rf"\[{name}\] hidden_size must not be negative; got -1"):
            getattr(nn, name)(2, -1)

    def test_kinds_of_states(self) -> None:
        x, state = fg.ones(1, 2), fg.ones(1, 3)
        for cell in (nn.RNNCell(2, 3), nn.GRUCell(2, 3)):
            with pytest.raises(TypeError, match="hx must be a Tensor; got tuple"):
                cell(x, (state, state))
        lstm = nn.LSTMCell(2, 3)
        for wrong in (state, fg.ones(2, 1, 3)):
            with pytest.raises(TypeError, match=r"hx must be a tuple \(h, c\); got Tensor"):
                lstm(x, wrong)
        for count in (1, 3):
            with pytest.raises(RuntimeError, match=f"a tuple of two states .*; got {count}"):
                lstm(x, (state,) * count)
        with pytest.raises(TypeError, match=r"hx\[1\] must be a Tensor; got NoneType"):
            lstm(x, (state, None))
        cell = nn.RNNCell(2, 3, nonlinearity="gelu")
        with pytest.raises(RuntimeError, match="nonlinearity must be 'tanh' or 'relu'; got 'gelu'"):
            cell(x)
