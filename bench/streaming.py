"""One step of one sequence, the state kept by the caller: inputs = hidden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import recurrent_compiled, recurrent_numpy
from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax, onnxruntime
from bench.recurrent_layer import GATES, Size, module, start

HIDDEN = {16: 10.0, 64: 8.0, 256: 4.0}  # and how many times faster than PyTorch
STEPS = 10  # after which the contenders' states are compared


def layer(t: Any, cell: str, size: Size) -> Program:
    """nn.RNN, nn.LSTM or nn.GRU called with a sequence of one step."""
    x, _, values = start(cell, size)
    network, inputs = module(t, cell, size, values), t.from_numpy(x)
    zeros = t.zeros(1, 1, size[3])
    return advanced(t, lambda state: network(inputs, state)[1], (zeros, zeros) if cell == "LSTM" else zeros)


def single(t: Any, cell: str, size: Size) -> Program:
    """nn.RNNCell, nn.LSTMCell or nn.GRUCell."""
    x, _, values = start(cell, size)
    network, inputs = module(t, cell + "Cell", size, values), t.from_numpy(x[0])
    zeros = t.zeros(1, size[3])
    return advanced(t, lambda state: network(inputs, state), (zeros, zeros) if cell == "LSTM" else zeros)


def advanced(t: Any, advance: Any, initial: Any) -> Program:
    kept = [initial]

    def step() -> None:
        kept[0] = advance(kept[0])

    def result() -> list[Any]:
        kept[0] = initial
        for _ in range(STEPS):
            step()
        h = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        return [h.numpy().reshape(1, -1)]

    return Program(step, result, t.inference_mode)


def contenders(cell: str, hidden: int) -> dict[str, Program]:
    size = (1, 1, hidden, hidden)
    programs = {peer: layer(t, cell, size) for peer, t in FRAMEWORKS.items()}
    programs["NumPy"] = recurrent_numpy.streaming(cell, size, STEPS)
    if jax is not None:
        programs["JAX"] = recurrent_compiled.jax_streaming(cell, size, STEPS)
    if onnxruntime is not None:
        programs["ONNX Runtime"] = recurrent_compiled.onnx_streaming(cell, size, STEPS)
    return programs


def rows(quick: bool) -> Iterator[Row]:
    for cell in GATES:
        for hidden, faster in HIDDEN.items():
            targets = {"PyTorch": faster, "NumPy": 1, "JAX": 1, "ONNX Runtime": 1}
            yield Row("streaming", f"{cell}, H = {hidden}", contenders(cell, hidden), targets)
    for cell in GATES:
        for hidden, faster in HIDDEN.items():
            programs = {peer: single(t, cell, (1, 1, hidden, hidden)) for peer, t in FRAMEWORKS.items()}
            yield Row("streaming", f"{cell}Cell, H = {hidden}", programs, {"PyTorch": faster})
