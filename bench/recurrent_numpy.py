"""The three cells by hand in NumPy.

Input projections and weight gradients are one product over all steps, every array is allocated once, every result goes
into one of them. sigmoid(z) = 1/2 + tanh(z/2)/2 costs one function instead of exp and a division; the halves are in
the weights. What a step's gradient is multiplied by is computed for all steps at once, so that a step backward is a
product and a handful of calls. Weights are scaled and transposed before the clock starts, in NumPy's favour: while
training an optimizer changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.measure import Program
from bench.recurrent_layer import GATES, Array, Size, start

add, dot, multiply, subtract, maximum, tanh = np.add, np.dot, np.multiply, np.subtract, np.maximum, np.tanh
SIGMOIDS = {"RNN": (), "LSTM": (0, 1, 3), "GRU": (0, 1)}  # which of i f g o, of r z n


def empty(*shape: int) -> Array:
    return np.empty(shape, np.float32)


def halves(cell: str, hidden: int) -> Array:
    """1/2 where a sigmoid follows, 1 elsewhere."""
    scale = np.ones((GATES[cell], hidden), np.float32)
    scale[list(SIGMOIDS[cell])] = 0.5
    return scale.reshape(-1)


class Arrays(NamedTuple):
    """What the passes of a cell work on; `z_tbg` holds the input projections when the forward pass begins."""

    z_tbg: Array
    y_tbh: Array
    dy_tbh: Array
    w_hg: Array  # scaled, for the forward pass
    w_gh: Array
    b_hh: Array
    training: bool


class Passes(NamedTuple):
    """`gradients` are the rows of dz for the input's weights, each with the gates it covers; `dz` those for w_hh."""

    forward: Callable[[], None]
    backward: Callable[[], None]
    gradients: list[tuple[slice, Array]]
    dz: Array


def rnn(a: Arrays) -> Passes:
    y, dz = a.y_tbh, np.empty_like(a.z_tbg)
    _, batch, hidden = y.shape
    active, carried = np.empty(y.shape, bool), empty(batch, hidden)
    ahead = list(zip(y[:-1], a.z_tbg[1:], y[1:], strict=True))
    back = list(zip(dz[:0:-1], a.dy_tbh[-2::-1], active[-2::-1], dz[-2::-1], strict=True))

    def forward() -> None:
        maximum(a.z_tbg[0], 0, out=y[0])
        for h, z, y_t in ahead:
            dot(h, a.w_hg, out=y_t)
            add(y_t, z, out=y_t)
            maximum(y_t, 0, out=y_t)

    def backward() -> None:
        np.greater(y, 0, out=active)
        multiply(a.dy_tbh[-1], active[-1], out=dz[-1])
        for dz_next, dy_t, active_t, dz_t in back:
            dot(dz_next, a.w_gh, out=carried)
            add(carried, dy_t, out=carried)
            multiply(carried, active_t, out=dz_t)

    dz_rows = dz.reshape(-1, hidden)
    return Passes(forward, backward, [(slice(None), dz_rows)], dz_rows)


