"""How a row is measured: every program first proves that it computes the same, then all take turns."""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OURS = "fastgrad"
BY = ("median", "best")
# The processor's time of this process leaves out what other processes take of a shared core.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
clock = CLOCKS["wall"]


@dataclass
class Program:
    """One contender: `step` is what is timed, `result` gives the arrays that the contenders must agree on.

    `context` (a `no_grad`, a number of threads) is entered once around many steps and is not timed.
    """

    step: Callable[[], Any]
    result: Callable[[], Sequence[Any]]
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


@dataclass
class Row:
    topic: str
    name: str
    programs: dict[str, Program]
    targets: dict[str, float] = field(default_factory=dict)  # peer: how many times faster than it at least
    flops: float | None = None  # per step
    percent: float | None = None  # of the sgemm peak, at least
    tolerance: float = 1e-5  # of the norm


@dataclass
class Outcome:
    """What was measured of a row. A target is met in the median repetition, or in the best one."""

    topic: str
    name: str
    targets: dict[str, float] = field(default_factory=dict)
    median: dict[str, float] = field(default_factory=dict)  # seconds per step, or `unit`
    best: dict[str, float] = field(default_factory=dict)
    flops: float | None = None
    peak: dict[str, float] = field(default_factory=dict)  # GFLOP/s of sgemm between the repetitions, median and best
    percent: float | None = None
    limit: float | None = None  # for the rows that are not timed in steps: at most this
    unit: str = "s"
    error: str | None = None

    def of(self, by: str) -> dict[str, float]:
        return self.median if by == "median" else self.best

    def ratio(self, peer: str, by: str = "median") -> float | None:
        """How many times ours the peer takes; None where ours is nothing."""
        measured = self.of(by)
        return measured[peer] / measured[OURS] if peer in measured and measured.get(OURS) else None

    def percent_of_peak(self, name: str = OURS, by: str = "median") -> float | None:
        if self.flops is None or name not in self.of(by):
            return None
        return 100 * self.flops / self.of(by)[name] / (1e9 * self.peak[by])

    def missed(self, by: str = "median") -> list[str]:
        """The targets that are not reached: peers, "sgemm" for the percentage, "limit"."""
        found = []
        for peer, target in self.targets.items():
            ratio = self.ratio(peer, by)
            if ratio is not None and ratio < target:
                found.append(peer)
        percent = self.percent_of_peak(by=by)
        if self.percent is not None and percent is not None and percent < self.percent:
            found.append("sgemm")
        if self.limit is not None and self.of(by).get(OURS, 0.0) > self.limit:
            found.append("limit")
        return found

    def has_target(self) -> bool:
        return self.limit is not None or self.percent is not None or any(p in self.median for p in self.targets)

    def record(self) -> dict[str, Any]:
        """Everything measured and concluded, for the JSON."""
        return {
            "topic": self.topic, "name": self.name, "unit": self.unit, "error": self.error,
            "median": self.median, "best": self.best, "flops": self.flops, "sgemm_gflops": self.peak,
            "ratio": {by: {peer: self.ratio(peer, by) for peer in self.of(by)} for by in BY},
            "percent_of_peak": {
                by: {n: self.percent_of_peak(n, by) for n in self.of(by)} for by in BY if self.flops is not None
            },
            "target": {"ratio": self.targets, "percent_of_peak": self.percent, "limit": self.limit},
            "missed": {by: self.missed(by) for by in BY},
        }  # fmt: skip


def check_equal(row: Row) -> None:
    """One step each; the results must agree in norm: float32's rounding may switch a single relu among millions."""
    results = {}
    for name, program in row.programs.items():
        with program.context():
            program.step()
            results[name] = [np.array(a, np.float64) for a in program.result()]
    for name, arrays in results.items():
        for mine, other in zip(results[OURS], arrays, strict=True):
            if mine.shape != other.shape or not np.linalg.norm(mine - other) <= row.tolerance * np.linalg.norm(other):
                raise ArithmeticError(f"{row.name}: {OURS} and {name} compute different results")


def seconds_for(step: Callable[[], Any], count: int) -> float:
    start = clock()
    for _ in itertools.repeat(None, count):
        step()
    return clock() - start


def steps_within(step: Callable[[], Any], seconds: float) -> int:
    """How many steps take about `seconds`."""
    count = 1
    while True:
        taken = seconds_for(step, count)
        if taken >= seconds / 4 or count >= 1 << 20:
            return max(1, round(count * seconds / max(taken, 1e-9)))
        count *= 4


def repeat(programs: dict[str, Program], quick: bool) -> dict[str, list[float]]:
    """Seconds per step of interleaved repetitions: whatever slows the machine for a while slows all contenders."""
    slice_seconds, repetitions = (0.01, 5) if quick else (0.04, 15)
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for name, program in programs.items():
        with program.context():
            counts[name] = steps_within(program.step, slice_seconds)
    names = list(programs)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for repetition in range(repetitions):
            for k in range(len(names)):
                name = names[(k + repetition) % len(names)]
                with programs[name].context():
                    times[name].append(seconds_for(programs[name].step, counts[name]) / counts[name])
    finally:
        if enabled:
            gc.enable()
    return times


def measure(row: Row, quick: bool) -> Outcome:
    """The row's programs in turns and, where the arithmetic is counted, a large square sgemm as one of them."""
    check_equal(row)
    outcome = Outcome(row.topic, row.name, row.targets, flops=row.flops, percent=row.percent)
    programs = row.programs if row.flops is None else {**row.programs, "sgemm": sgemm()}
    times = repeat(programs, quick)
    for by, choose in (("median", statistics.median), ("best", min)):
        outcome.of(by).update({name: choose(times[name]) for name in row.programs})
        if row.flops is not None:
            outcome.peak[by] = SGEMM_FLOPS / choose(times["sgemm"]) / 1e9
    return outcome


SGEMM_SIZE = 1536  # of the squares from 256 to 2048 the fastest, by up to 9 %
SGEMM_FLOPS = 2 * SGEMM_SIZE**3


def sgemm() -> Program:
    """The square product of the BLAS that NumPy carries: its speed is a row's 100 %."""
    a, b = (np.random.default_rng(k).normal(size=(SGEMM_SIZE, SGEMM_SIZE)).astype(np.float32) for k in range(2))
    out = np.empty_like(a)
    return Program(lambda: np.dot(a, b, out=out), lambda: [out])
