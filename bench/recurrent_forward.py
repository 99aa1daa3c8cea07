"""A recurrent layer applied to whole sequences without recording: (steps, batch, inputs, hidden)."""

from __future__ import annotations

from collections.abc import Iterator

from bench import recurrent_compiled, recurrent_layer, recurrent_numpy
from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax, onnxruntime
from bench.recurrent import TARGETS
from bench.recurrent_layer import Size


def contenders(cell: str, size: Size) -> dict[str, Program]:
    programs = {peer: recurrent_layer.forward(t, cell, size) for peer, t in FRAMEWORKS.items()}
    programs["NumPy"] = recurrent_numpy.layer(cell, size, training=False)
    if jax is not None:
        programs["JAX"] = recurrent_compiled.jax_forward(cell, size)
    if onnxruntime is not None:
        programs["ONNX Runtime"] = recurrent_compiled.onnx_forward(cell, size)
    return programs


def rows(quick: bool) -> Iterator[Row]:
    for cell, size in recurrent_layer.layers(quick):
        yield Row(
            "recurrent_forward",
            f"{cell} {size}",
            contenders(cell, size),
            {"PyTorch": 1, "NumPy": 1, "JAX": 1, "ONNX Runtime": 1},
            recurrent_layer.forward_flops(cell, size),
            TARGETS[cell, size][0],
            recurrent_layer.tolerance(cell),
        )