def lstm(a: Arrays) -> Passes:
    y = a.y_tbh
    steps, batch, hidden = y.shape
    kept = steps if a.training else 1
    gates = a.z_tbg if a.training else empty(1, batch, 4 * hidden)
    c_tbh, tanh_c = empty(kept + 1, batch, hidden), empty(kept, batch, hidden)
    c_tbh[0] = 0
    c = c_tbh[1:] if a.training else c_tbh[:1]
    product, term = empty(batch, 4 * hidden), empty(batch, hidden)
    scale = halves("LSTM", hidden)
    shift = 1 - scale  # a sigmoid's 1/2, a tanh's 0
    split = gates.reshape(kept, batch, 4, hidden)
    ahead = [
        (None if t == 0 else y[t - 1], a.z_tbg[t], gates[k], *(split[k, :, g] for g in range(4)),
         c_tbh[k], c[k], tanh_c[k], y[t])
        for t in range(steps) for k in [t if a.training else 0]
    ]  # fmt: skip

    def forward() -> None:
        c_tbh[0] = 0
        for h, z, s, i, f, g, o, c_before, c_t, tanh_c_t, y_t in ahead:
            tanh(z if h is None else add(dot(h, a.w_hg, out=product), z, out=product), out=s)
            multiply(s, scale, out=s)
            add(s, shift, out=s)
            multiply(f, c_before, out=c_t)
            multiply(i, g, out=term)
            add(c_t, term, out=c_t)
            tanh(c_t, out=tanh_c_t)
            multiply(o, tanh_c_t, out=y_t)

    # dz = [dc, dc, dc, dh] * factor, with dc += dh * o (1 - tanh(c)^2)
    factor = np.empty_like(split) if a.training else split
    dc_dh, dc, carried = np.empty_like(tanh_c), empty(batch, hidden), empty(batch, hidden)
    i, f, g, o = (split[:, :, k] for k in range(4))
    d_i, d_f, d_g, d_o = (factor[:, :, k] for k in range(4))
    dz = factor.reshape(kept, batch, 4 * hidden)
    back = [
        (a.dy_tbh[t], dc_dh[t], factor[t, :, :3], d_o[t], f[t], dz[t], t == 0)
        for t in (range(steps - 1, -1, -1) if a.training else ())
    ]
    dc_gates = dc[:, None]

    def backward() -> None:
        subtract(1, split, out=factor)
        multiply(factor, split, out=factor)
        multiply(d_i, g, out=d_i)
        multiply(d_f, c_tbh[:-1], out=d_f)
        multiply(d_o, tanh_c, out=d_o)
        multiply(g, g, out=d_g)
        subtract(1, d_g, out=d_g)
        multiply(d_g, i, out=d_g)
        multiply(tanh_c, tanh_c, out=dc_dh)
        subtract(1, dc_dh, out=dc_dh)
        multiply(dc_dh, o, out=dc_dh)
        carried[:] = dc[:] = 0
        for dy_t, dc_dh_t, d_ifg, d_o_t, f_t, dz_t, first in back:
            dh = add(carried, dy_t, out=carried)
            multiply(dh, dc_dh_t, out=term)
            add(dc, term, out=dc)
            multiply(d_ifg, dc_gates, out=d_ifg)
            multiply(d_o_t, dh, out=d_o_t)
            if not first:
                multiply(dc, f_t, out=dc)
                dot(dz_t, a.w_gh, out=carried)

    dz_rows = dz.reshape(-1, 4 * hidden)
    return Passes(forward, backward, [(slice(None), dz_rows)], dz_rows)


