"""The benchmark's machinery: contenders that disagree are not timed, and every row's contenders agree."""

from __future__ import annotations

import itertools
import json
import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("bench")

from bench import (
    elementwise,
    hidden_sizes,
    inference,
    measure,
    memory,
    mlp,
    overhead,
    process,
    recurrent,
    recurrent_forward,
    recurrent_layer,
    report,
    saturated,
    streaming,
    threads,
)
from bench.measure import Outcome, Program, Row
from bench.recurrent_layer import GATES, Size

ROWS = [
    pytest.param(row, id=f"{module.__name__}: {row.name}")
    for module in (overhead, mlp, inference, elementwise)
    for row in itertools.islice(module.rows(True), 3)
]


@pytest.mark.parametrize("row", ROWS)
def test_contenders_agree(row: Row) -> None:
    measure.check_equal(row)


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("size", [(6, 3, 4, 5), (1, 2, 3, 4)])
@pytest.mark.parametrize("topic", [recurrent, recurrent_forward])
def test_recurrent_contenders_agree(topic: object, cell: str, size: Size) -> None:
    programs = topic.contenders(cell, size)  # type: ignore[attr-defined]
    assert {"fastgrad", "NumPy"} <= set(programs)
    measure.check_equal(Row("t", cell, programs))


@pytest.mark.parametrize("cell", GATES)
def test_streaming_contenders_agree(cell: str) -> None:
    programs = streaming.contenders(cell, 5)
    for name, t in streaming.FRAMEWORKS.items():
        programs[f"{name}, cell"] = streaming.single(t, cell, (1, 1, 5, 5))
    measure.check_equal(Row("t", cell, programs))


def test_every_layer_has_targets_and_two_threads_compute_what_one_does() -> None:
    assert set(recurrent.TARGETS) == set(recurrent_layer.layers())
    rows = list(threads.rows(True))
    assert {row.targets["one thread"] for row in rows} == {threads.FASTER, threads.NOT_SLOWER}
    for row in rows[-9:]:  # both directions, unequal lengths
        measure.check_equal(row)


@pytest.mark.parametrize("cell", GATES)
def test_gradients_fade_in_the_one_and_not_in_the_other(cell: str) -> None:
    _, cotangents = saturated.data()
    assert saturated.below_normal(cell, cotangents["fading"]) > 0.2
    assert saturated.below_normal(cell, cotangents["healthy"]) == 0


@pytest.mark.parametrize("cell", GATES)
def test_counted_arithmetic_is_that_of_the_products(cell: str) -> None:
    """T = 1 has the input's products alone; a step more adds those with the state."""
    gates, batch, inputs, hidden = GATES[cell], 2, 3, 5
    projection, recurrence = 2 * batch * inputs * gates * hidden, 2 * batch * hidden * gates * hidden
    assert recurrent_layer.training_flops(cell, (1, batch, inputs, hidden)) == 2 * projection
    assert recurrent_layer.training_flops(cell, (2, batch, inputs, hidden)) == 4 * projection + 3 * recurrence
    assert recurrent_layer.forward_flops(cell, (2, batch, inputs, hidden)) == 2 * projection + recurrence


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="the resident set is read from Linux's /proc")
def test_memory_is_that_of_the_step() -> None:
    """The outputs of 1,000 steps of 64 sequences of 64 alone are 16 MB; three steps hold them and little more."""
    found = process.run("bench.memory", "fastgrad", "RNN", 1000, 64, 8, 64)
    assert 16.3 <= found <= 80


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"No module named bench\.absent"):
        process.run("bench.absent")


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

    monkeypatch.setattr(measure, "clock", lambda: clock[0])
    monkeypatch.setattr(measure, "sgemm", lambda: advance(measure.SGEMM_FLOPS / 2e9))
    row = Row("t", "n", {"fastgrad": advance(1e-3), "PyTorch": advance(4e-3)}, {"PyTorch": 2.0}, 1e6, 51.0)
    outcome = measure.measure(row, True)
    for by in measure.BY:
        assert outcome.ratio("PyTorch", by) == pytest.approx(4)
        assert outcome.of(by)["fastgrad"] == pytest.approx(1e-3) and outcome.peak[by] == pytest.approx(2)
        assert outcome.percent_of_peak(by=by) == pytest.approx(50)
        assert outcome.percent_of_peak("PyTorch", by) == pytest.approx(12.5)
        assert outcome.missed(by) == ["sgemm"]
    record = json.loads(json.dumps(outcome.record()))
    assert record["ratio"]["best"]["PyTorch"] == pytest.approx(4) and record["missed"]["median"] == ["sgemm"]


