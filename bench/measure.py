"""How a row is measured: every program first proves that it computes the same, then all take turns."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OURS = "fastgrad"


@dataclass
class Program:
    """One contender: `step` is what is timed, `result` gives the arrays that the contenders must agree on."""

    step: Callable[[], Any]
    result: Callable[[], Sequence[Any]]


@dataclass
class Row:
    topic: str
    name: str
    programs: dict[str, Program]
    target: float | None = None  # how many times faster than PyTorch at least
    flops: float | None = None  # per step
    tolerance: float = 1e-5  # of the norm


@dataclass
class Outcome:
    topic: str
    name: str
    target: float | None
    median: dict[str, float] = field(default_factory=dict)  # seconds per step
    best: dict[str, float] = field(default_factory=dict)
    gflops: float | None = None
    percent_of_peak: float | None = None
    limit: float | None = None  # for the rows that are not timed in steps: at most this
    unit: str = "s"
    error: str | None = None

    def ratio(self, peer: str) -> float | None:
        return self.median[peer] / self.median[OURS] if peer in self.median and OURS in self.median else None

    def use_best(self) -> None:
        """Compare the best repetitions instead of the median ones."""
        if self.gflops is not None and self.percent_of_peak is not None:
            gain = self.median[OURS] / self.best[OURS]
            self.gflops, self.percent_of_peak = self.gflops * gain, self.percent_of_peak * gain
        self.median = self.best

    def met(self) -> bool | None:
        if self.limit is not None and OURS in self.median:
            return self.median[OURS] <= self.limit
        ratio = self.ratio("PyTorch")
        return None if self.target is None or ratio is None else ratio >= self.target


def check_equal(row: Row) -> None:
    """One step each; the results must agree in norm: float32's rounding may switch a single relu among millions."""
    results = {}
    for name, program in row.programs.items():
        program.step()
        results[name] = [np.asarray(a, np.float64) for a in program.result()]
    for name, arrays in results.items():
        for mine, other in zip(results[OURS], arrays, strict=True):
            if mine.shape != other.shape or not np.linalg.norm(mine - other) <= row.tolerance * np.linalg.norm(other):
                raise ArithmeticError(f"{row.name}: {OURS} and {name} compute different results")


def seconds_for(step: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, count):
        step()
    return time.perf_counter() - start


def steps_within(step: Callable[[], Any], seconds: float) -> int:
    """How many steps take about `seconds`."""
    count = 1
    while True:
        taken = seconds_for(step, count)
        if taken >= seconds / 4 or count >= 1 << 20:
            return max(1, round(count * seconds / max(taken, 1e-9)))
        count *= 4


def measure(row: Row, quick: bool, peak: Callable[[], float]) -> Outcome:
    """Interleaved repetitions: whatever slows the machine down for a while slows all contenders down."""
    check_equal(row)
    outcome = Outcome(row.topic, row.name, row.target)
    slice_seconds, repetitions = (0.01, 5) if quick else (0.04, 15)
    counts = {name: steps_within(program.step, slice_seconds) for name, program in row.programs.items()}
    times: dict[str, list[float]] = {name: [] for name in row.programs}
    names = list(row.programs)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for repetition in range(repetitions):
            for k in range(len(names)):
                name = names[(k + repetition) % len(names)]
                times[name].append(seconds_for(row.programs[name].step, counts[name]) / counts[name])
    finally:
        if enabled:
            gc.enable()
    outcome.median = {name: statistics.median(t) for name, t in times.items()}
    outcome.best = {name: min(t) for name, t in times.items()}
    if row.flops is not None:
        outcome.gflops = row.flops / outcome.median[OURS] / 1e9
        outcome.percent_of_peak = 100 * outcome.gflops / peak()
    return outcome


def sgemm_peak() -> float:
    """GFLOP/s of the BLAS that NumPy carries on a square product of 1024, best of several: the run's 100 %."""
    n = 1024
    a, b = (np.random.default_rng(k).normal(size=(n, n)).astype(np.float32) for k in range(2))
    out = np.empty((n, n), np.float32)
    return 2 * n**3 / min(seconds_for(lambda: np.dot(a, b, out=out), 1) for _ in range(10)) / 1e9