def gru(a: Arrays) -> Passes:
    y = a.y_tbh
    steps, batch, hidden = y.shape
    kept = steps if a.training else 1
    z_tbg = a.z_tbg
    gates, candidate, recurrent = empty(kept, batch, 2 * hidden), empty(kept, batch, hidden), empty(kept, batch, hidden)
    product, zero = empty(batch, 3 * hidden), np.zeros((batch, hidden), np.float32)
    product_rz, product_n, b_n = product[:, : 2 * hidden], product[:, 2 * hidden :], a.b_hh[2 * hidden :]
    ahead = [
        (zero if t == 0 else y[t - 1], z_tbg[t, :, : 2 * hidden], z_tbg[t, :, 2 * hidden :], gates[k],
         gates[k, :, :hidden], gates[k, :, hidden:], candidate[k], recurrent[k], y[t])
        for t in range(steps) for k in [t if a.training else 0]
    ]  # fmt: skip

    def forward() -> None:
        for h, z_rz, z_n, rz, r, z, n, hn, y_t in ahead:
            if h is zero:
                product.fill(0)
            else:
                dot(h, a.w_hg, out=product)
            add(product_rz, z_rz, out=rz)
            tanh(rz, out=rz)
            multiply(rz, 0.5, out=rz)
            add(rz, 0.5, out=rz)
            add(product_n, b_n, out=hn)
            multiply(r, hn, out=n)
            add(n, z_n, out=n)
            tanh(n, out=n)
            subtract(h, n, out=y_t)
            multiply(y_t, z, out=y_t)
            add(y_t, n, out=y_t)

    # [dr, dz, dhn] = dh * factor, dn = dh * (1 - z) (1 - n^2)
    factor = empty(kept, batch, 3, hidden)
    d_r, d_z, d_hn = (factor[:, :, k] for k in range(3))
    dn, carried, term = empty(kept, batch, hidden), empty(batch, hidden), empty(batch, hidden)
    dz = factor.reshape(kept, batch, 3 * hidden)
    r, z = gates[:, :, :hidden], gates[:, :, hidden:]
    back = [
        (a.dy_tbh[t], factor[t], dn[t], z[t], dz[t], t == 0)
        for t in (range(steps - 1, -1, -1) if a.training else ())
    ]  # fmt: skip
    dh_gates = carried[:, None]

    def backward() -> None:
        subtract(1, z, out=d_z)
        multiply(candidate, candidate, out=dn)
        subtract(1, dn, out=dn)
        multiply(dn, d_z, out=dn)
        multiply(dn, r, out=d_hn)
        subtract(1, r, out=d_r)
        multiply(d_r, d_hn, out=d_r)
        multiply(d_r, recurrent, out=d_r)
        multiply(d_z, z, out=d_z)
        subtract(y[:-1], candidate[1:], out=recurrent[1:])
        np.negative(candidate[0], out=recurrent[0])
        multiply(d_z, recurrent, out=d_z)
        carried[:] = 0
        for dy_t, d_gates, dn_t, z_t, dz_t, first in back:
            dh = add(carried, dy_t, out=carried)
            multiply(d_gates, dh_gates, out=d_gates)
            multiply(dn_t, dh, out=dn_t)
            if not first:
                multiply(dh, z_t, out=term)
                dot(dz_t, a.w_gh, out=carried)
                add(carried, term, out=carried)

    dz_rows = dz.reshape(-1, 3 * hidden)
    both = slice(0, 2 * hidden)
    parts = [(both, dz_rows[:, both]), (slice(2 * hidden, None), dn.reshape(-1, hidden))]
    return Passes(forward, backward, parts, dz_rows)


CELLS: dict[str, Callable[[Arrays], Passes]] = {"RNN": rnn, "LSTM": lstm, "GRU": gru}


def layer(cell: str, size: Size, training: bool) -> Program:
    steps, batch, inputs, hidden = size
    rows = GATES[cell] * hidden
    x, dy, (w_ih, w_hh, b_ih, b_hh) = start(cell, size)
    x_rows, scale = x.reshape(-1, inputs), halves(cell, hidden)
    z, y = empty(steps, batch, rows), empty(steps, batch, hidden)
    z_rows, y_rows = z.reshape(-1, rows), y.reshape(-1, hidden)
    w_ig, w_hg = stacked(w_ih) * scale, stacked(w_hh) * scale
    added_later = np.arange(rows) >= 2 * hidden if cell == "GRU" else np.zeros(rows, bool)
    bias = (b_ih + np.where(added_later, 0, b_hh)) * scale
    forward, backward, gradients, dz = CELLS[cell](Arrays(z, y, dy, w_hg, w_hh, b_hh, training))
    dw_ih, dw_hh, db_ih, db_hh = np.empty_like(w_ih), np.zeros_like(w_hh), np.empty_like(b_ih), np.empty_like(b_hh)
    ones = np.ones(steps * batch, np.float32)

    def run() -> None:
        dot(x_rows, w_ig, out=z_rows)
        add(z_rows, bias, out=z_rows)
        forward()

    def step() -> None:
        run()
        backward()
        for covered, dz_part in gradients:
            dot(dz_part.T, x_rows, out=dw_ih[covered])
            dot(ones, dz_part, out=db_ih[covered])
        if steps > 1:
            dot(dz[batch:].T, y_rows[:-batch], out=dw_hh)
        if cell == "GRU":
            dot(ones, dz, out=db_hh)
        else:
            db_hh[:] = db_ih

    return Program(step, lambda: [y, dw_ih, dw_hh, db_ih, db_hh]) if training else Program(run, lambda: [y])