OUTCOMES = [
    Outcome("t", "fast", {"PyTorch": 2.0}, {"fastgrad": 1e-6, "PyTorch": 3e-6}, {"fastgrad": 1e-6, "PyTorch": 2e-6}),
    Outcome("t", "slow", {"PyTorch": 4.0}, {"fastgrad": 1e-3, "PyTorch": 3e-3}, {"fastgrad": 1e-3, "PyTorch": 5e-3}),
    Outcome("t", "large", median={"fastgrad": 9.0}, best={"fastgrad": 7.0}, limit=8.0, unit="MB"),
    Outcome("t", "broken", {"PyTorch": 4.0}, error="no"),
]


def test_the_table() -> None:
    lines = report.table(OUTCOMES).splitlines()
    assert "3.00x (2.00x)" in lines[1] and lines[1].endswith("2.00x  met")
    assert lines[2].endswith("4.00x  MISSED: PyTorch") and lines[3].endswith("< 8 MB  MISSED: limit")
    assert "failed: no" in lines[4]
    best = report.table(OUTCOMES, "best").splitlines()
    assert "5.00x (3.00x)" in best[2] and best[2].endswith("met") and best[3].endswith("met")
    assert report.shown(1.5e-7, "s") == "0.15 us" and report.shown(0.25, "s") == "250 ms"


def test_what_takes_nothing_has_no_ratio() -> None:
    nothing = Outcome("t", "n", {"PyTorch": 1.0}, {"fastgrad": 0.0, "PyTorch": 0.1}, unit="MB")
    assert nothing.ratio("PyTorch") is None and nothing.missed() == []


def test_what_a_run_writes(tmp_path: pathlib.Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "RESULTS.md"
    readme.write_text("a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n")
    layer = Outcome("recurrent", "RNN", {}, {"fastgrad": 1e-3}, {"fastgrad": 1e-3}, 5e5, {"median": 1.0, "best": 1.0})
    topics = {"recurrent": [layer], "t": OUTCOMES}
    report.write(topics, {"recurrent": "Layers: sizes", "t": "Things"}, "here", "median", readme, results)
    text = readme.read_text()
    assert text.startswith("a\n<!-- bench:begin -->\nhere\n") and text.endswith("\n<!-- bench:end -->\nb\n")
    assert "| Things | 3 | 3.00x |" in text and "| RNN | 1 ms | 50 % |" in text and "| fast |" not in text
    assert "## Things" in results.read_text() and "| fast | 1 us | 3.00x |" in results.read_text()


def test_pictures(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    report.draw(OUTCOMES, tmp_path / "t.png")
    layers = [
        Outcome("hidden_sizes", f"{cell}, H = {h}", {}, seconds, seconds, 1e6, {"median": 1.0, "best": 1.0})
        for cell in GATES
        for h in hidden_sizes.HIDDEN
        for seconds in [{"fastgrad": 2e-3, "PyTorch": 4e-3}]
    ]
    hidden_sizes.draw(layers, tmp_path / "h.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("t.png", "h.png"))


def test_the_cores_of_a_process_of_its_own() -> None:
    before = sorted(process.CORES)
    with process.on_cores({before[-1]}):
        assert sys.platform != "linux" or len(process.os.sched_getaffinity(0)) == 1
    assert sys.platform != "linux" or sorted(process.os.sched_getaffinity(0)) == before
