"""The recurrent layers in NumPy and float64, forward and backward by hand, from PyTorch's formulas.

x, y and what is saved are packed rows: the rows of step 0, then those of step 1, and so on; with `batch_sizes` step t
has batch_sizes[t] rows, those of the sequences that are still running. `unroll` records every step, `results` gathers
what the layer returns and saves, `backward` goes back through the recorded steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


class Weights(NamedTuple):
    """Of one direction: w_ih (G*H, I), w_hh (G*H, P), biases (G*H,), w_hr (P, H)."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None
    w_hr: Array | None = None


class Layer(NamedTuple):
    """x (N, I), h_0 (D, B, P), c_0 (D, B, H), one Weights a direction; batch_sizes (T,), or all steps have B rows."""

    cell: str
    x: Array
    h_0: Array | None
    c_0: Array | None
    weights: tuple[Weights, ...]
    batch: int
    batch_sizes: Array | None = None

    @property
    def hidden(self) -> int:
        return len(self.weights[0].w_hh) // GATES[self.cell]

    @property
    def state(self) -> int:
        return self.weights[0].w_hh.shape[1]

    @property
    def sizes(self) -> list[int]:
        """How many rows each step has."""
        if self.batch_sizes is not None:
            return self.batch_sizes.tolist()
        return [self.batch] * (len(self.x) // self.batch if self.batch else 1)


class Step(NamedTuple):
    """One step of one direction: where its rows lie, the states before it, what it computed."""

    places: slice
    h_before: Array
    c_before: Array | None
    gates: Array | None
    c: Array | None
    h: Array


class Results(NamedTuple):
    y: Array
    h_n: Array
    c_n: Array | None
    gates: Array | None
    cells: Array | None


class Gradients(NamedTuple):
    x: Array
    h_0: Array
    c_0: Array
    weights: tuple[Weights, ...]


def packed_sizes(lengths: Sequence[int]) -> Array:
    """batch_sizes of sequences of these lengths, the longest first."""
    return np.array([sum(length > t for length in lengths) for t in range(max(lengths, default=0))], np.int64)


def make_layer(
    cell: str,
    size: tuple[int, int, int, int],
    dtype: type = np.float64,
    *,
    directions: int = 1,
    projection: int = 0,
    lengths: Sequence[int] | None = None,
    absent: frozenset[str] | set[str] = frozenset(),
    seed: int = 0,
) -> Layer:
    """Random numbers, exact in float32, for (T, B, I, H), without what `absent` names: h_0, c_0, b_ih, b_hh."""
    steps, batch, inputs, hidden = size
    random = np.random.default_rng(seed)
    state, rows = projection or hidden, GATES[cell] * hidden
    batch_sizes = None if lengths is None else packed_sizes(lengths)

    def numbers(name: str, scale: float, *shape: int) -> Array | None:
        values = (scale * random.standard_normal(shape)).astype(np.float32).astype(dtype)
        return None if name in absent else values

    x = numbers("x", 1, steps * batch if batch_sizes is None else int(batch_sizes.sum()), inputs)
    h_0 = numbers("h_0", 1, directions, batch, state)
    c_0 = numbers("c_0", 1, directions, batch, hidden) if cell == "lstm" else None
    weights = tuple(
        Weights(
            numbers("w_ih", 1 / max(inputs, 1) ** 0.5, rows, inputs),
            numbers("w_hh", 0.8 / max(state, 1) ** 0.5, rows, state),
            numbers("b_ih", 0.3, rows),
            numbers("b_hh", 0.3, rows),
            numbers("w_hr", 1 / max(hidden, 1) ** 0.5, state, hidden) if projection else None,
        )
        for _ in range(directions)
    )
    return Layer(cell, x, h_0, c_0, weights, batch, batch_sizes)


def wide(array: Array | None, *shape: int) -> Array:
    return np.zeros(shape) if array is None else array.astype(np.float64)


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def step(cell: str, z_x: Array, z_h: Array, h: Array, c: Array | None) -> tuple[Array | None, Array | None, Array]:
    """The gates as they are saved, the cell state and the output, from both sides' products with their biases."""
    if cell == "rnn_tanh":
        return None, None, np.tanh(z_x + z_h)
    if cell == "rnn_relu":
        return None, None, np.maximum(z_x + z_h, 0)
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(z_x, 3, axis=1), np.split(z_h, 3, axis=1)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = np.tanh(n_x + r * n_h)
        return np.concatenate([r, z, n, n_h], axis=1), None, (1 - z) * n + z * h
    i, f, g, o = np.split(z_x + z_h, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c + i * g
    return np.concatenate([i, f, g, o], axis=1), c, o * np.tanh(c)


def unroll(layer: Layer) -> list[list[Step]]:
    """Per direction its steps in the order in which they are computed."""
    ends = np.cumsum([0, *layer.sizes])
    trace = []
    for d, w in enumerate(layer.weights):
        h = wide(None if layer.h_0 is None else layer.h_0[d], layer.batch, layer.state)
        c = wide(None if layer.c_0 is None else layer.c_0[d], layer.batch, layer.hidden)
        w_ih, w_hh, b_ih, b_hh = wide(w.w_ih), wide(w.w_hh), wide(w.b_ih, 1), wide(w.b_hh, 1)
        order, steps = range(len(layer.sizes)), []
        for t in reversed(order) if d else order:
            running, places = layer.sizes[t], slice(ends[t], ends[t + 1])
            z_x, z_h = wide(layer.x[places]) @ w_ih.T + b_ih, h[:running] @ w_hh.T + b_hh
            h_before, c_before = h[:running].copy(), c[:running].copy() if layer.cell == "lstm" else None
            gates, c_after, output = step(layer.cell, z_x, z_h, h_before, c_before)
            if c_after is not None:
                c[:running] = c_after
            h[:running] = output if w.w_hr is None else output @ wide(w.w_hr).T
            steps.append(Step(places, h_before, c_before, gates, c_after, h[:running].copy()))
        trace.append(steps)
    return trace


def results(layer: Layer, trace: list[list[Step]]) -> Results:
    """A sequence's last state is the one after its own last step, which `unroll` leaves where it was."""
    rows, directions = len(layer.x), len(layer.weights)
    lstm, gated = layer.cell == "lstm", layer.cell in ("lstm", "gru")
    y = np.zeros((rows, directions, layer.state))
    h_n = wide(layer.h_0, directions, layer.batch, layer.state)
    c_n = wide(layer.c_0, directions, layer.batch, layer.hidden) if lstm else None
    gates = np.zeros((directions, rows, 4 * layer.hidden)) if gated else None
    cells = np.zeros((directions, rows, layer.hidden)) if lstm else None
    for d, steps in enumerate(trace):
        for s in steps:
            y[s.places, d] = h_n[d, : len(s.h)] = s.h
            if gates is not None:
                gates[d, s.places] = s.gates
            if c_n is not None and cells is not None:
                cells[d, s.places] = c_n[d, : len(s.h)] = s.c
    return Results(y.reshape(rows, directions * layer.state), h_n, c_n, gates, cells)


def forward(layer: Layer) -> Results:
    return results(layer, unroll(layer))


def away_from_kinks(layer: Layer) -> bool:
    """Are all pre-activations of an RNN at least 0.02 from 0?"""
    for w, steps in zip(layer.weights, unroll(layer), strict=True):
        for s in steps:
            z_x, z_h = layer.x[s.places] @ w.w_ih.T + wide(w.b_ih, 1), s.h_before @ w.w_hh.T + wide(w.b_hh, 1)
            if (np.abs(z_x + z_h) < 0.02).any():
                return False
    return True


def step_backward(cell: str, s: Step, dh: Array, dc: Array | None) -> tuple[Array, Array, Array | None, Array | None]:
    """dz of the input's side, dz of the state's side, and what of dh and dc reaches the states before directly."""
    if cell == "rnn_tanh":
        dz = dh * (1 - s.h**2)
        return dz, dz, None, None
    if cell == "rnn_relu":
        dz = np.where(s.h <= 0, 0, dh)
        return dz, dz, None, None
    assert s.gates is not None
    if cell == "gru":
        r, z, n, n_h = np.split(s.gates, 4, axis=1)
        dn = dh * (1 - z) * (1 - n**2)
        dr, dz = dn * n_h * r * (1 - r), dh * (s.h_before - n) * z * (1 - z)
        return np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1), dh * z, None
    i, f, g, o = np.split(s.gates, 4, axis=1)
    tanh_c = np.tanh(s.c)
    dc = dc + dh * o * (1 - tanh_c**2)
    di, df = dc * g * i * (1 - i), dc * s.c_before * f * (1 - f)
    dg, do = dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)
    dz = np.concatenate([di, df, dg, do], axis=1)
    return dz, dz, None, dc * f


