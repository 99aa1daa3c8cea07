"""Trains a recurrent network that writes text, one character after the other: python -m fastgrad.examples.char_rnn FILE

FILE is any text in UTF-8; without one the network learns what Python's own `help()` knows, half a million characters of
the standard library's `pydoc_data.topics`. A character is a Unicode code point; line ends are kept as they are. What
counts is bits per character, the mean of -log2 p(character | all before it).

The last tenth of the text is for validation. The rest is cut into parallel streams that are read chunk by chunk: the
state is carried from chunk to chunk, the gradient is not. A checkpoint is written after each validation, at the end and
on Ctrl-C; `--resume` continues from it to the same numbers that an uninterrupted run ends with (but with `--minutes`
the learning rate follows the clock). `--generate` writes text with it. A picture shows the learning curve.

The model and its training also run on PyTorch, as `bench/char_rnn.py` does: they take the framework as `t`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import math
import pathlib
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastgrad

CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
EMBEDDING = 64
CLIP = 1.0  # the largest norm of the gradient
WARM_UP = 0.02  # of the training
INTERVAL = 200  # steps between validations
CONTINUED = ("steps", "seconds", "offset", "state", "losses", "history")  # of a Training: in the checkpoint as they are
VALIDATION = 1 << 17  # characters at most: on a long text, too, validation takes little of the time


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two trainings the same: part of the checkpoint, and `--resume` wants them unchanged."""

    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    dropout: float = 0.3  # of what recurrent layers return
    batch: int = 32  # streams
    chunk: int = 64  # characters of a stream that a gradient goes back through
    rate: float = 7e-3  # the largest learning rate
    seed: int = 0


