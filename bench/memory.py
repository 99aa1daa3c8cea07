"""Peak memory of a training step (forward and backward): (steps, batch, inputs, hidden).

Each figure is from a process of its own: it imports the package, takes a step of a tiny layer of the same kind, builds
the layer and its data, asks Linux to forget the highest resident set so far (/proc/self/clear_refs), takes three steps
and reports by how much the highest resident set (VmHWM) is above the resident set before them.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import pathlib
import re
import statistics
import sys

from bench import process, recurrent_layer
from bench.measure import OURS, Outcome

PACKAGES = {OURS: "fastgrad", "PyTorch": "torch"}
STATUS, CLEAR = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def resident(field: str) -> float:
    """VmRSS, the resident set, or VmHWM, its highest, in MB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main(package: str, cell: str, *sizes: str) -> None:
    t = importlib.import_module(package)
    t.set_num_threads(1)
    recurrent_layer.training(t, cell, (2, 1, 4, 4)).step()
    steps, batch, inputs, hidden = map(int, sizes)
    program = recurrent_layer.training(t, cell, (steps, batch, inputs, hidden))
    gc.collect()
    if hasattr(t, "empty_cache"):
        t.empty_cache()  # what fastgrad keeps of freed memory would hide as much of what the step takes
    CLEAR.write_text("5")
    before = resident("VmRSS")
    for _ in range(3):
        program.step()
    print(json.dumps(resident("VmHWM") - before))


def outcomes(quick: bool) -> list[Outcome]:
    found = []
    layers = recurrent_layer.layers(quick)
    for cell, size in layers[:: len(layers) // 3] if quick else layers:
        outcome = Outcome("memory", f"{cell} {size}", {"PyTorch": 1}, unit="MB")
        for name, package in PACKAGES.items():
            if importlib.util.find_spec(package) is not None:
                figures = [process.run("bench.memory", package, cell, *size) for _ in range(1 if quick else 3)]
                outcome.median[name], outcome.best[name] = statistics.median(figures), min(figures)
        found.append(outcome)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
