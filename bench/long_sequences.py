"""Peak memory of a training step over long sequences: nn.RNN whole, and checkpointed in pieces of sqrt(T) steps.

The layer (relu, batch 8, 32 inputs, 64 hidden) has a linear readout at every step. Each figure is from a process of its
own, measured as in bench/memory.py, and for fastgrad from its allocator too; the gradients must agree. Also printed:
what the memory grows with, in units of one step's states.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import pathlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import process
from bench.measure import OURS, Outcome
from bench.memory import CLEAR, PACKAGES, resident

BATCH, INPUTS, HIDDEN = 8, 32, 64
STATES = 4 * BATCH * HIDDEN / 1e6  # MB of one step's states
LENGTHS = (1_000, 2_000, 5_000, 10_000, 30_000, 100_000)
QUICK = (500, 2_000)
LONGEST_OF_PEERS = 30_000
WAYS = ("whole", "checkpointed")
TOLERANCE = 1e-3  # of the norm: where a sum is near 0, rounding decides a relu


@dataclass
class Memory(Outcome):
    """MB of resident memory of one step, by package."""

    way: str = ""
    steps: int = 0
    allocated: float = math.nan  # MB, of fastgrad's allocator
    seconds: dict[str, float] = field(default_factory=dict)


def train(t: Any, rnn: Any, head: Any, x: Any, target: Any, way: str) -> None:
    """The gradients of one step. In both ways the state goes through the pieces."""

    def part(x: Any, target: Any, state: Any) -> tuple[Any, Any]:
        y, state = rnn(x, state)
        return ((head(y) - target) ** 2).sum(), state

    steps = x.shape[0]
    size = steps if way == "whole" else math.isqrt(steps)
    loss, state = 0, None
    for first in range(0, steps, size):
        arguments = (x[first : first + size], target[first : first + size], state)
        if way == "whole":
            term, state = part(*arguments)
        else:
            term, state = t.utils.checkpoint.checkpoint(part, *arguments, use_reentrant=False)
        loss = loss + term
    (loss / steps).backward()


def main(package: str, way: str, steps: str, gradients: str) -> None:
    """In a process of its own: prints the figures and leaves the gradients in a file."""
    t = importlib.import_module(package)
    importlib.import_module(f"{package}.utils.checkpoint")
    t.set_num_threads(1)
    random = np.random.default_rng(4)
    rnn, head = t.nn.RNN(INPUTS, HIDDEN, nonlinearity="relu"), t.nn.Linear(HIDDEN, 1)
    parameters = [*rnn.parameters(), *head.parameters()]
    with t.no_grad():
        for p in parameters:
            p.copy_(t.from_numpy(random.uniform(-(HIDDEN**-0.5), HIDDEN**-0.5, tuple(p.shape)).astype(np.float32)))
    x = t.from_numpy(random.standard_normal((int(steps), BATCH, INPUTS), np.float32))
    target = t.from_numpy(random.standard_normal((int(steps), BATCH, 1), np.float32))
    train(t, rnn, head, x[:16], target[:16], way)
    for p in parameters:
        p.grad = None
    held = 0
    if package == "fastgrad":
        t.empty_cache()
        t.reset_peak_memory()
        held = t.memory_stats()["in_use"]
    CLEAR.write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    train(t, rnn, head, x, target, way)
    seconds = time.perf_counter() - start
    figures = {"resident": resident("VmHWM") - before, "seconds": seconds}
    if package == "fastgrad":
        figures["allocated"] = (t.memory_stats()["peak"] - held) / 1e6
    np.savez(gradients, *[p.grad.numpy() for p in parameters])
    print(json.dumps(figures))


def check_gradients(name: str, mine: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(mine, expected, strict=True):
        if not np.linalg.norm(a - b) <= TOLERANCE * np.linalg.norm(b):
            raise ArithmeticError(f"{name}: the gradients differ")


def outcomes(quick: bool) -> list[Memory]:
    packages = {name: p for name, p in PACKAGES.items() if importlib.util.find_spec(p) is not None}
    found = []
    for steps in QUICK if quick else LENGTHS:
        expected: list[np.ndarray] = []
        for way in WAYS:
            outcome = Memory("long_sequences", f"{steps} steps, {way}", {"PyTorch": 1}, unit="MB", way=way, steps=steps)
            for name, package in packages.items():
                if name != OURS and steps > LONGEST_OF_PEERS:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    path = pathlib.Path(folder, "gradients.npz")
                    figures = process.run("bench.long_sequences", package, way, steps, path)
                    with np.load(path) as arrays:
                        gradients = list(arrays.values())
                expected = expected or gradients
                check_gradients(f"{outcome.name}, {name}", gradients, expected)
                outcome.median[name] = outcome.best[name] = figures["resident"]
                outcome.seconds[name] = figures["seconds"]
                outcome.allocated = figures.get("allocated", outcome.allocated)
            found.append(outcome)
    print("\n".join([*details(found), *laws(found)]))
    return found


def details(found: list[Memory]) -> list[str]:
    return [
        f"{o.name}: {o.allocated:.3g} MB allocated; "
        + ", ".join(f"{name} {o.median[name]:.3g} MB resident, {o.seconds[name]:.3g} s" for name in o.median)
        for o in found
    ]


def laws(found: list[Memory]) -> list[str]:
    """Least squares of a + b*T for the whole sequence, a + b*sqrt(T) for the pieces."""
    lines = []
    for way, law in zip(WAYS, ("T", "sqrt(T)"), strict=True):
        chosen = [o for o in found if o.way == way]
        series = {f"{OURS}, allocated": {o.steps: o.allocated for o in chosen}}
        for name in dict.fromkeys(name for o in chosen for name in o.median):
            series[f"{name}, resident"] = {o.steps: o.median[name] for o in chosen if name in o.median}
        for name, points in series.items():
            steps = np.array(list(points), float)
            b, a = np.polyfit(steps if law == "T" else np.sqrt(steps), list(points.values()), 1)
            lines.append(f"{way}, {name}: {a:.2f} MB + {b / STATES:.2f} * (states of one step) * {law}")
    return lines


def draw(outcomes: list[Memory], path: pathlib.Path) -> None:
    """Both axes logarithmic: T has slope 1, sqrt(T) slope 1/2."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for way, line in zip(WAYS, ("-", "--"), strict=True):
        chosen = [o for o in outcomes if o.error is None and o.way == way]
        for name, colour, marker in ((OURS, "C0", "o"), ("PyTorch", "C3", "s")):
            points = [(o.steps, o.median[name]) for o in chosen if name in o.median]
            if points:
                axes.plot(*zip(*points, strict=True), line, color=colour, marker=marker, label=f"{name}, {way}")
        axes.plot(
            [o.steps for o in chosen], [o.allocated for o in chosen], "x", color="black", markersize=5,
            label=None if way == WAYS[0] else f"{OURS}, its allocator's own count",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("steps T")
    axes.set_ylabel("MB beyond data and parameters")
    axes.set_title(f"Peak memory of a training step of nn.RNN: batch {BATCH}, {INPUTS} inputs, {HIDDEN} hidden")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
