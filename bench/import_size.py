"""Seconds that importing takes beyond importing NumPy, and megabytes that the package occupies on disk."""

from __future__ import annotations

import importlib.util
import pathlib
import statistics
import subprocess
import sys

from bench.measure import Outcome

MODULES = {
    "fastgrad": ("fastgrad",),
    "PyTorch": ("torch",),
    "JAX": ("jax", "jaxlib"),
    "ONNX Runtime": ("onnxruntime",),
}


def import_seconds(module: str, repetitions: int) -> list[float]:
    program = f"import time, numpy; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", program]
    return [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repetitions)
    ]


def megabytes(module: str) -> float:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    root = pathlib.Path(spec.origin).parent
    return sum(p.stat().st_size for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts) / 1e6


def outcomes(quick: bool) -> list[Outcome]:
    seconds = Outcome("import_size", "import beyond NumPy", limit=0.060)
    size = Outcome("import_size", "installed size beyond NumPy", limit=8.0, unit="MB")
    for peer, modules in MODULES.items():
        if importlib.util.find_spec(modules[0]) is None:
            continue
        times = import_seconds(modules[0], 3 if quick else 9)
        seconds.median[peer], seconds.best[peer] = statistics.median(times), min(times)
        size.median[peer] = size.best[peer] = sum(megabytes(module) for module in modules)
    return [seconds, size]
