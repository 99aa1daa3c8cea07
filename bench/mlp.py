"""One training step of Linear-ReLU-Linear with cross-entropy and SGD: (batch, in, hidden, out)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax

Array = np.ndarray
RATE = 0.01
SIZES: list[tuple[tuple[int, int, int, int], float]] = [
    ((1, 4, 16, 2), 15.0),
    ((32, 64, 32, 10), 9.0),
    ((32, 784, 128, 10), 2.5),
    ((128, 784, 512, 10), 1.3),
    ((256, 1024, 1024, 1000), 1.08),
]


def start(batch: int, inputs: int, hidden: int, outputs: int) -> tuple[Array, Array, list[Array]]:
    """Data, targets and initial weights, the same for every contender."""
    random = np.random.default_rng(0)
    shapes = [(hidden, inputs), (hidden,), (outputs, hidden), (outputs,)]
    scales = [inputs**-0.5] * 2 + [hidden**-0.5] * 2
    parameters = [random.uniform(-s, s, shape).astype(np.float32) for s, shape in zip(scales, shapes, strict=True)]
    return random.normal(size=(batch, inputs)).astype(np.float32), random.integers(0, outputs, batch), parameters


def framework(t: Any, size: tuple[int, int, int, int]) -> Program:
    x, target, parameters = start(*size)
    model = t.nn.Sequential(t.nn.Linear(size[1], size[2]), t.nn.ReLU(), t.nn.Linear(size[2], size[3]))
    with t.no_grad():
        for parameter, value in zip(model.parameters(), parameters, strict=True):
            parameter.copy_(t.from_numpy(value))
    optimizer = t.optim.SGD(model.parameters(), lr=RATE)
    criterion = t.nn.CrossEntropyLoss()
    inputs, targets = t.from_numpy(x), t.from_numpy(target)

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()

    return Program(step, lambda: [p.detach().numpy() for p in model.parameters()])


def numpy_by_hand(size: tuple[int, int, int, int]) -> Program:
    """Every array is allocated once and every product and sum goes into one of them."""
    batch, _, hidden, outputs = size
    x, target, parameters = start(*size)
    w_1, b_1, w_2, b_2 = parameters
    dw_1, db_1, dw_2, db_2 = gradients = [np.empty_like(p) for p in parameters]
    h, dh = np.empty((batch, hidden), np.float32), np.empty((batch, hidden), np.float32)
    active = np.empty((batch, hidden), bool)
    p = np.empty((batch, outputs), np.float32)
    row = np.empty((batch, 1), np.float32)
    flat, picked = p.reshape(-1), np.arange(batch) * outputs + target
    w_1t, w_2t, p_t, dh_t = w_1.T, w_2.T, p.T, dh.T
    scale, rate = np.float32(1 / batch), np.float32(RATE)
    dot, add, multiply, subtract = np.dot, np.add, np.multiply, np.subtract

    def step() -> float:
        dot(x, w_1t, out=h)
        add(h, b_1, out=h)
        np.maximum(h, 0, out=h)
        dot(h, w_2t, out=p)
        add(p, b_2, out=p)
        np.maximum.reduce(p, axis=1, keepdims=True, out=row)
        subtract(p, row, out=p)
        np.exp(p, out=p)
        add.reduce(p, axis=1, keepdims=True, out=row)
        np.divide(p, row, out=p)
        chosen = flat[picked]
        loss = -add.reduce(np.log(chosen)) * scale
        flat[picked] = chosen - 1
        multiply(p, scale, out=p)
        dot(p_t, h, out=dw_2)
        add.reduce(p, axis=0, out=db_2)
        dot(p, w_2, out=dh)
        np.greater(h, 0, out=active)
        multiply(dh, active, out=dh)
        dot(dh_t, x, out=dw_1)
        add.reduce(dh, axis=0, out=db_1)
        for value, gradient in zip(parameters, gradients, strict=True):
            multiply(gradient, rate, out=gradient)
            subtract(value, gradient, out=value)
        return loss

    return Program(step, lambda: parameters)


def jax_compiled(size: tuple[int, int, int, int]) -> Program:
    x, target, parameters = start(*size)

    def loss(params: Any, inputs: Any, targets: Any) -> Any:
        w_1, b_1, w_2, b_2 = params
        logits = jax.nn.relu(inputs @ w_1.T + b_1) @ w_2.T + b_2
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], 1).mean()

    @jax.jit
    def update(params: Any, inputs: Any, targets: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, inputs, targets)
        return value, [p - RATE * g for p, g in zip(params, gradients, strict=True)]

    state = [[jax.numpy.asarray(p) for p in parameters]]
    inputs, targets = jax.numpy.asarray(x), jax.numpy.asarray(target)

    def step() -> None:
        value, state[0] = update(state[0], inputs, targets)
        value.block_until_ready()

    return Program(step, lambda: state[0])


def rows(quick: bool) -> Iterator[Row]:
    for size, target in SIZES[:4] if quick else SIZES:
        programs = {peer: framework(t, size) for peer, t in FRAMEWORKS.items()}
        programs["NumPy"] = numpy_by_hand(size)
        if jax is not None:
            programs["JAX"] = jax_compiled(size)
        batch, inputs, hidden, outputs = size
        # forward, weight gradients, and the gradient of the hidden layer
        flops = 2.0 * batch * (2 * inputs * hidden + 3 * hidden * outputs)
        yield Row("mlp", f"MLP step {size}", programs, {"PyTorch": target}, flops)
