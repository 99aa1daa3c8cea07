"""The benchmark's machinery: contenders that disagree are not timed, and every row's contenders agree."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

pytest.importorskip("bench")

from bench import elementwise, inference, measure, mlp, overhead, rnn
from bench.measure import Outcome, Program, Row
from bench.report import markdown, put_into_readme, shown, table

ROWS = [
    pytest.param(row, id=f"{module.__name__}: {row.name}")
    for module in (overhead, mlp, inference, rnn, elementwise)
    for row in list(module.rows(True))[:3]
]


@pytest.mark.parametrize("row", ROWS)
def test_contenders_agree(row: Row) -> None:
    measure.check_equal(row)


def constant(value: float) -> Program:
    return Program(lambda: None, lambda: [np.full(3, value)])


def test_contenders_that_disagree_are_refused() -> None:
    for wrong in (constant(2.0), constant(float("nan")), Program(lambda: None, lambda: [np.ones(4)])):
        with pytest.raises(ArithmeticError, match="different results"):
            measure.check_equal(Row("t", "n", {"fastgrad": constant(1.0), "NumPy": wrong}))


def test_measures_time_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the contenders move, so that a busy machine cannot fail the test."""
    clock = [0.0]

    def advance(seconds: float) -> Program:
        def step() -> None:
            clock[0] += seconds

        return Program(step, list)

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    row = Row("t", "n", {"fastgrad": advance(1e-3), "PyTorch": advance(3e-3)}, 2.0, 1e6)
    outcome = measure.measure(row, True, lambda: 2.0)
    assert outcome.ratio("PyTorch") == pytest.approx(3) and outcome.met() is True
    assert outcome.median["fastgrad"] == pytest.approx(1e-3) == outcome.best["fastgrad"]
    assert outcome.gflops == pytest.approx(1) and outcome.percent_of_peak == pytest.approx(50)


def test_the_table() -> None:
    outcomes = [
        Outcome("t", "fast", 2.0, {"fastgrad": 1e-6, "PyTorch": 3e-6}),
        Outcome("t", "slow", 4.0, {"fastgrad": 1e-3, "PyTorch": 3e-3}),
        Outcome("t", "broken", 4.0, error="no"),
    ]
    lines = table(outcomes).splitlines()
    assert "3.00" in lines[1] and "met" in lines[1] and "MISSED" in lines[2] and "failed: no" in lines[3]
    assert "| fast | 1 us | 3 us (3.0x) |" in markdown(outcomes, "here")
    assert shown(1.5e-7, "s") == "0.15 us" and shown(0.25, "s") == "250 ms"


def test_only_what_is_between_the_marks_changes(tmp_path: pathlib.Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n")
    put_into_readme("new\n", readme)
    assert readme.read_text() == "a\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nb\n"
