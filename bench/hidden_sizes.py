"""Percent of the sgemm peak against the hidden size, forward and backward: 50 steps, 20 sequences, inputs = hidden."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from bench import recurrent_layer
from bench.measure import OURS, Outcome, Row
from bench.peers import FRAMEWORKS
from bench.recurrent_layer import GATES

HIDDEN = (16, 32, 64, 128, 256, 512, 1024)
STEPS, BATCH = 50, 20


def rows(quick: bool) -> Iterator[Row]:
    for cell in GATES:
        for hidden in HIDDEN[:4] if quick else HIDDEN:
            size = (STEPS, BATCH, hidden, hidden)
            yield Row(
                "hidden_sizes",
                f"{cell}, H = {hidden}",
                {peer: recurrent_layer.training(t, cell, size) for peer, t in FRAMEWORKS.items()},
                flops=recurrent_layer.training_flops(cell, size),
                tolerance=recurrent_layer.tolerance(cell),
            )


def draw(outcomes: list[Outcome], path: pathlib.Path) -> None:
    """A panel a cell: the median as a line, the best repetition as its upper edge."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, cell in zip(figure.subplots(1, len(GATES), sharey=True), GATES, strict=True):
        points = {
            int(o.name.rpartition(" ")[2]): o for o in outcomes if o.error is None and o.name.startswith(f"{cell},")
        }
        for name, colour, marker in ((OURS, "C0", "o"), ("PyTorch", "C3", "s")):
            sizes = [h for h, o in points.items() if name in o.median]
            if not sizes:
                continue
            median, best = ([points[h].percent_of_peak(name, by) for h in sizes] for by in ("median", "best"))
            axes.plot(sizes, median, color=colour, marker=marker, markersize=5, label=name)
            axes.fill_between(sizes, median, best, color=colour, alpha=0.2, linewidth=0)
        axes.set_title("RNN (relu)" if cell == "RNN" else cell)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(HIDDEN), [str(h) for h in HIDDEN])
        axes.set_xlabel("hidden size")
        axes.set_ylim(0, 105)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("percent of the sgemm peak, one core")
    figure.axes[0].legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)
