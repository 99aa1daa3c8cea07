"""One layer of nn.RNN with relu, forward and backward: (steps, batch, inputs, hidden)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax

Array = np.ndarray
Size = tuple[int, int, int, int]
SIZES: list[tuple[Size, float]] = [
    ((10, 1, 8, 16), 40.0),
    ((50, 20, 64, 64), 4.0),
    ((200, 16, 32, 32), 7.0),
    ((28, 32, 28, 128), 1.8),
    ((35, 20, 200, 200), 1.6),
    ((100, 32, 1024, 1024), 1.1),
]
TOLERANCE = 1e-3  # of the norm; where a sum is near 0, rounding decides a relu, and one in 3 million moves it by 3e-4
CELL: tuple[Size, float] = ((50, 20, 64, 64), 6.0)


def start(steps: int, batch: int, inputs: int, hidden: int) -> tuple[Array, Array, list[Array]]:
    """Inputs, the gradient that arrives at the outputs, and the parameters."""
    random = np.random.default_rng(2)
    scale = 0.5 * hidden**-0.5
    shapes = [(hidden, inputs), (hidden, hidden), (hidden,), (hidden,)]
    parameters = [random.uniform(-scale, scale, s).astype(np.float32) for s in shapes]
    x = random.normal(size=(steps, batch, inputs)).astype(np.float32)
    return x, random.normal(size=(steps, batch, hidden)).astype(np.float32), parameters


def set_parameters(t: Any, module: Any, values: list[Array]) -> list[Any]:
    parameters = list(module.parameters())
    with t.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(t.from_numpy(value))
    return parameters


def framework(t: Any, size: Size) -> Program:
    x, dy, values = start(*size)
    rnn = t.nn.RNN(size[2], size[3], nonlinearity="relu")
    parameters = set_parameters(t, rnn, values)
    inputs, cotangent = t.from_numpy(x), t.from_numpy(dy)
    kept: list[Any] = [None]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        y, _ = rnn(inputs)
        y.backward(cotangent)
        kept[0] = y

    return Program(step, lambda: [kept[0].detach().numpy(), *[p.grad.numpy() for p in parameters]])


def cell_loop(t: Any, size: Size) -> Program:
    """The recurrence as a user writes it: RNNCell called once a step."""
    steps, batch, _, hidden = size
    x, dy, values = start(*size)
    cell = t.nn.RNNCell(size[2], hidden, nonlinearity="relu")
    parameters = set_parameters(t, cell, values)
    inputs, cotangent = t.from_numpy(x), t.from_numpy(dy)
    kept: list[Any] = [None]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        state = t.zeros(batch, hidden)
        states = []
        for k in range(steps):
            state = cell(inputs[k], state)
            states.append(state)
        y = t.stack(states)
        y.backward(cotangent)
        kept[0] = y

    return Program(step, lambda: [kept[0].detach().numpy(), *[p.grad.numpy() for p in parameters]])


def numpy_by_hand(size: Size) -> Program:
    """Input projections and weight gradients as one product over all steps; every array allocated once."""
    steps, batch, inputs, hidden = size
    x, dy, (w_ih, w_hh, b_ih, b_hh) = start(*size)
    x_rows = x.reshape(steps * batch, inputs)
    y, dz, projected = (np.empty((steps, batch, hidden), np.float32) for _ in range(3))
    y_rows, dz_rows, projected_rows = (a.reshape(steps * batch, hidden) for a in (y, dz, projected))
    carried = np.empty((batch, hidden), np.float32)
    active = np.empty((steps, batch, hidden), bool)
    dw_ih, dw_hh, db = np.empty_like(w_ih), np.zeros_like(w_hh), np.empty_like(b_ih)
    w_ih_t, w_hh_t = w_ih.T, np.ascontiguousarray(w_hh.T)
    dot, add, multiply, maximum = np.dot, np.add, np.multiply, np.maximum
    forward = list(zip(y[:-1], projected[1:], y[1:], strict=True))
    backward = list(zip(dz[:0:-1], dy[-2::-1], active[-2::-1], dz[-2::-1], strict=True))

    def step() -> None:
        dot(x_rows, w_ih_t, out=projected_rows)
        add(projected_rows, b_ih + b_hh, out=projected_rows)
        maximum(projected[0], 0, out=y[0])
        for previous, z, state in forward:
            dot(previous, w_hh_t, out=state)
            add(state, z, out=state)
            maximum(state, 0, out=state)
        np.greater(y, 0, out=active)
        multiply(dy[-1], active[-1], out=dz[-1])
        for dz_next, dy_t, active_t, dz_t in backward:
            dot(dz_next, w_hh, out=carried)
            add(carried, dy_t, out=carried)
            multiply(carried, active_t, out=dz_t)
        dot(dz_rows.T, x_rows, out=dw_ih)
        if steps > 1:
            dot(dz_rows[batch:].T, y_rows[:-batch], out=dw_hh)
        add.reduce(dz_rows, axis=0, out=db)

    return Program(step, lambda: [y, dw_ih, dw_hh, db, db])


def jax_compiled(size: Size) -> Program:
    x, dy, values = start(*size)
    numpy = jax.numpy

    def outputs(params: Any, inputs: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = params

        def advance(state: Any, z: Any) -> Any:
            state = jax.nn.relu(z + state @ w_hh.T)
            return state, state

        z = inputs @ w_ih.T + (b_ih + b_hh)
        return jax.lax.scan(advance, numpy.zeros(z.shape[1:], z.dtype), z)[1]

    @jax.jit
    def both(params: Any, inputs: Any, cotangent: Any) -> Any:
        y, pull = jax.vjp(lambda p: outputs(p, inputs), params)
        return y, pull(cotangent)[0]

    params, inputs, cotangent = [numpy.asarray(v) for v in values], numpy.asarray(x), numpy.asarray(dy)

    def step() -> Any:
        return jax.block_until_ready(both(params, inputs, cotangent))

    def result() -> list[Any]:
        y, gradients = step()
        return [y, *gradients]

    return Program(step, result)


def counted_flops(steps: int, batch: int, inputs: int, hidden: int) -> float:
    """Multiplications and additions of the products: forward, weight gradients, and the state's gradient."""
    return 2.0 * batch * hidden * (steps * (inputs + hidden) * 2 + (steps - 1) * hidden)


def rows(quick: bool) -> Iterator[Row]:
    for size, target in SIZES[:5] if quick else SIZES:
        programs = {peer: framework(t, size) for peer, t in FRAMEWORKS.items()}
        programs["NumPy"] = numpy_by_hand(size)
        if jax is not None:
            programs["JAX"] = jax_compiled(size)
        yield Row("rnn", f"RNN relu {size}", programs, target, counted_flops(*size), tolerance=TOLERANCE)
    size, target = CELL
    programs = {peer: cell_loop(t, size) for peer, t in FRAMEWORKS.items()}
    programs["NumPy"] = numpy_by_hand(size)
    yield Row("rnn", f"RNNCell in a loop {size}", programs, target, counted_flops(*size), tolerance=TOLERANCE)
