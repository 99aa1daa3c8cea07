"""Gradients that leave the range of float32: they become inf and NaN as IEEE says, and both guards catch them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import fastgrad as fg
from fastgrad import nn
from fastgrad.autograd import backward, detect_anomaly, grad

STEPS, HIDDEN = 200, 4


def exploding(t: Any, mixed_signs: bool) -> tuple[Any, Any]:
    """A relu layer whose state doubles at each step, from inputs so small that the outputs stay finite.

    The gradient at step t is 2**(STEPS - t). Once it is inf, positive weights keep it inf and a negative one makes
    inf - inf of it.
    """
    rnn = t.nn.RNN(1, HIDDEN, nonlinearity="relu", bias=False)
    w_hh = t.full((HIDDEN, HIDDEN), 2.0 / HIDDEN)
    if mixed_signs:
        w_hh[:, 0], w_hh[:, 1] = 4.0 / HIDDEN, -2.0 / HIDDEN
        w_hh[:, 2:] = 3.0 / HIDDEN
    with t.no_grad():
        rnn.weight_ih_l0.fill_(1.0)
        rnn.weight_hh_l0.copy_(w_hh)
    return rnn, t.full((STEPS, 1, 1), 1e-30)


def of_frameworks(test: Callable[..., None]) -> Any:
    return pytest.mark.parametrize(
        "name", ["fastgrad", pytest.param("torch", marks=pytest.mark.torch)]
    )(pytest.mark.parametrize("mixed_signs", [False, True])(test))  # fmt: skip


@of_frameworks
def test_a_recurrent_layer_overflows(name: str, mixed_signs: bool) -> None:
    """Both frameworks agree on the kind of every gradient, on what is caught, and on the type of the error."""
    t = pytest.importorskip(name)
    rnn, x = exploding(t, mixed_signs)
    h_0 = t.full((1, 1, HIDDEN), 1e-30)
    y, _ = rnn(x, h_0)
    assert math.isfinite(y.sum().item()) and y[-1].min().item() > 1e20
    y[-1].sum().backward()
    for p in rnn.parameters():
        assert bool(p.grad.isnan().all() if mixed_signs else p.grad.isinf().all())
    before = [p.grad.tolist() for p in rnn.parameters()]
    for order in (2.0, 1.0, math.inf):
        with pytest.raises(RuntimeError, match=r"norm.*of order"):
            t.nn.utils.clip_grad_norm_(rnn.parameters(), 1.0, order, error_if_nonfinite=True)
    assert str([p.grad.tolist() for p in rnn.parameters()]) == str(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with t.autograd.detect_anomaly():
            loss = rnn(x, h_0)[0][-1].sum()
            if mixed_signs:
                with pytest.raises(RuntimeError, match="nan values"):
                    loss.backward()
            else:
                loss.backward()  # inf is no NaN


def test_the_layer_is_named() -> None:
    rnn, x = exploding(fg, True)
    with detect_anomaly():
        loss = rnn(x)[0][-1].sum()  # the line that must be named
        with pytest.warns(UserWarning), pytest.raises(RuntimeError, match=r"nan values from RnnReluBackward0") as error:
            loss.backward()
    assert "loss = rnn(x)[0][-1].sum()" in str(error.value)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("output", [0, 1, 2])
@pytest.mark.parametrize(
    ("op", "name"),
    [
        (lambda x: x.unbind(0), "UnbindBackward0"),
        (lambda x: x.split(1), "SplitBackward0"),
        (lambda x: x.chunk(3), "SplitBackward0"),
    ],
)
def test_a_nan_that_enters_by_one_of_several_outputs(op: Any, name: str, output: int, create_graph: bool) -> None:
    x = fg.ones(3, 2, requires_grad=True)
    with detect_anomaly():
        y = op(x)[output]
        with pytest.warns(UserWarning, match=name), pytest.raises(RuntimeError, match=f"nan values from {name}"):
            backward(y, fg.full_like(y, math.nan), create_graph=create_graph)
        y = op(x)[output]
        backward(y, fg.full_like(y, math.inf), create_graph=create_graph)
    assert x.grad.isinf().any()


@pytest.mark.parametrize(
    ("layer", "name", "state"),
    [
        (nn.RNN, "RnnTanhBackward0", lambda s: s),
        (nn.GRU, "GruBackward0", lambda s: s),
        (nn.LSTM, "LstmBackward0", lambda s: s[0]),
        (nn.LSTM, "LstmBackward0", lambda s: s[1]),
    ],
)
def test_a_nan_that_enters_by_the_last_state(layer: Any, name: str, state: Any) -> None:
    rnn = layer(3, 4)
    with detect_anomaly():
        last = state(rnn(fg.ones(5, 2, 3))[1])
        with pytest.warns(UserWarning, match=name), pytest.raises(RuntimeError, match=f"nan values from {name}"):
            last.backward(fg.full_like(last, math.nan))
        last = state(rnn(fg.ones(5, 2, 3))[1])
        with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="nan values"):
            grad(last, list(rnn.parameters()), fg.full_like(last, math.nan), create_graph=True)
