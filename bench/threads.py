"""Two threads against one, forward and backward, in a process with two cores: (steps, batch, inputs, hidden).

The target is 1.6 where hidden >= 128 and batch >= 20. Everywhere else two threads must not be slower, which is read
as: not by more than the 3 % by which two equal programs differ from one run to the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import fastgrad
from bench import process, recurrent_layer
from bench.measure import OURS, Outcome, Program, Row, measure
from bench.recurrent_layer import GATES, Size

ONE_THREAD = "one thread"
FASTER, NOT_SLOWER = 1.6, 0.97
VARIANT_SIZES: list[Size] = [(28, 32, 28, 128), (50, 20, 64, 64), (10, 1, 8, 16)]


@contextlib.contextmanager
def thread_count(count: int) -> Iterator[None]:
    before = fastgrad.get_num_threads()
    fastgrad.set_num_threads(count)
    try:
        yield
    finally:
        fastgrad.set_num_threads(before)


def variants(size: Size) -> dict[str, dict[str, Any]]:
    """Other ways to call a layer; the lengths go from all steps down to few."""
    steps, batch, _, _ = size
    lengths = [steps - steps * k // batch for k in range(batch)]
    return {
        "both directions": {"bidirectional": True},
        "unequal lengths": {"lengths": lengths},
        "both, unequal": {"bidirectional": True, "lengths": lengths},
    }


def rows(quick: bool) -> Iterator[Row]:
    layers: list[tuple[str, Size, str, dict[str, Any]]] = [
        (cell, size, "", {}) for cell, size in recurrent_layer.layers(quick)
    ]
    for size in VARIANT_SIZES[:1] if quick else VARIANT_SIZES:
        layers += [(cell, size, f", {name}", o) for cell in GATES for name, o in variants(size).items()]
    for cell, size, variant, options in layers:
        program = recurrent_layer.training(fastgrad, cell, size, **options)
        programs = {
            OURS: Program(program.step, program.result, lambda: thread_count(2)),
            ONE_THREAD: Program(program.step, program.result, lambda: thread_count(1)),
        }
        shared = not variant and size[3] >= 128 and size[1] >= 20
        yield Row(
            "threads",
            f"{cell} {size}{variant}",
            programs,
            {ONE_THREAD: FASTER if shared else NOT_SLOWER},
            tolerance=recurrent_layer.tolerance(cell),
        )


def outcomes(quick: bool) -> list[Outcome]:
    if len(process.CORES) < 2:
        return [Outcome("threads", "two threads", error="this process may use one core only")]
    return [Outcome(**fields) for fields in process.run("bench.threads", quick, threads=2)]


def main(quick: str) -> None:
    print(json.dumps([dataclasses.asdict(measure(row, quick == "True")) for row in rows(quick == "True")]))


if __name__ == "__main__":
    main(*sys.argv[1:])
