"""Every message of the core's recurrent ops, before anything is computed. Those of the modules are in tests/nn."""

from __future__ import annotations

import re
from typing import Any

import pytest

import fastgrad as fg
from fastgrad._core import recurrent_cell, recurrent_layer

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def weights(cell: str = "lstm", inputs: int = 3, hidden: int = 4, state: int = 4, directions: int = 1) -> list[Any]:
    rows = GATES[cell] * hidden
    projection = fg.ones(state, hidden) if state != hidden else None
    return [fg.ones(rows, inputs), fg.ones(rows, state), fg.ones(rows), fg.ones(rows), projection] * directions


def with_weight(k: int, value: Any, **options: Any) -> list[Any]:
    changed = weights(**options)
    changed[k] = value
    return changed


X = fg.ones(5, 2, 3)
ROWS = fg.ones(5, 3)


def lengths(*sizes: int) -> Any:
    return fg.tensor(list(sizes))


CASES: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    (
        ("LSTM", X, None, None, weights()),
        ValueError,
        "[recurrent] cell must be 'rnn_tanh', 'rnn_relu', 'lstm' or 'gru'",
    ),
    (
        ("lstm", X, None, None, weights()[:4]),
        ValueError,
        "[lstm] weights must hold w_ih, w_hh, b_ih, b_hh, w_hr of one or two directions; got 4 entries",
    ),
    (
        ("lstm", X, None, None, with_weight(0, None)),
        RuntimeError,
        "[lstm] w_ih and w_hh must be matrices of 4 times the hidden size rows; got None and (16, 4)",
    ),
    (
        ("gru", X, None, None, with_weight(1, fg.ones(13, 4), cell="gru")),
        RuntimeError,
        "[gru] w_ih and w_hh must be matrices of 3 times the hidden size rows; got (12, 3) and (13, 4)",
    ),
    (
        ("lstm", X, None, None, with_weight(6, None, directions=2)),
        RuntimeError,
        "[lstm] each direction must have w_ih and w_hh; got None",
    ),
    (
        ("lstm", X, None, None, with_weight(4, None, state=2)),
        RuntimeError,
        "[lstm] w_hh must have shape (16, 4) without w_hr; got (16, 2)",
    ),
    (
        ("lstm", X, None, None, with_weight(0, fg.ones(16, 3, dtype=fg.float64))),
        RuntimeError,
        "[lstm] input and weights must have the same dtype; got fastgrad.float32 and fastgrad.float64",
    ),
    (
        ("lstm", X, None, None, with_weight(0, fg.ones(12, 3))),
        RuntimeError,
        "[lstm] w_ih must have shape (16, 3); got (12, 3)",
    ),
    (
        ("lstm", X, None, None, with_weight(6, fg.ones(16, 3), directions=2)),
        RuntimeError,
        "[lstm] w_hh must have shape (16, 4); got (16, 3)",
    ),
    (
        ("lstm", X, None, None, with_weight(2, fg.ones(15))),
        RuntimeError,
        "[lstm] b_ih must have shape (16,); got (15,)",
    ),
    (
        ("lstm", X, None, None, with_weight(3, fg.ones(16, 1))),
        RuntimeError,
        "[lstm] b_hh must have shape (16,); got (16, 1)",
    ),
    (
        ("lstm", X, None, None, with_weight(4, fg.ones(2, 3), state=2)),
        RuntimeError,
        "[lstm] w_hr must have shape (2, 4); got (2, 3)",
    ),
    (
        ("gru", X, None, None, weights("gru", state=2)),
        RuntimeError,
        "[gru] w_hr must be absent but for an lstm whose state is smaller than its hidden size; got (2, 4)",
    ),
    (
        ("rnn_tanh", fg.ones(5, 2, 3).long(), None, None, [w if w is None else w.long() for w in weights("rnn_tanh")]),
        RuntimeError,
        "[rnn_tanh] input must be a float tensor; got fastgrad.int64",
    ),
    (
        ("lstm", fg.ones(5, 2, 4), None, None, weights()),
        RuntimeError,
        "[lstm] input.shape[-1] must equal w_ih.shape[1]; got input (5, 2, 4), w_ih (16, 3)",
    ),
    (
        ("lstm", X, fg.ones(1, 3, 4), None, weights()),
        RuntimeError,
        "[lstm] h_0 must have shape (1, 2, 4); got (1, 3, 4)",
    ),
    (
        ("lstm", X, None, fg.ones(2, 2, 4), weights()),
        RuntimeError,
        "[lstm] c_0 must have shape (1, 2, 4); got (2, 2, 4)",
    ),
    (
        ("lstm", X, fg.ones(1, 2, 4, dtype=fg.float64), None, weights()),
        RuntimeError,
        "[lstm] input and h_0 must have the same dtype; got fastgrad.float32 and fastgrad.float64",
    ),
    (
        ("gru", X, None, fg.ones(1, 2, 4), weights("gru")),
        RuntimeError,
        "[gru] c_0 must be None but for an lstm; got (1, 2, 4)",
    ),
    (
        ("lstm", fg.ones(0, 2, 3), None, None, weights()),
        RuntimeError,
        "[lstm] input must be (steps, batch, features) with at least one step; got (0, 2, 3)",
    ),
    (
        ("lstm", X, None, None, weights(), lengths(3, 2)),
        RuntimeError,
        "[lstm] input must be (rows, features) with batch_sizes; got (5, 2, 3)",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths()),
        RuntimeError,
        "[lstm] batch_sizes must be a 1-d int64 tensor of at least one step; got",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths(3, 2).int()),
        RuntimeError,
        "[lstm] batch_sizes must be a 1-d int64 tensor of at least one step; got fastgrad.int32, (2,)",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths(2, 3)),
        RuntimeError,
        "[lstm] batch_sizes must be positive and never increase; got 3 after 2 at step 1",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths(5, 0)),
        RuntimeError,
        "[lstm] batch_sizes must be positive and never increase; got 0 after 5 at step 1",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths(3, 1)),
        RuntimeError,
        "[lstm] batch_sizes must add up to the rows of the input; got [3, 1] and input (5, 3)",
    ),
    (
        ("lstm", ROWS, None, None, weights(), lengths(2**62, 2**62, 2**62, 2**62)),
        RuntimeError,
        "[lstm] batch_sizes must add up to the rows of the input; got [4611686018427387904, ",
    ),
]


@pytest.mark.parametrize("arguments, error, text", CASES, ids=[text[:70] for _, _, text in CASES])
def test_layer(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        recurrent_layer(*arguments)


def test_cell() -> None:
    w_ih, w_hh = fg.ones(4, 3), fg.ones(4, 4)
    with pytest.raises(RuntimeError, match=r"\[rnn_relu\] input must be \(batch, features\); got \(3,\)"):
        recurrent_cell("rnn_relu", fg.ones(3), None, None, w_ih, w_hh)
    with pytest.raises(RuntimeError, match=r"\[rnn_relu\] h_0 must have shape \(2, 4\); got \(1, 2, 4\)"):
        recurrent_cell("rnn_relu", fg.ones(2, 3), fg.ones(1, 2, 4), None, w_ih, w_hh)
