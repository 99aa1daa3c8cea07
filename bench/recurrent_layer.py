"""One recurrent layer: its sizes, its data, and the program that fastgrad and PyTorch share."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.measure import Program

Array = np.ndarray
Size = tuple[int, int, int, int]  # steps, batch, inputs, hidden
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}

RNN_SIZES: list[Size] = [
    (28, 32, 28, 128),
    (28, 100, 28, 128),
    (50, 20, 64, 64),
    (100, 20, 128, 256),
    (35, 20, 200, 200),
    (35, 64, 512, 512),
    (100, 32, 1024, 1024),
    (200, 16, 32, 32),
    (10, 1, 8, 16),
]
GATED_SIZES: list[Size] = [(28, 32, 28, 128), (50, 20, 64, 64), (35, 20, 200, 200), (35, 64, 512, 512)]
QUICK_HIDDEN = 128  # the largest hidden size of a quick run


def layers(quick: bool = False) -> list[tuple[str, Size]]:
    """Every measured layer: the cell and its size."""
    found = [("RNN", size) for size in RNN_SIZES] + [(cell, size) for cell in ("LSTM", "GRU") for size in GATED_SIZES]
    return [(cell, size) for cell, size in found if not quick or size[3] <= QUICK_HIDDEN]


def tolerance(cell: str) -> float:
    """Of the norm. Where a sum is near 0 rounding decides a relu, and one in 3 million moves a gradient by 3e-4."""
    return 1e-3 if cell == "RNN" else 1e-5


def start(cell: str, size: Size, directions: int = 1) -> tuple[Array, Array, list[Array]]:
    """Inputs, the gradient that arrives at the outputs, and each direction's w_ih, w_hh, b_ih, b_hh."""
    steps, batch, inputs, hidden = size
    random = np.random.default_rng(2)
    scale, rows = 0.5 * hidden**-0.5, GATES[cell] * hidden
    shapes = [(rows, inputs), (rows, hidden), (rows,), (rows,)] * directions
    parameters = [random.uniform(-scale, scale, s).astype(np.float32) for s in shapes]
    x = random.normal(size=(steps, batch, inputs)).astype(np.float32)
    return x, random.normal(size=(steps, batch, directions * hidden)).astype(np.float32), parameters


def training_flops(cell: str, size: Size) -> float:
    """Multiplications and additions of the products alone: forward, both weight gradients, the state's gradient.

    The first step has no product with a state, for there is none: nothing is counted that need not be computed.
    """
    steps, batch, inputs, hidden = size
    return 2.0 * GATES[cell] * hidden * batch * (2 * steps * inputs + 3 * (steps - 1) * hidden)


def forward_flops(cell: str, size: Size) -> float:
    steps, batch, inputs, hidden = size
    return 2.0 * GATES[cell] * hidden * batch * (steps * inputs + (steps - 1) * hidden)


def set_parameters(t: Any, module: Any, values: list[Array]) -> Any:
    with t.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(t.from_numpy(value))
    return module


def module(t: Any, cell: str, size: Size, values: list[Array], **options: Any) -> Any:
    if cell.startswith("RNN"):
        options.setdefault("nonlinearity", "relu")
    return set_parameters(t, getattr(t.nn, cell)(size[2], size[3], **options), values)


def training(t: Any, cell: str, size: Size, bidirectional: bool = False, lengths: list[int] | None = None) -> Program:
    """Forward and backward of a layer; x needs no gradient, the initial state is absent."""
    x, dy, values = start(cell, size, 1 + bidirectional)
    layer = module(t, cell, size, values, bidirectional=bidirectional)
    inputs, cotangent = t.from_numpy(x), t.from_numpy(dy)
    if lengths is not None:
        pack = t.nn.utils.rnn.pack_padded_sequence
        inputs, cotangent = pack(inputs, lengths), pack(cotangent, lengths).data
    return trained(layer, inputs, cotangent)


def cell_loop(t: Any, size: Size) -> Program:
    """The recurrence as a user writes it: RNNCell called once a step."""
    x, dy, values = start("RNN", size)
    cell, inputs, cotangent = module(t, "RNNCell", size, values), t.from_numpy(x), t.from_numpy(dy)

    def layer(inputs: Any) -> tuple[Any]:
        state, states = t.zeros(size[1], size[3]), []
        for k in range(size[0]):
            state = cell(inputs[k], state)
            states.append(state)
        return (t.stack(states),)

    layer.parameters = cell.parameters  # type: ignore[attr-defined]
    return trained(layer, inputs, cotangent)


def trained(layer: Any, inputs: Any, cotangent: Any) -> Program:
    parameters, packed = list(layer.parameters()), hasattr(inputs, "batch_sizes")
    kept: list[Any] = [None]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        y = layer(inputs)[0]
        if packed:
            y = y.data
        y.backward(cotangent)
        kept[0] = y

    return Program(step, lambda: [kept[0].detach().numpy(), *[p.grad.numpy() for p in parameters]])


def forward(t: Any, cell: str, size: Size) -> Program:
    x, _, values = start(cell, size)
    layer, inputs = module(t, cell, size, values), t.from_numpy(x)
    return Program(lambda: layer(inputs), lambda: [layer(inputs)[0].numpy()], t.inference_mode)
