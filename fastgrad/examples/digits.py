"""Trains an MLP and a recurrent network on 1,797 real handwritten digits: python -m fastgrad.examples.digits

Each image is 8 x 8 pixels. The MLP sees it whole; the recurrent network reads it row by row, eight steps of eight
pixels. Every fifth digit is held out. A checkpoint is written after each epoch, and `--resume` continues from it to the
same numbers that an uninterrupted run ends with. A picture shows the loss curves and the digits that were misread.
The data's source and licence: digits.md.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import fastgrad
from fastgrad import Tensor, nn
from fastgrad.nn import functional as F
from fastgrad.utils.data import DataLoader, TensorDataset

HELD_OUT = 5  # every fifth digit; the writers of the held-out digits are among those trained on
BATCH = 32
LEARNING_RATE = 2e-3


def load_digits() -> tuple[TensorDataset, TensorDataset]:
    """Training and held-out digits: images of shape (8, 8) scaled to [0, 1], and labels."""
    with np.load(pathlib.Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images = fastgrad.from_numpy(file["images"]).float() / 16
        labels = fastgrad.from_numpy(file["labels"]).long()
    held_out = fastgrad.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    train = TensorDataset(images[~held_out], labels[~held_out])
    return train, TensorDataset(images[held_out], labels[held_out])


def shifted(images: Tensor) -> Tensor:
    """All images moved by up to one pixel in each direction, the same for the whole batch."""
    down, right = fastgrad.randint(0, 3, (2,)).tolist()
    room = fastgrad.zeros(len(images), 10, 10)
    room[:, down : down + 8, right : right + 8] = images
    return room[:, 1:9, 1:9]


class MLP(nn.Module):
    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(images.flatten(1))))


class RowRNN(nn.Module):
    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.rnn(images)
        return self.out(states[:, -1])


MODELS: dict[str, Any] = {"mlp": MLP, "rnn": RowRNN}


class Training:
    """A model, its optimizer and what has happened so far; all of it goes into a checkpoint."""

    def __init__(self, name: str, seed: int) -> None:
        fastgrad.manual_seed(seed)
        self.name = name
        self.model = MODELS[name]()
        self.optimizer = fastgrad.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
        self.losses: list[float] = []

    def epoch(self, data: TensorDataset, epochs: int) -> float:
        """One pass over the data; the learning rate falls to zero over the last two thirds of `epochs`."""
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 1.5 * (1 - len(self.losses) / epochs))
        self.model.train()
        total = 0.0
        for images, labels in DataLoader(data, batch_size=BATCH, shuffle=True):
            images = shifted(images) if fastgrad.rand(()).item() < 0.5 else images
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item() * len(labels)
        self.losses.append(total / len(data))
        return self.losses[-1]

    def save(self, path: pathlib.Path) -> None:
        state = {
            "name": self.name,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": fastgrad.get_rng_state(),
            "losses": self.losses,
        }
        fastgrad.save(state, path)

    def load(self, path: pathlib.Path) -> None:
        state = fastgrad.load(path)
        if not isinstance(state, dict) or state.get("name") != self.name:
            raise ValueError(f"[digits] {path} must be a checkpoint of this example's {self.name}; got something else")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        fastgrad.set_rng_state(state["random"])
        self.losses = list(state["losses"])

    def predict(self, images: Tensor) -> Tensor:
        self.model.eval()
        with fastgrad.no_grad():
            return self.model(images).argmax(1)


class Progress:
    """tqdm where it is installed, otherwise a line that is written over."""

    def __init__(self, description: str, first: int, last: int) -> None:
        self.description, self.numbers = description, range(first, last)
        self.bar: Any = None

    def __iter__(self) -> Iterator[int]:
        if importlib.util.find_spec("tqdm") is not None:
            self.bar = importlib.import_module("tqdm").tqdm(
                self.numbers, desc=self.description, unit="epoch", initial=self.numbers.start, total=self.numbers.stop
            )
            yield from self.bar
            return
        yield from self.numbers
        if self.numbers:
            print(file=sys.stderr)

    def show(self, epoch: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        else:
            print(
                f"\r{self.description}: epoch {epoch + 1}/{self.numbers.stop}, loss {loss:.4f}",
                end="",
                file=sys.stderr,
                flush=True,
            )


def draw(trainings: list[Training], wrong: dict[str, list[tuple[Any, int, int]]], path: pathlib.Path) -> None:
    """The loss of every epoch on the left, the misread digits of each model on the right."""
    shown = 12
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(11, 2.2 + 1.6 * len(trainings)), layout="constrained"
    )
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.35))
    axes = left.subplots()
    for training in trainings:
        axes.semilogy(range(1, len(training.losses) + 1), training.losses, label=training.name.upper())
    axes.set(xlabel="epoch", ylabel="cross-entropy on the training digits", title="Loss")
    axes.grid(alpha=0.3)
    axes.legend()
    for training, part in zip(trainings, np.atleast_1d(right.subfigures(len(trainings), 1)), strict=True):
        misread = wrong[training.name]
        more = f", the first {shown} shown" if len(misread) > shown else ""
        part.suptitle(f"{training.name.upper()}: {len(misread)} held-out digits misread{more}", fontsize=10)
        for k, cell in enumerate(part.subplots(2 if len(misread) > shown // 2 else 1, shown // 2).flat):
            cell.axis("off")
            if k < len(misread):
                image, label, guess = misread[k]
                cell.imshow(image, cmap="gray_r", vmin=0, vmax=1)
                cell.set_title(f"{label} read as {guess}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains what the command line asks for and returns each model's held-out accuracy."""
    parser = argparse.ArgumentParser(
        prog="python -m fastgrad.examples.digits", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--model", choices=[*MODELS, "both"], default="both")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/digits"), help="folder for checkpoints and the picture"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoints in --out")
    options = parser.parse_args(arguments)

    train, held_out = load_digits()
    images, labels = held_out.tensors
    options.out.mkdir(parents=True, exist_ok=True)
    trainings, wrong, accuracies = [], {}, {}
    for name in MODELS if options.model == "both" else [options.model]:
        training = Training(name, options.seed)
        checkpoint = options.out / f"{name}.fg"
        if options.resume and checkpoint.exists():
            training.load(checkpoint)
        start = time.perf_counter()
        progress = Progress(name.upper(), len(training.losses), options.epochs)
        for epoch in progress:
            progress.show(epoch, training.epoch(train, options.epochs))
            training.save(checkpoint)
        seconds = time.perf_counter() - start
        guesses = training.predict(images)
        accuracies[name] = (guesses == labels).float().mean().item()
        wrong[name] = [
            (images[k].numpy(), int(labels[k].item()), int(guesses[k].item()))
            for k in (guesses != labels).nonzero().flatten().tolist()
        ]
        trainings.append(training)
        read = f"{accuracies[name]:.2%} of {len(labels)} held-out digits read correctly"
        print(f"{name.upper()}: {read}, trained in {seconds:.1f} s")
    if importlib.util.find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
    else:
        draw(trainings, wrong, options.out / "digits.png")
        print(f"Loss curves and misread digits: {options.out / 'digits.png'}")
    return accuracies


if __name__ == "__main__":
    main()
