"""Functions of a million float32 into a new output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import Program, Row
from bench.peers import FRAMEWORKS, jax

SIZE = 1_000_000


def program(function: Any, operands: list[Any], wait: bool = False) -> Program:
    if wait:
        return Program(lambda: function(*operands).block_until_ready(), lambda: [function(*operands)])
    return Program(lambda: function(*operands), lambda: [np.asarray(function(*operands))])


def rows(quick: bool) -> Iterator[Row]:
    random = np.random.default_rng(3)
    a, b = (random.normal(size=SIZE).astype(np.float32) for _ in range(2))
    for name, count, target in [("add", 2, 1.0), ("relu", 1, 1.0), ("exp", 1, 2.0), ("tanh", 1, 6.0)]:
        operands = [a, b][:count]
        by_hand = {"relu": lambda x: np.maximum(x, 0)}.get(name) or getattr(np, name)
        programs = {
            peer: program(getattr(t, name), [t.from_numpy(o) for o in operands]) for peer, t in FRAMEWORKS.items()
        }
        programs["NumPy"] = program(by_hand, operands)
        if jax is not None:
            function = jax.jit(jax.nn.relu if name == "relu" else getattr(jax.numpy, name))
            programs["JAX"] = program(function, [jax.numpy.asarray(o) for o in operands], wait=True)
        yield Row("elementwise", f"{name} of 1e6 float32", programs, {"PyTorch": target}, tolerance=1e-6)
