"""The network applied to one sample without recording."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax, onnxruntime

Array = np.ndarray
SIZES: list[tuple[str, tuple[int, ...], float]] = [
    ("4-16-2", (4, 16, 2), 5.0),
    ("64-32-10", (64, 32, 10), 5.0),
    ("784-128-10", (784, 128, 10), 2.5),
    ("64-(8 layers of 64)-10", (64, *[64] * 8, 10), 8.0),
]


def start(widths: tuple[int, ...]) -> tuple[Array, list[tuple[Array, Array]]]:
    random = np.random.default_rng(1)
    layers = []
    for n, m in itertools.pairwise(widths):
        scale = (3 / n) ** 0.5
        layers.append(tuple(random.uniform(-scale, scale, s).astype(np.float32) for s in ((m, n), (m,))))
    return random.normal(size=(1, widths[0])).astype(np.float32), layers  # type: ignore[return-value]


def framework(t: Any, widths: tuple[int, ...]) -> Program:
    x, layers = start(widths)
    modules: list[Any] = []
    for w, b in layers:
        linear = t.nn.Linear(w.shape[1], w.shape[0])
        with t.no_grad():
            linear.weight.copy_(t.from_numpy(w))
            linear.bias.copy_(t.from_numpy(b))
        modules += [linear, t.nn.ReLU()]
    model, inputs = t.nn.Sequential(*modules[:-1]), t.from_numpy(x)
    kept: list[Any] = [None]

    def step() -> None:
        with t.no_grad():
            kept[0] = model(inputs)

    return Program(step, lambda: [kept[0].numpy()])


def numpy_by_hand(widths: tuple[int, ...]) -> Program:
    x, layers = start(widths)
    buffers = [np.empty((1, w.shape[0]), np.float32) for w, _ in layers]
    plan = [(np.ascontiguousarray(w.T), b, out) for (w, b), out in zip(layers, buffers, strict=True)]
    hidden, (w_last, b_last, last) = plan[:-1], plan[-1]
    dot, add, maximum = np.dot, np.add, np.maximum

    def step() -> None:
        h = x
        for w, b, out in hidden:
            dot(h, w, out=out)
            add(out, b, out=out)
            maximum(out, 0, out=out)
            h = out
        dot(h, w_last, out=last)
        add(last, b_last, out=last)

    return Program(step, lambda: [last])


def jax_compiled(widths: tuple[int, ...]) -> Program:
    x, layers = start(widths)

    @jax.jit
    def model(params: Any, h: Any) -> Any:
        for w, b in params[:-1]:
            h = jax.nn.relu(h @ w.T + b)
        w, b = params[-1]
        return h @ w.T + b

    params = [tuple(map(jax.numpy.asarray, layer)) for layer in layers]
    inputs = jax.numpy.asarray(x)
    return Program(lambda: model(params, inputs).block_until_ready(), lambda: [model(params, inputs)])


def onnx_runtime(widths: tuple[int, ...]) -> Program:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x, layers = start(widths)
    nodes, initializers, name = [], [], "x"
    for k, (w, b) in enumerate(layers):
        initializers += [numpy_helper.from_array(w, f"w{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"], transB=1))
        name = f"z{k}"
        if k + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [name], [f"h{k}"]))
            name = f"h{k}"
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, width])
        for n, width in (("x", widths[0]), (name, widths[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed, names = {"x": x}, [name]
    return Program(lambda: session.run(names, feed), lambda: session.run(names, feed))


def rows(quick: bool) -> Iterator[Row]:
    for name, widths, target in SIZES:
        programs = {peer: framework(t, widths) for peer, t in FRAMEWORKS.items()}
        programs["NumPy"] = numpy_by_hand(widths)
        if jax is not None:
            programs["JAX"] = jax_compiled(widths)
        if onnxruntime is not None:
            programs["ONNX Runtime"] = onnx_runtime(widths)
        yield Row("inference", f"one sample, {name}", programs, {"PyTorch": target})
