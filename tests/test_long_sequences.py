"""The benchmark of memory over long sequences: both ways have one gradient, and the laws are those of the figures."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

pytest.importorskip("bench")

from bench import long_sequences, memory
from bench.long_sequences import STATES, Memory, check_gradients, laws


def test_exact_laws_are_found_again() -> None:
    found = []
    for t in (100, 400, 900):
        found.append(
            Memory("t", "", {}, {"fastgrad": 1 + 3 * STATES * t}, way="whole", allocated=2 * STATES * t, steps=t)
        )
        figures = {"fastgrad": 2.0, "PyTorch": 5 * STATES * t**0.5}
        found.append(Memory("t", "", {}, figures, way="checkpointed", allocated=STATES * t**0.5, steps=t))
    assert [line.replace("-0.00", "0.00") for line in laws(found)] == [
        "whole, fastgrad, allocated: 0.00 MB + 2.00 * (states of one step) * T",
        "whole, fastgrad, resident: 1.00 MB + 3.00 * (states of one step) * T",
        "checkpointed, fastgrad, allocated: 0.00 MB + 1.00 * (states of one step) * sqrt(T)",
        "checkpointed, fastgrad, resident: 2.00 MB + 0.00 * (states of one step) * sqrt(T)",
        "checkpointed, PyTorch, resident: 0.00 MB + 5.00 * (states of one step) * sqrt(T)",
    ]


def test_gradients_that_differ_are_refused() -> None:
    for wrong in (np.full(3, 1.01), np.full(3, np.nan)):
        with pytest.raises(ArithmeticError, match="t: the gradients differ"):
            check_gradients("t", [wrong], [np.ones(3)])


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="resident memory is read as Linux tells it")
def test_whole_grows_with_the_length_and_checkpointed_with_its_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(long_sequences, "PACKAGES", {"fastgrad": "fastgrad"})
    monkeypatch.setattr(long_sequences, "QUICK", (400, 6400))
    found = long_sequences.outcomes(True)
    allocated = {(o.way, o.steps): o.allocated for o in found}
    assert 12 < allocated["whole", 6400] / allocated["whole", 400] < 20
    assert allocated["checkpointed", 6400] / allocated["checkpointed", 400] < 8
    assert allocated["whole", 6400] < 2.5 * 6400 * STATES
    pytest.importorskip("matplotlib")
    long_sequences.draw(found, tmp_path / "long_sequences.png")
    assert (tmp_path / "long_sequences.png").stat().st_size > 10_000