def read_text(path: pathlib.Path | None) -> str:
    """The characters of a file in UTF-8; without a path those of Python's help topics."""
    if path is None:
        topics = importlib.import_module("pydoc_data.topics").topics
        return "\n\n".join(topics[name] for name in sorted(topics))
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {content[error.start]:#04x} at position {error.start}"
        raise ValueError(f"[char_rnn] {path} must be a text in UTF-8; got {got}") from None
    if "\0" in text:
        raise ValueError(f"[char_rnn] {path} must be a text; got a zero byte at position {content.index(0)}")
    return text


def encode(text: str, characters: str) -> np.ndarray:
    """Where in `characters`, which are sorted, each character of the text stands."""
    known, codes = (np.frombuffer(s.encode("utf-32-le", "surrogatepass"), np.uint32) for s in (characters, text))
    indices = np.searchsorted(known, codes).clip(max=len(known) - 1)
    unknown = codes[known[indices] != codes]
    if len(unknown):
        got = f"{chr(unknown[0])!r} (U+{unknown[0]:04X})"
        raise ValueError(f"[char_rnn] the prompt must consist of characters of the text trained on; got {got}")
    return indices


def character_model(t: Any, settings: Settings, characters: int) -> Any:
    """Embedding, recurrent layers, dropout, linear: (T, B) characters and a state to (T, B, characters) logits."""

    class CharacterModel(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cell, between = getattr(t.nn, CELLS[settings.cell]), settings.dropout if settings.layers > 1 else 0.0
            self.embedding = t.nn.Embedding(characters, EMBEDDING)
            self.recurrent = cell(EMBEDDING, settings.hidden, settings.layers, dropout=between)
            self.dropout = t.nn.Dropout(settings.dropout)
            self.out = t.nn.Linear(settings.hidden, characters)

        def forward(self, indices: Any, state: Any = None) -> tuple[Any, Any]:
            outputs, state = self.recurrent(self.embedding(indices), state)
            return self.out(self.dropout(outputs)), state

    return CharacterModel()


class Training:
    """A model, its optimizer, the place in the text and what has happened so far; all of it goes into a checkpoint."""

    def __init__(
        self, text: str, settings: Settings, t: Any = fastgrad, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.settings, self.t, self.clock = settings, t, clock
        self.characters, self.checksum = "".join(sorted(set(text))), zlib.crc32(text.encode())
        held_out = min(max(1, len(text) // 10), VALIDATION)
        used, needed = max(0, len(text) - held_out), (settings.batch + 1) * settings.chunk
        if used < needed:
            raise ValueError(
                f"[char_rnn] the text must have (batch + 1) * chunk = {needed} characters before its last tenth; "
                f"got {used}"
            )
        indices = encode(text, self.characters)
        self.read, self.held_out = indices[:-held_out], indices[-held_out - 1 :]
        stream = (used - settings.chunk) // settings.batch  # the length of one
        self.chunks = stream // settings.chunk  # in an epoch
        self.places = np.arange(settings.chunk + 1)[:, None] + stream * np.arange(settings.batch)
        t.manual_seed(settings.seed)
        self.model = character_model(t, settings, len(self.characters))
        self.optimizer = t.optim.Adam(self.model.parameters(), lr=settings.rate)
        self.steps, self.seconds, self.offset = 0, 0.0, 0
        self.state: Any = None
        self.losses: list[float] = []  # of the last hundred steps
        self.history: list[list[float]] = []  # characters read, seconds, bits per character in training, in validation

    @property
    def characters_read(self) -> int:
        """How many, over all epochs."""
        return self.steps * self.settings.batch * self.settings.chunk

    def progress(self, epochs: float, minutes: float) -> float:
        """The part of the training that is done, from 0 to 1, by epochs or by time, whichever is further."""
        return min(1.0, max(self.steps / (epochs * self.chunks), self.seconds / (60 * minutes)))

    def step(self, progress: float) -> None:
        """Learn from the next chunk of every stream, at a rate that rises briefly and then falls as a cosine does."""
        start, t, chunk = self.clock(), self.t, self.steps % self.chunks
        rate = self.settings.rate * min((progress + 1e-3) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if chunk == 0:  # an epoch; its streams and chunks begin elsewhere than those of the last one
            self.offset, self.state = int(t.randint(0, self.settings.chunk, (1,)).item()), None
        indices = t.from_numpy(self.read[self.places + (self.offset + chunk * self.settings.chunk)])
        self.model.train()
        self.optimizer.zero_grad()
        logits, state = self.model(indices[:-1], self.state)
        loss = t.nn.functional.cross_entropy(logits.flatten(0, 1), indices[1:].flatten())
        loss.backward()
        t.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP, error_if_nonfinite=True)
        self.optimizer.step()
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        self.losses = [*self.losses[-99:], loss.item()]
        self.steps += 1
        self.seconds += self.clock() - start

    def recent_bits(self) -> float:
        """Bits per character of the last hundred steps."""
        return sum(self.losses) / len(self.losses) / math.log(2)

    def __str__(self) -> str:
        read, seconds, _, bits = self.history[-1]
        speed = f"{read:,} characters in {seconds:.1f} s, {read / seconds:,.0f} a second"
        return f"{CELLS[self.settings.cell]}: {bits:.4f} bits per character in validation; trained on {speed}"

    def validate(self) -> None:
        """Add to the history; the held-out text is read as up to 64 streams of at least a thousand characters."""
        streams = min(64, max(1, len(self.held_out) // 1000))
        length, total, state = (len(self.held_out) - 1) // streams, 0.0, None
        self.model.eval()
        with self.t.no_grad():
            for first in range(0, length, 256):
                places = np.arange(first, min(first + 256, length) + 1)[:, None] + length * np.arange(streams)
                indices = self.t.from_numpy(self.held_out[places])
                logits, state = self.model(indices[:-1], state)
                targets = indices[1:].flatten()
                total += self.t.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="sum").item()
        bits = total / (streams * length) / math.log(2)
        self.history.append([self.characters_read, self.seconds, self.recent_bits(), bits])

    def save(self, path: pathlib.Path) -> None:
        """Write the checkpoint: the file is the old one or the new one, whatever happens meanwhile."""
        state = {
            "settings": dataclasses.asdict(self.settings),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": fastgrad.get_rng_state(),
            **{name: getattr(self, name) for name in ("characters", "checksum", *CONTINUED)},
        }
        fastgrad.save(state, path)

    def load(self, path: pathlib.Path) -> None:
        """Continue from a checkpoint of the same text and settings."""
        saved = load_checkpoint(path)
        for name, value in dataclasses.asdict(self.settings).items():
            if saved["settings"][name] != value:
                raise ValueError(f"[char_rnn] {name} must be {saved['settings'][name]} as in {path}; got {value}")
        if saved["checksum"] != self.checksum:
            raise ValueError(f"[char_rnn] the text must be the one that {path} was trained on; got another")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        fastgrad.set_rng_state(saved["random"])
        for name in CONTINUED:
            setattr(self, name, saved[name])


def load_checkpoint(path: pathlib.Path) -> dict[str, Any]:
    """What `Training.save` wrote."""
    saved = fastgrad.load(path)
    names = {"settings", "model", "optimizer", "random", "characters", "checksum", *CONTINUED}
    fields = {field.name for field in dataclasses.fields(Settings)}
    if not isinstance(saved, dict) or set(saved) != names or set(saved["settings"]) != fields:
        raise ValueError(f"[char_rnn] {path} must be a checkpoint of this example; got something else")
    return saved


def generate(model: Any, characters: str, prompt: str, count: int, temperature: float, seed: int) -> Iterator[str]:
    """The characters that follow the prompt, drawn one by one from softmax(logits / temperature), at 0 the likeliest.

    The largest of logits + temperature * noise is such a draw where the noise is Gumbel's (Maddison, Tarlow and Minka,
    "A* Sampling", 2014). The model reads the prompt, then one character at a time, its own last one.
    """
    random = np.random.default_rng(seed)
    indices, state = fastgrad.from_numpy(encode(prompt or characters[0], characters)), None
    model.eval()
    for _ in range(count):
        with fastgrad.inference_mode():
            logits, state = model(indices.unsqueeze(1), state)
        noise = random.gumbel(size=len(characters))
        choice = int(np.argmax(logits[-1, 0].numpy() + temperature * noise))
        indices = fastgrad.tensor([choice])
        yield characters[choice]


def train(training: Training, checkpoint: pathlib.Path, epochs: float, minutes: float) -> bool:
    """Train to the end; or, after Ctrl-C, to the end of the step: then False. A second Ctrl-C does not wait."""
    interrupted = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, interrupt)
    bar: Any = None
    if importlib.util.find_spec("tqdm") is not None:
        read, name = training.characters_read, CELLS[training.settings.cell]
        bar = importlib.import_module("tqdm").tqdm(desc=name, initial=read, total=read, unit="char", unit_scale=True)
    try:
        while not interrupted and (progress := training.progress(epochs, minutes)) < 1:
            training.step(progress)
            progress = training.progress(epochs, minutes)
            if bar is not None:
                bar.total = round(training.characters_read / progress)
                bar.set_postfix_str(f"{training.recent_bits():.3f} bits per character", refresh=False)
                bar.update(training.characters_read - bar.n)
            if progress == 1 or training.steps % INTERVAL == 0:
                training.validate()
                training.save(checkpoint)
                if bar is None:
                    print(f"{progress:.0%} of the training. {training}", file=sys.stderr)
        if interrupted:
            training.save(checkpoint)
    finally:
        if bar is not None:
            bar.close()
        signal.signal(signal.SIGINT, before)
    return not interrupted or training.progress(epochs, minutes) == 1


def draw(training: Training, path: pathlib.Path) -> None:
    """Bits per character in training and in validation."""
    if importlib.util.find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    read, _, trained, held_out = zip(*training.history, strict=True)
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(read, trained, ".-", label="training, the hundred steps before")
    axes.plot(read, held_out, ".-", label=f"validation, in the end {held_out[-1]:.3f}")
    title = f"{CELLS[training.settings.cell]}, hidden size {training.settings.hidden}"
    axes.set(xlabel="characters read", ylabel="bits per character", title=title)
    axes.xaxis.set_major_formatter(importlib.import_module("matplotlib.ticker").EngFormatter())
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"Learning curve: {path}")


def within(kind: Callable[[str], Any], least: float, below: float = math.inf) -> Callable[[str], Any]:
    """For argparse: a number of this kind, at least `least` and below `below`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value < below:
            raise argparse.ArgumentTypeError(f"must be at least {least:g} and below {below:g}; got {text}")
        return value

    return number


def parse(arguments: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m fastgrad.examples.char_rnn", description=description)
    add, own = parser.add_argument, Settings()
    add("file", metavar="FILE", nargs="?", type=pathlib.Path, help="a text (default: what Python's help() knows)")
    add("--cell", choices=CELLS, default=own.cell)
    add("--hidden", type=within(int, 1), default=own.hidden, help="size of a recurrent layer")
    add("--layers", type=within(int, 1), default=own.layers)
    add("--dropout", type=within(float, 0, 1), default=own.dropout, help="after each recurrent layer")
    add("--batch", type=within(int, 1), default=own.batch, help="streams read in parallel")
    add("--chunk", type=within(int, 1), default=own.chunk, help="characters that a gradient goes back through")
    add("--rate", type=within(float, 0), default=own.rate, help="the largest learning rate")
    add("--seed", type=within(int, 0, 2**63), default=own.seed)
    add("--epochs", type=within(int, 1), help="passes over the text (default: 10, with --minutes as many as it takes)")
    add("--minutes", type=within(float, 0.001), help="of training; validation is not counted")
    add("--threads", type=within(int, 1), default=fastgrad.get_num_threads())
    add("--out", type=pathlib.Path, default=pathlib.Path("runs/char_rnn"), help="folder for checkpoint and picture")
    add("--resume", action="store_true", help="continue from the checkpoint in --out")
    add("--generate", type=within(int, 0), metavar="N", help="write N characters with the checkpoint in --out")
    add("--prompt", default="", help="what the text that is written begins with")
    add("--temperature", type=within(float, 0), default=0.8, help="0 writes the likeliest character each time")
    return parser, parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Train, or write text with a trained model, as the command line asks."""
    parser, options = parse(arguments)
    fastgrad.set_num_threads(options.threads)
    checkpoint, count = options.out / f"{options.cell}.fg", options.generate
    try:
        if count is None:
            settings = Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})
            training = Training(read_text(options.file), settings)
            model, characters = training.model, training.characters
            if options.resume:
                training.load(checkpoint)
            options.out.mkdir(parents=True, exist_ok=True)
        else:
            saved = load_checkpoint(checkpoint)
            characters = saved["characters"]
            model = character_model(fastgrad, Settings(**saved["settings"]), len(characters))
            model.load_state_dict(saved["model"])
        encode(options.prompt, characters)
    except (OSError, RuntimeError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    if count is None:
        epochs = options.epochs or (math.inf if options.minutes else 10)
        finished = train(training, checkpoint, epochs, options.minutes or math.inf)
        if training.history:
            print(training)
            draw(training, checkpoint.with_suffix(".png"))
        if not finished:
            parser.exit(130, f"Stopped; --resume continues from {checkpoint}\n")
        print(f"What it writes at temperature {options.temperature:g}:\n")
        count = 300
    print(options.prompt, end="", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        for character in generate(model, characters, options.prompt, count, options.temperature, options.seed):
            print(character, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
