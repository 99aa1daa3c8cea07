"""The main example: what it reaches on held-out digits, and that it can be interrupted."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.examples import digits


def test_the_data() -> None:
    train, held_out = digits.load_digits()
    assert (len(train), len(held_out)) == (1438, 359)
    images, labels = held_out.tensors
    assert images.shape == (359, 8, 8) and images.min().item() == 0 and images.max().item() == 1
    assert labels.dtype == fg.int64 and set(labels.tolist()) == set(range(10))
    everything = np.concatenate([train.tensors[0].numpy(), images.numpy()]).reshape(1797, 64)
    assert len(np.unique(everything, axis=0)) == 1797, "no held-out digit is among those trained on"
    assert everything.sum() * 16 == 561718


def test_it_learns_and_draws(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    threads, start = fg.get_num_threads(), time.perf_counter()
    try:
        fg.set_num_threads(1)
        accuracies = digits.main(["--out", str(tmp_path)])
    finally:
        fg.set_num_threads(threads)
    assert accuracies["mlp"] >= 0.97 and accuracies["rnn"] >= 0.96
    assert time.perf_counter() - start < 40, "each model is to train in under 20 seconds"
    assert (tmp_path / "digits.png").read_bytes()[:4] == b"\x89PNG"
    assert "held-out digits read correctly" in capsys.readouterr().out


@pytest.mark.parametrize("name", digits.MODELS)
def test_a_resumed_run_ends_with_the_same_numbers(name: str, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    def run(folder: str, *more: str) -> dict[str, Any]:
        digits.main(["--model", name, "--epochs", "4", "--out", str(tmp_path / folder), *more])
        return fg.load(tmp_path / folder / f"{name}.fg")

    whole = run("whole")
    save = digits.Training.save

    def save_then_stop(self: Any, path: pathlib.Path) -> None:
        save(self, path)
        if len(self.losses) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(digits.Training, "save", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            run("parts")
    fg.manual_seed(99)
    parts = run("parts", "--resume")
    assert parts["losses"] == whole["losses"] and len(whole["losses"]) == 4
    for key, value in whole["model"].items():
        assert (parts["model"][key] == value).all(), key


def test_a_foreign_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mlp.fg").write_bytes(b"not a checkpoint")
    with pytest.raises((ValueError, RuntimeError, OSError)):
        digits.main(["--model", "mlp", "--resume", "--out", str(tmp_path)])
    digits.Training("rnn", 0).save(tmp_path / "mlp.fg")
    with pytest.raises(ValueError, match="checkpoint of this example's mlp"):
        digits.main(["--model", "mlp", "--resume", "--out", str(tmp_path)])


def test_without_the_extras(tmp_path: pathlib.Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: None)
    digits.main(["--model", "mlp", "--epochs", "1", "--out", str(tmp_path)])
    captured = capsys.readouterr()
    assert "pip install matplotlib" in captured.out and "epoch 1/1" in captured.err
    assert not (tmp_path / "digits.png").exists()
