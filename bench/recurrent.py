"""A recurrent layer forward and backward over whole sequences: (steps, batch, inputs, hidden)."""

from __future__ import annotations

from collections.abc import Iterator

from bench import recurrent_compiled, recurrent_layer, recurrent_numpy
from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax
from bench.recurrent_layer import Size

# Of the sgemm peak, and against PyTorch (whose LSTM is oneDNN's fused one).
TARGETS: dict[tuple[str, Size], tuple[float | None, float]] = {
    ("RNN", (28, 32, 28, 128)): (82, 1.8),
    ("RNN", (28, 100, 28, 128)): (82, 1.8),
    ("RNN", (50, 20, 64, 64)): (80, 5),
    ("RNN", (100, 20, 128, 256)): (88, 1.5),
    ("RNN", (35, 20, 200, 200)): (88, 1.5),
    ("RNN", (35, 64, 512, 512)): (90, 1.1),
    ("RNN", (100, 32, 1024, 1024)): (90, 1.1),
    ("RNN", (200, 16, 32, 32)): (65, 9),
    ("RNN", (10, 1, 8, 16)): (None, 40),
    ("LSTM", (28, 32, 28, 128)): (80, 1.1),
    ("LSTM", (50, 20, 64, 64)): (76, 1.1),
    ("LSTM", (35, 20, 200, 200)): (88, 1.05),
    ("LSTM", (35, 64, 512, 512)): (92, 1.0),
    ("GRU", (28, 32, 28, 128)): (76, 2),
    ("GRU", (50, 20, 64, 64)): (72, 3.7),
    ("GRU", (35, 20, 200, 200)): (86, 1.4),
    ("GRU", (35, 64, 512, 512)): (91, 1.05),
}


CELL_LOOP: tuple[Size, float] = ((50, 20, 64, 64), 6)


def contenders(cell: str, size: Size) -> dict[str, Program]:
    programs = {peer: recurrent_layer.training(t, cell, size) for peer, t in FRAMEWORKS.items()}
    programs["NumPy"] = recurrent_numpy.layer(cell, size, training=True)
    if jax is not None:
        programs["JAX"] = recurrent_compiled.jax_training(cell, size)
    return programs


def rows(quick: bool) -> Iterator[Row]:
    for cell, size in recurrent_layer.layers(quick):
        percent, faster = TARGETS[cell, size]
        yield Row(
            "recurrent",
            f"{cell} {size}",
            contenders(cell, size),
            {"PyTorch": faster, "NumPy": 1, "JAX": 1},
            recurrent_layer.training_flops(cell, size),
            percent,
            recurrent_layer.tolerance(cell),
        )
    size, faster = CELL_LOOP
    programs = {peer: recurrent_layer.cell_loop(t, size) for peer, t in FRAMEWORKS.items()}
    programs["NumPy"] = recurrent_numpy.layer("RNN", size, training=True)
    yield Row(
        "recurrent",
        f"RNNCell in a loop {size}",
        programs,
        {"PyTorch": faster},
        recurrent_layer.training_flops("RNN", size),
        tolerance=recurrent_layer.tolerance("RNN"),
    )
