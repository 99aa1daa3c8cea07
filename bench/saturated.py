"""What a step costs whose gradients fade below the normal numbers, over one whose gradients do not.

A gradient that arrives at the last step alone shrinks by a factor a step: in an RNN because its tanh latch (Bengio,
Simard, Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994), in an LSTM and a GRU by
the gate that keeps the state. Below 1.2e-38 it is a denormal number, which many processors multiply a hundred times
slower, and at last zero. The same layer with a gradient at every step meets neither.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

import fastgrad
from bench import recurrent_layer
from bench.measure import Outcome, Program, Row, check_equal, repeat
from bench.peers import FRAMEWORKS
from bench.recurrent_layer import GATES, Array, Size

SIZE: Size = (400, 20, 64, 64)
SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)
LIMIT = 1.05


def parameters(cell: str) -> list[Array]:
    """w_ih, w_hh, b_ih, b_hh."""
    random = np.random.default_rng(4)
    _, _, inputs, hidden = SIZE
    w_ih, w_hh = (random.normal(0, 0.05 * n**-0.5, (GATES[cell], hidden, n)) for n in (inputs, hidden))
    b_ih = np.zeros((GATES[cell], hidden))
    if cell == "RNN":
        w_hh[0] += 1.2 * np.eye(hidden)  # h = tanh(1.2 h + 0.1) stays near 0.75, where the gradient keeps half a step
        b_ih[0] = 0.1
    else:
        b_ih[1] = 1.0  # the forget and the update gate keep sigmoid(1) = 0.73 a step
    arrays = w_ih.reshape(-1, inputs), w_hh.reshape(-1, hidden), b_ih.reshape(-1), 0 * b_ih.reshape(-1)
    return [a.astype(np.float32) for a in arrays]


def layer(t: Any, cell: str) -> Any:
    options = {"nonlinearity": "tanh"} if cell == "RNN" else {}
    return recurrent_layer.module(t, cell, SIZE, parameters(cell), **options)


def data() -> tuple[Array, dict[str, Array]]:
    """Inputs, and the gradients that arrive at the outputs."""
    random = np.random.default_rng(5)
    steps, batch, inputs, hidden = SIZE
    healthy = random.normal(size=(steps, batch, hidden)).astype(np.float32)
    fading = np.zeros_like(healthy)
    fading[-1] = healthy[-1]
    return random.normal(size=(steps, batch, inputs)).astype(np.float32), {"fading": fading, "healthy": healthy}


def below_normal(cell: str, cotangent: Array) -> float:
    """The share of the steps whose gradients are all smaller than float32's normal numbers, found in float64."""
    x: Any = fastgrad.from_numpy(data()[0].astype(np.float64)).requires_grad_()
    layer(fastgrad, cell).double()(x)[0].backward(fastgrad.from_numpy(cotangent.astype(np.float64)))
    return float((np.abs(x.grad.numpy()).max((1, 2)) < SMALLEST_NORMAL).mean())


def outcomes(quick: bool) -> list[Outcome]:
    x, cotangents = data()
    found = []
    for cell in GATES:
        shares = {kind: below_normal(cell, dy) for kind, dy in cotangents.items()}
        if not shares["fading"] > 0.2 or shares["healthy"]:
            raise ArithmeticError(f"{cell}: the gradients do not fade as they should: {shares}")
        programs: dict[str, Program] = {}
        for kind, dy in cotangents.items():
            rows = {
                name: recurrent_layer.trained(layer(t, cell), t.from_numpy(x), t.from_numpy(dy))
                for name, t in FRAMEWORKS.items()
            }
            check_equal(Row("saturated", f"{cell}, {kind}", rows, tolerance=recurrent_layer.tolerance(cell)))
            programs.update({f"{name}, {kind}": program for name, program in rows.items()})
        times = repeat(programs, quick)
        outcome = Outcome("saturated", f"{cell} {SIZE}, {shares['fading']:.0%} below 1.2e-38", limit=LIMIT, unit="x")
        for by, choose in (("median", statistics.median), ("best", min)):
            for name in FRAMEWORKS:
                outcome.of(by)[name] = choose(times[f"{name}, fading"]) / choose(times[f"{name}, healthy"])
        found.append(outcome)
    return found