def backward(
    layer: Layer, trace: list[list[Step]], dy: Array | None, dh_n: Array | None = None, dc_n: Array | None = None
) -> Gradients:
    """Backpropagation through time; a gradient that is None is zero."""
    directions, batch, state, hidden = len(layer.weights), layer.batch, layer.state, layer.hidden
    dy = wide(dy, len(layer.x), directions * state).reshape(len(layer.x), directions, state)
    dx, dh_0 = np.zeros(layer.x.shape), wide(dh_n, directions, batch, state).copy()
    dc_0 = wide(dc_n, directions, batch, hidden).copy()
    found = []
    for d, (w, steps) in enumerate(zip(layer.weights, trace, strict=True)):
        w_ih, w_hh = wide(w.w_ih), wide(w.w_hh)
        w_hr = np.eye(hidden) if w.w_hr is None else wide(w.w_hr)
        dw_ih, dw_hh, dw_hr = np.zeros(w_ih.shape), np.zeros(w_hh.shape), np.zeros(w_hr.shape)
        db_ih, db_hh = np.zeros(len(w_ih)), np.zeros(len(w_hh))
        for s in reversed(steps):
            running = len(s.h)
            dh, dc = dh_0[d, :running] + dy[s.places, d], dc_0[d, :running]
            if layer.cell == "lstm":
                assert s.gates is not None
                dw_hr += dh.T @ (np.split(s.gates, 4, axis=1)[3] * np.tanh(s.c))
                dh = dh @ w_hr
            dz_x, dz_h, dh_direct, dc_direct = step_backward(layer.cell, s, dh, dc)
            dh_0[d, :running] = dz_h @ w_hh + (0 if dh_direct is None else dh_direct)
            if dc_direct is not None:
                dc_0[d, :running] = dc_direct
            dx[s.places] += dz_x @ w_ih
            dw_ih += dz_x.T @ wide(layer.x[s.places])
            dw_hh += dz_h.T @ s.h_before
            db_ih += dz_x.sum(axis=0)
            db_hh += dz_h.sum(axis=0)
        found.append(Weights(dw_ih, dw_hh, db_ih, db_hh, None if w.w_hr is None else dw_hr))
    return Gradients(dx, dh_0, dc_0, tuple(found))
