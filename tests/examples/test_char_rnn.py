"""The character-level example: what it learns, that it can be interrupted, what it writes and what it refuses."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.examples import char_rnn

TEXT = "one two three four five six seven.\n" * 120
TINY = ["--hidden", "24", "--batch", "4", "--chunk", "20", "--rate", "0.02", "--dropout", "0"]
CELLS = pytest.mark.parametrize("cell", char_rnn.CELLS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = fg.get_num_threads()
    fg.set_num_threads(1)
    yield
    fg.set_num_threads(threads)


@pytest.fixture
def text(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


def run(*arguments: Any) -> None:
    char_rnn.main([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """What a run that is refused prints, which is one line after argparse's usage."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@CELLS
def test_it_learns_draws_and_writes(cell: str, text: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = text.parent
    run(text, "--cell", cell, "--epochs", 12, "--out", out, *TINY)
    printed = capsys.readouterr().out
    read, seconds, trained, bits = fg.load(out / f"{cell}.fg")["history"][-1]
    assert 0 < bits < 0.05 and trained < 0.1 and seconds > 0
    assert read == 12 * 4 * 20 * ((len(TEXT) * 9 // 10 - 20) // 80)
    assert (out / f"{cell}.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{bits:.4f} bits per character" in printed and " four five six " in printed
    written = ["--generate", 60, "--cell", cell, "--out", out]
    run(*written, "--prompt", "one two thr", "--temperature", 0)
    assert capsys.readouterr().out == TEXT[:71] + "\n"
    run(*written, "--prompt", "one", "--temperature", 0.2)
    assert capsys.readouterr().out == TEXT[:63] + "\n"
    texts = []
    for seed in (1, 1, 2):
        run(*written, "--temperature", 50, "--seed", seed)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] and len(texts[0]) == 61, "at a high temperature the seed decides"


@CELLS
def test_a_resumed_run_ends_with_the_same_numbers(cell: str, text: pathlib.Path, monkeypatch: Any, capsys: Any) -> None:
    """It stops within an epoch, between two validations, with dropout and a state to be carried over."""
    monkeypatch.setattr(char_rnn, "INTERVAL", 30)
    settings = [*TINY, "--dropout", "0.3", "--layers", "2", "--cell", cell, "--epochs", "2"]

    def checkpoint(folder: str, *more: str) -> dict[str, Any]:
        run(text, "--out", text.parent / folder, *settings, *more)
        return fg.load(text.parent / folder / f"{cell}.fg")

    whole = checkpoint("whole")
    step = char_rnn.Training.step

    def step_then_interrupt(self: Any, progress: float) -> None:
        step(self, progress)
        if self.steps == 65:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(char_rnn.Training, "step", step_then_interrupt)
        with pytest.raises(SystemExit) as stopped:
            checkpoint("parts")
    assert stopped.value.code == 130 and "--resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert fg.load(text.parent / "parts" / f"{cell}.fg")["steps"] == 65 < whole["steps"]
    fg.manual_seed(99)
    parts = checkpoint("parts", "--resume")
    for saved in (whole, parts):
        saved["seconds"] = [line.pop(1) for line in saved["history"]]
    assert parts["history"] == whole["history"] and len(whole["history"]) >= 3
    assert_same({**parts, "seconds": None}, {**whole, "seconds": None})


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, fg.Tensor):
        assert (one == other).all()
    else:
        assert one == other


def test_time_limits_the_training(text: pathlib.Path) -> None:
    run(text, "--cell", "rnn", "--minutes", 0.005, "--out", text.parent, *TINY)
    saved = fg.load(text.parent / "rnn.fg")
    assert saved["seconds"] >= 0.3 and saved["settings"]["cell"] == "rnn"
    training = char_rnn.Training(TEXT, char_rnn.Settings("rnn", batch=4, chunk=20))
    assert training.progress(2, math.inf) == training.progress(math.inf, 1) == 0
    training.steps, training.seconds = training.chunks, 30.0
    assert training.progress(2, math.inf) == 0.5 and training.progress(math.inf, 2) == 0.25
    assert training.progress(2, 2) == 0.5 and training.progress(math.inf, 0.1) == 1


def test_bits_per_character_are_those_of_the_definition() -> None:
    """On a held-out text short enough to be one stream, character by character, against log2 of NumPy's softmax."""
    training = char_rnn.Training(TEXT, char_rnn.Settings("rnn", hidden=8, batch=4, chunk=20, dropout=0.5))
    training.step(0.5)
    training.validate()
    held_out = TEXT[-(len(TEXT) // 10) - 1 :]
    indices = [training.characters.index(character) for character in held_out]
    state, bits = None, []
    for index, following in itertools.pairwise(indices):
        logits, state = training.model(fg.tensor([[index]]), state)
        scores = logits.detach().double().numpy().ravel()
        bits.append(-math.log2(math.exp(scores[following]) / np.exp(scores).sum()))
    assert training.history[-1][3] == pytest.approx(sum(bits) / len(bits), rel=1e-5)


def test_every_stream_is_read_in_order() -> None:
    """The chunks of a stream follow each other in the text, and the targets are the next characters."""
    text = "".join(chr(0x4E00 + k) for k in range(1000))
    training = char_rnn.Training(text, char_rnn.Settings("rnn", hidden=4, batch=3, chunk=7))
    seen: list[np.ndarray] = []
    training.t = Spy(seen)
    for _ in range(2 * training.chunks):
        training.step(0.5)
    for epoch in (seen[: training.chunks], seen[training.chunks :]):
        read = np.concatenate([chunk[:-1] for chunk in epoch])
        assert (np.diff(read, axis=0) == 1).all() and len(np.unique(read)) == read.size
        assert all((chunk[1:] == chunk[:-1] + 1).all() for chunk in epoch)
    assert training.chunks == (900 - 7) // 3 // 7 and max(chunk.max() for chunk in seen) < 900


class Spy:
    """fastgrad, keeping what is made a tensor."""

    def __init__(self, seen: list[np.ndarray]) -> None:
        self.seen = seen

    def __getattr__(self, name: str) -> Any:
        return getattr(fg, name)

    def from_numpy(self, array: np.ndarray) -> fg.Tensor:
        self.seen.append(array)
        return fg.from_numpy(array)


def test_temperature_is_that_of_the_softmax() -> None:
    """Frequencies of draws from known logits, which do not depend on what was read."""

    class Known(fg.nn.Module):
        def forward(self, indices: fg.Tensor, state: Any = None) -> tuple[fg.Tensor, Any]:
            return fg.tensor([0.0, 1.0, 2.0]).expand(*indices.shape, 3), state

    for temperature in (0.5, 1.0, 2.0):
        drawn = "".join(char_rnn.generate(Known(), "abc", "", 4000, temperature, 0))
        expected = np.exp(np.arange(3) / temperature)
        expected /= expected.sum()
        assert [drawn.count(c) / 4000 for c in "abc"] == pytest.approx(expected.tolist(), abs=0.03)
    assert set(char_rnn.generate(Known(), "abc", "", 50, 0.0, 0)) == {"c"}


def test_the_texts(tmp_path: pathlib.Path) -> None:
    topics = char_rnn.read_text(None)
    assert len(topics) > 200_000 and "expression" in topics
    path = tmp_path / "text"
    path.write_bytes("Zürich\r\n東京 🙂\n".encode())
    text = char_rnn.read_text(path)
    assert text == "Zürich\r\n東京 🙂\n" and len(text) == 13
    characters = "".join(sorted(set(text)))
    assert [characters[k] for k in char_rnn.encode(text, characters)] == list(text)
    assert len(char_rnn.encode("", characters)) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"\(batch \+ 1\) \* chunk = 2112 characters before its last tenth; got 0"),
        (b"a" * 2345, r"2112 characters before its last tenth; got 2111"),
        (b"abc\xff", r"must be a text in UTF-8; got byte 0xff at position 3"),
        (b"caf\xe9", r"must be a text in UTF-8; got byte 0xe9 at position 3"),
        ("é\0".encode(), r"must be a text; got a zero byte at position 2"),
        (None, r"No such file or directory: '.*text'"),
    ],
)
def test_a_text_that_cannot_be_learned(
    content: bytes | None, message: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    error = error_of(capsys, tmp_path / "text", "--cell", "rnn", "--out", tmp_path / "out")
    assert error.startswith("python -m fastgrad.examples.char_rnn: error: ")
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


def test_the_smallest_text_is_enough(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "text"
    for size, batch, chunk in ((2346, 32, 64), (3, 1, 1)):
        path.write_bytes((b"abcdefg" * size)[:size])
        run(path, "--cell", "rnn", "--hidden", 4, "--batch", batch, "--chunk", chunk, "--epochs", 1, "--out", tmp_path)
        assert fg.load(tmp_path / "rnn.fg")["steps"] == 1


def test_what_is_refused(text: pathlib.Path, capsys: Any) -> None:
    out = text.parent
    options = ["--cell", "rnn", "--out", out]
    assert "No such file" in error_of(capsys, text, *TINY, *options, "--resume")
    assert "No such file" in error_of(capsys, "--generate", 5, *options)
    assert "must consist of characters of the text trained on; got 'é' (U+00E9)" in error_of(
        capsys, text, *TINY, *options, "--prompt", "oné"
    )
    run(text, *TINY, *options, "--epochs", 1)
    capsys.readouterr()
    assert "got '\\udcff' (U+DCFF)" in error_of(capsys, "--generate", 5, *options, "--prompt", "\udcff")
    resumed = [text, *TINY, *options, "--resume"]
    assert "hidden must be 24 as in" in error_of(capsys, *resumed, "--hidden", 25)
    text.write_bytes(TEXT.replace("six", "xis").encode())
    assert "must be the one that" in error_of(capsys, *resumed)
    fg.save({"model": {}}, out / "rnn.fg")
    assert "must be a checkpoint of this example" in error_of(capsys, "--generate", 5, *options)
    (out / "rnn.fg").write_bytes(b"not a checkpoint")
    assert "[load] " in error_of(capsys, "--generate", 5, *options)


@pytest.mark.parametrize(
    "option",
    [
        "--hidden=0", "--layers=0", "--batch=-1", "--chunk=0", "--dropout=1", "--dropout=nan", "--rate=inf",
        "--seed=-1", "--epochs=0", "--minutes=0", "--generate=-1", "--temperature=-0.1", "--temperature=nan",
        "--temperature=inf",
    ],
)  # fmt: skip
def test_numbers_out_of_range(option: str, text: pathlib.Path, capsys: Any) -> None:
    name, _, value = option.partition("=")
    error = error_of(capsys, text, "--out", text.parent, option)
    assert f"argument {name}: must be at least" in error and error.endswith(f"got {value}")


def test_ctrl_c_ends_the_writing(text: pathlib.Path, monkeypatch: Any, capsys: Any) -> None:
    def interrupted(*arguments: Any) -> Iterator[str]:
        yield "two"
        raise KeyboardInterrupt

    run(text, "--cell", "rnn", "--epochs", 1, "--out", text.parent, *TINY)
    capsys.readouterr()
    monkeypatch.setattr(char_rnn, "generate", interrupted)
    run("--generate", 100, "--cell", "rnn", "--out", text.parent, "--prompt", "one ")
    assert capsys.readouterr().out == "one two\n"


def test_a_loss_that_explodes_leaves_the_checkpoint(text: pathlib.Path, monkeypatch: Any) -> None:
    options = [text, "--cell", "rnn", "--out", text.parent, *TINY]
    run(*options, "--epochs", 1)
    before = (text.parent / "rnn.fg").read_bytes()
    with pytest.raises(RuntimeError, match="must be finite"):
        run(*options, "--rate", 1e38)
    assert (text.parent / "rnn.fg").read_bytes() == before


def test_without_the_extras(text: pathlib.Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(char_rnn.importlib.util, "find_spec", lambda name: None)
    run(text, "--cell", "rnn", "--epochs", 1, "--out", text.parent, *TINY)
    captured = capsys.readouterr()
    assert "pip install matplotlib" in captured.out and "100% of the training. RNN: " in captured.err
    assert " a second\n" in captured.err and not (text.parent / "rnn.png").exists()


@pytest.mark.torch
@CELLS
def test_on_pytorch_it_is_the_same_training(cell: str) -> None:
    """The same initial weights from the same seed, and the same losses until rounding has grown."""
    torch = pytest.importorskip("torch")
    settings = char_rnn.Settings(cell, hidden=16, batch=4, chunk=20, dropout=0)
    ours, theirs = char_rnn.Training(TEXT, settings), char_rnn.Training(TEXT, settings, torch)
    for name, value in theirs.model.state_dict().items():
        assert ours.model.state_dict()[name].numpy() == pytest.approx(value.numpy(), rel=1e-6), name
    for training in (ours, theirs):
        for k in range(10):
            training.step(k / 10)
        training.validate()
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-4) and len(ours.losses) == 10
    assert ours.history[0][3] == pytest.approx(theirs.history[0][3], rel=1e-4)


def test_the_contest_is_even(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    """Contenders take turns until each has had its time."""
    contest = pytest.importorskip("bench.char_rnn")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(contest, "same_losses", lambda trainings: None)
    settings = char_rnn.Settings("rnn", hidden=8, batch=4, chunk=20)
    clocks = {"fastgrad": itertools.count(0.0, 0.25), "PyTorch": itertools.count(0.0, 0.5)}  # read twice a step
    trainings = {n: char_rnn.Training(TEXT, settings, clock=lambda c=c: next(c)) for n, c in clocks.items()}
    contest.contest(trainings, 0.2)
    results = {name: contest.summary(training) for name, training in trainings.items()}
    assert (results["fastgrad"]["steps"], results["PyTorch"]["steps"]) == (48, 24)
    for result in results.values():
        assert result["seconds"] == pytest.approx(12) and len(result["history"]) >= 15
    contest.draw({"RNN": results}, tmp_path / "contest.png")
    assert (tmp_path / "contest.png").read_bytes()[:4] == b"\x89PNG"
    assert "PyTorch" in contest.table({"RNN": results})


def test_contenders_that_disagree_are_refused() -> None:
    """With chunks of one character and no dropout a training takes no random numbers, so that two can share them."""
    contest = pytest.importorskip("bench.char_rnn")
    settings = [char_rnn.Settings("rnn", hidden=8, batch=4, chunk=1, dropout=0, seed=seed) for seed in (0, 0, 1)]
    one, same, other = (char_rnn.Training(TEXT, s) for s in settings)
    contest.same_losses({"fastgrad": one, "PyTorch": same})
    with pytest.raises(ArithmeticError, match="different losses"):
        contest.same_losses({"fastgrad": one, "PyTorch": other})
