"""python -m bench.char_rnn FILE [--minutes 5] [--cells rnn lstm gru]: bits per character on a text after a given time.

The model and the training of `fastgrad.examples.char_rnn` run on fastgrad and on PyTorch from the same seed, that is
from the same weights, through the same text, with the same settings, each with one thread on one core. The learning
rate follows the time, so each has its whole schedule. They take turns of some seconds, so that whatever else the
machine does strikes both. The time counted is the processor's, and that of training alone; validation is on top.
Writes bench/results/char_rnn.json and a picture of bits per character in validation over time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import platform
import time
from typing import Any

from bench.__main__ import RESULTS, one_core, processor

TURN = 2.0  # seconds
POINTS = 20  # validations
AGREE = 5  # steps whose losses must agree, to rounding, before the time counts
TOLERANCE = 1e-3


def same_losses(trainings: dict[str, Any]) -> None:
    """Some steps of each; the same program on the same numbers has the same losses."""
    for training in trainings.values():
        for _ in range(AGREE):
            training.step(0.0)
    first, *others = trainings.values()
    for other in others:
        if not all(math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(first.losses, other.losses, strict=True)):
            raise ArithmeticError(f"the frameworks compute different losses: {first.losses}, {other.losses}")


def contest(trainings: dict[str, Any], minutes: float) -> None:
    """Trains all of them for that long, in turns, the one with the least time first."""
    same_losses(trainings)
    validated = dict.fromkeys(trainings, 0)
    while True:
        name = min(trainings, key=lambda name: trainings[name].seconds)
        training = trainings[name]
        if training.progress(math.inf, minutes) == 1:
            return
        end = training.seconds + TURN
        while training.seconds < end and (progress := training.progress(math.inf, minutes)) < 1:
            training.step(progress)
            done = int(POINTS * training.progress(math.inf, minutes))
            if done > validated[name]:
                validated[name] = done
                training.validate()


def summary(training: Any) -> dict[str, Any]:
    """What a training came to."""
    read, seconds, trained, bits = training.history[-1]
    return {
        "settings": dataclasses.asdict(training.settings),
        "validation_bits": bits,
        "best_validation_bits": min(bits for *_, bits in training.history),
        "training_bits": trained,
        "steps": training.steps,
        "seconds": seconds,
        "characters_per_second": read / seconds,
        "history": [[seconds, bits] for _, seconds, _, bits in training.history],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row a cell: bits per character, steps and speed of each framework."""
    lines = []
    for cell, contenders in results.items():
        for name, r in contenders.items():
            lines.append(
                f"{cell:5} {name:9} {r['validation_bits']:.4f} bits per character (at best "
                f"{r['best_validation_bits']:.4f}) after {r['steps']:6,} steps, "
                f"{r['characters_per_second']:9,.0f} characters a second"
            )
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], path: pathlib.Path) -> None:
    """Bits per character in validation over the seconds of training, a part for each cell."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(results), 3.6), layout="constrained")
    parts = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (cell, contenders) in zip(parts, results.items(), strict=True):
        for (name, result), colour in zip(contenders.items(), ("C0", "C3"), strict=False):
            seconds, bits = zip(*result["history"], strict=True)
            axes.plot(
                seconds, bits, ".-", color=colour, label=f"{name}: {bits[-1]:.3f} after {result['steps']:,} steps"
            )
        axes.set(title=cell, xlabel="seconds of training, one core")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    parts[0].set_ylabel("bits per character in validation")
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.char_rnn", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each cell and framework")
    parser.add_argument("--cells", nargs="+", choices=("rnn", "lstm", "gru"), default=("rnn", "lstm", "gru"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args(arguments)
    one_core()

    from bench import peers
    from fastgrad.examples.char_rnn import CELLS, Settings, Training, read_text

    text = read_text(options.file)
    results: dict[str, dict[str, Any]] = {}
    for cell in options.cells:
        settings = Settings(cell, seed=options.seed)
        trainings = {name: Training(text, settings, t, time.process_time) for name, t in peers.FRAMEWORKS.items()}
        contest(trainings, options.minutes)
        results[CELLS[cell]] = {name: summary(training) for name, training in trainings.items()}
        print(table({CELLS[cell]: results[CELLS[cell]]}), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    contents = {
        "processor": processor(),
        "python": platform.python_version(),
        "versions": peers.versions(),
        "file": options.file.name,
        "minutes": options.minutes,
        "results": results,
    }
    (options.out / "char_rnn.json").write_text(json.dumps(contents, indent=1))
    try:
        draw(results, options.out / "char_rnn.png")
    except ImportError:
        print("No picture: matplotlib is not installed.")


if __name__ == "__main__":
    main()