def stacked(*columns: Array) -> Array:
    """The columns side by side, transposed, ready for `dot(operand, ...)`."""
    return np.ascontiguousarray(np.column_stack(columns).T)


Streamed = tuple[Callable[[], None], list[Array]]  # the step, and the states it advances, h first


def stream_rnn(x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Streamed:
    operand, weights = np.concatenate([x, 0 * b_hh, [np.float32(1)]]), stacked(w_ih, w_hh, b_ih + b_hh)
    x_part, h, product = operand[: len(x)], operand[len(x) : -1], np.empty_like(b_hh)

    def step() -> None:
        x_part[:] = x
        maximum(dot(operand, weights, out=product), 0, out=h)

    return step, [h]


def stream_lstm(x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Streamed:
    hidden = w_hh.shape[1]
    scale = halves("LSTM", hidden)
    shift = 1 - scale
    operand = np.concatenate([x, np.zeros(hidden, np.float32), [np.float32(1)]])
    weights = stacked(w_ih, w_hh, b_ih + b_hh) * scale
    x_part, h, c, term, gates = operand[: len(x)], operand[len(x) : -1], empty(hidden), empty(hidden), empty(4 * hidden)
    i, f, g, o = gates.reshape(4, hidden)

    def step() -> None:
        x_part[:] = x
        tanh(dot(operand, weights, out=gates), out=gates)
        add(multiply(gates, scale, out=gates), shift, out=gates)
        multiply(f, c, out=c)
        add(c, multiply(i, g, out=term), out=c)
        multiply(o, tanh(c, out=term), out=h)

    return step, [h, c]


def stream_gru(x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Streamed:
    inputs, hidden = len(x), w_hh.shape[1]
    rows_rz, rows_n = slice(0, 2 * hidden), slice(2 * hidden, None)
    operand = np.concatenate([[np.float32(1)], x, np.zeros(hidden, np.float32), [np.float32(1)]])
    one_x_h, one_x, h_one = operand[:-1], operand[: inputs + 1], operand[inputs + 1 :]
    weights_rz = stacked((b_ih + b_hh)[rows_rz], w_ih[rows_rz], w_hh[rows_rz]) * np.float32(0.5)
    weights_n, weights_hn = stacked(b_ih[rows_n], w_ih[rows_n]), stacked(w_hh[rows_n], b_hh[rows_n])
    x_part, h, rz, n, hn = one_x[1:], h_one[:-1], empty(2 * hidden), empty(hidden), empty(hidden)
    r, z = rz.reshape(2, hidden)

    def step() -> None:
        x_part[:] = x
        tanh(dot(one_x_h, weights_rz, out=rz), out=rz)
        add(multiply(rz, 0.5, out=rz), 0.5, out=rz)
        multiply(r, dot(h_one, weights_hn, out=hn), out=hn)
        tanh(add(dot(one_x, weights_n, out=n), hn, out=n), out=n)
        multiply(subtract(h, n, out=h), z, out=h)
        add(h, n, out=h)

    return step, [h]


STREAMS: dict[str, Callable[..., Streamed]] = {"RNN": stream_rnn, "LSTM": stream_lstm, "GRU": stream_gru}


def streaming(cell: str, size: Size, count: int) -> Program:
    """One step of one sequence: [x, h, 1] times the weights and biases in one product, in the GRU in three."""
    x, _, values = start(cell, size)
    step, states = STREAMS[cell](x.reshape(-1), *values)

    def result() -> list[Any]:
        for state in states:
            state[:] = 0
        for _ in range(count):
            step()
        return [states[0][None]]

    result()
    return Program(step, result)
