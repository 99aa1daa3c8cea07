"""The three cells in JAX, compiled from `lax.scan`, and as ONNX Runtime's RNN, LSTM and GRU.

The scan has the input projections of all steps done; unrolling it by 2 to 10 steps was measured and gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.measure import Program
from bench.peers import jax, onnxruntime
from bench.recurrent_layer import GATES, Array, Size, start

# PyTorch's gates, i f g o and r z n, in ONNX's order: i o f c and z r h
# (https://onnx.ai/onnx/operators/onnx__LSTM.html, https://onnx.ai/onnx/operators/onnx__GRU.html).
ONNX_ORDER = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
ONNX_OPTIONS: dict[str, dict[str, Any]] = {
    "RNN": {"activations": ["Relu"]},
    "LSTM": {},
    "GRU": {"linear_before_reset": 1},
}


def jax_step(cell: str, w_hh: Any, b_hh: Any) -> Callable[[Any, Any], Any]:
    """(state, projected input) -> state; the state's first entry is h."""
    nn, numpy = jax.nn, jax.numpy

    def rnn(state: Any, z: Any) -> Any:
        return (nn.relu(z + state[0] @ w_hh.T),)

    def lstm(state: Any, z: Any) -> Any:
        h, c = state
        i, f, g, o = numpy.split(z + h @ w_hh.T, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * numpy.tanh(g)
        return nn.sigmoid(o) * numpy.tanh(c), c

    def gru(state: Any, z: Any) -> Any:
        (h,) = state
        z_r, z_z, z_n = numpy.split(z, 3, axis=-1)
        h_r, h_z, h_n = numpy.split(h @ w_hh.T + b_hh, 3, axis=-1)
        n = numpy.tanh(z_n + nn.sigmoid(z_r + h_r) * h_n)
        return (n + nn.sigmoid(z_z + h_z) * (h - n),)

    return {"RNN": rnn, "LSTM": lstm, "GRU": gru}[cell]


def jax_project(cell: str, x: Any, w_ih: Any, b_ih: Any, b_hh: Any) -> Any:
    return x @ w_ih.T + (b_ih if cell == "GRU" else b_ih + b_hh)


def jax_outputs(cell: str, hidden: int) -> Callable[[Any, Any], Any]:
    def outputs(params: Any, x: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = params
        advance = jax_step(cell, w_hh, b_hh)

        def body(state: Any, z: Any) -> Any:
            state = advance(state, z)
            return state, state[0]

        zeros = jax.numpy.zeros((x.shape[1], hidden), x.dtype)
        initial = (zeros, zeros) if cell == "LSTM" else (zeros,)
        return jax.lax.scan(body, initial, jax_project(cell, x, w_ih, b_ih, b_hh))[1]

    return outputs


def jax_training(cell: str, size: Size) -> Program:
    x, dy, values = start(cell, size)
    outputs = jax_outputs(cell, size[3])

    @jax.jit
    def both(params: Any, inputs: Any, cotangent: Any) -> Any:
        y, pull = jax.vjp(lambda p: outputs(p, inputs), params)
        return y, pull(cotangent)[0]

    operands = jax.tree.map(jax.numpy.asarray, (values, x, dy))

    def step() -> Any:
        return jax.block_until_ready(both(*operands))

    def result() -> list[Any]:
        y, gradients = step()
        return [y, *gradients]

    return Program(step, result)


def jax_forward(cell: str, size: Size) -> Program:
    x, _, values = start(cell, size)
    outputs = jax.jit(jax_outputs(cell, size[3]))
    operands = jax.tree.map(jax.numpy.asarray, (values, x))
    return Program(lambda: outputs(*operands).block_until_ready(), lambda: [outputs(*operands)])


def jax_streaming(cell: str, size: Size, count: int) -> Program:
    x, _, values = start(cell, size)
    params, inputs = jax.tree.map(jax.numpy.asarray, (values, x[0]))
    zeros = jax.numpy.zeros((1, size[3]), inputs.dtype)
    initial = (zeros, zeros) if cell == "LSTM" else (zeros,)

    @jax.jit
    def advance(params: Any, x_t: Any, state: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = params
        return jax_step(cell, w_hh, b_hh)(state, jax_project(cell, x_t, w_ih, b_ih, b_hh))

    kept = [initial]

    def step() -> None:
        kept[0] = jax.block_until_ready(advance(params, inputs, kept[0]))

    def result() -> list[Any]:
        kept[0] = initial
        for _ in range(count):
            step()
        return [kept[0][0]]

    return Program(step, result)


def onnx_session(cell: str, size: Size, values: list[Array], stateful: bool) -> Any:
    """Inputs X and, if stateful, h (and c); outputs Y or the states."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    steps, batch, inputs, hidden = size
    gates, order = GATES[cell], ONNX_ORDER[cell]
    w_ih, w_hh, b_ih, b_hh = (v.reshape(gates, hidden, -1)[order].reshape(gates * hidden, -1) for v in values)
    bias = np.concatenate([b_ih, b_hh]).reshape(1, -1)
    initializers = [numpy_helper.from_array(v, n) for v, n in ((w_ih[None], "W"), (w_hh[None], "R"), (bias, "B"))]
    states = (["h", "c"] if cell == "LSTM" else ["h"]) if stateful else []
    outputs = ["", *(f"{state}_n" for state in states)] if stateful else ["Y"]
    names = ["X", "W", "R", "B", "", *states] if stateful else ["X", "W", "R", "B"]
    node = helper.make_node(cell, names, outputs, hidden_size=hidden, **ONNX_OPTIONS[cell])

    def described(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        cell,
        [described("X", [steps, batch, inputs]), *(described(s, [1, batch, hidden]) for s in states)],
        [described(f"{s}_n", [1, batch, hidden]) for s in states] or [described("Y", [steps, 1, batch, hidden])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def onnx_array(*shape: int, values: Array | None = None) -> Any:
    """Memory of ONNX Runtime's own: what is made from a NumPy array refers to the array's."""
    found = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    found.update_inplace(np.zeros(shape, np.float32) if values is None else values)
    return found


def onnx_forward(cell: str, size: Size) -> Program:
    """Input and output are bound to the session once, which saves two copies a call."""
    x, _, values = start(cell, size)
    steps, batch, _, hidden = size
    session = onnx_session(cell, size, values, False)
    y, bound = onnx_array(steps, 1, batch, hidden), session.io_binding()
    bound.bind_ortvalue_input("X", onnx_array(*x.shape, values=x))
    bound.bind_ortvalue_output("Y", y)
    return Program(lambda: session.run_with_iobinding(bound), lambda: [y.numpy()[:, 0]])


def onnx_streaming(cell: str, size: Size, count: int) -> Program:
    """Two sets of states in turns, each bound as what the other's step writes: half the time of passing arrays."""
    x, _, values = start(cell, size)
    session = onnx_session(cell, size, values, True)
    names = ["h", "c"] if cell == "LSTM" else ["h"]
    zeros = np.zeros((1, 1, size[3]), np.float32)
    inputs, states = onnx_array(*x.shape, values=x), [{n: onnx_array(*zeros.shape) for n in names} for _ in range(2)]
    bound = [session.io_binding() for _ in range(2)]
    for binding, before, after in zip(bound, states, states[::-1], strict=True):
        binding.bind_ortvalue_input("X", inputs)
        for name in names:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"{name}_n", after[name])
    turn = 0

    def step() -> None:
        nonlocal turn
        session.run_with_iobinding(bound[turn])
        turn ^= 1

    def result() -> list[Any]:
        for held in states[turn].values():
            held.update_inplace(zeros)
        for _ in range(count):
            step()
        return [states[turn]["h"].numpy()[0]]

    return Program(step, result)
