"""What a run leaves behind: tables on the terminal, a Markdown table for the README, a picture."""

from __future__ import annotations

import pathlib
import re

from bench.measure import OURS, Outcome

PEERS = ("PyTorch", "NumPy", "JAX", "ONNX Runtime")
MARKS = re.compile(r"(<!-- bench:begin -->\n).*?(<!-- bench:end -->)", re.DOTALL)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "MB":
        return f"{value:.1f} MB"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or name == "us":
            return f"{value * factor:.3g} {name}" if value * factor < 100 else f"{value * factor:.0f} {name}"
    return ""


def table(outcomes: list[Outcome]) -> str:
    """Times per step; `x` columns say how many times longer the peer takes."""
    peers = [peer for peer in PEERS if any(peer in o.median for o in outcomes)]
    lines = [["", OURS, *[c for peer in peers for c in (peer, "x")], "target", "", "of sgemm"]]
    for o in outcomes:
        if o.error is not None:
            lines.append([o.name, f"failed: {o.error}"])
            continue
        line = [o.name, shown(o.median[OURS], o.unit)]
        for peer in peers:
            ratio = o.ratio(peer)
            line += [shown(o.median.get(peer), o.unit), "" if ratio is None else f"{ratio:.2f}"]
        target = (
            f"{o.target:g}x" if o.target is not None else f"< {shown(o.limit, o.unit)}" if o.limit is not None else ""
        )
        met = {True: "met", False: "MISSED", None: ""}[o.met()]
        line += [target, met, "" if o.percent_of_peak is None else f"{o.percent_of_peak:.0f} %"]
        lines.append(line)
    widths = [max(len(line[k]) for line in lines if len(line) > k and len(line) > 2) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=False))
        )
        for line in lines
    )


def draw(outcomes: list[Outcome], path: pathlib.Path) -> None:
    """How many times faster than each peer, one line of marks a row."""
    from matplotlib.figure import Figure

    rows = [o for o in outcomes if o.error is None and o.unit == "s" and len(o.median) > 1][::-1]
    figure = Figure(figsize=(9, 1 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for peer, marker, colour in zip(PEERS, "osD^", ("C3", "C0", "C2", "C4"), strict=True):
        points = [(o.ratio(peer), k) for k, o in enumerate(rows) if o.ratio(peer) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=peer, alpha=0.85)
    targets = [(o.target, k) for k, o in enumerate(rows) if o.target is not None]
    if targets:
        axes.plot(*zip(*targets, strict=True), "|", color="black", markersize=12, label="target against PyTorch")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [o.name for o in rows], fontsize=8)
    axes.set_xlabel("times faster than the peer, one core (left of 1: slower)")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside upper center", ncols=len(PEERS) + 1)
    figure.savefig(path, dpi=130)


def markdown(outcomes: list[Outcome], heading: str) -> str:
    """A row a measure: our time, and each peer's with how many times longer it takes."""
    peers = [peer for peer in PEERS if any(peer in o.median for o in outcomes)]
    lines = [heading, "", "| | fastgrad | " + " | ".join(peers) + " |", "|---|" + "---:|" * (len(peers) + 1)]
    for o in outcomes:
        if o.error is not None:
            continue
        cells = [o.name, shown(o.median[OURS], o.unit)]
        for peer in peers:
            ratio = o.ratio(peer)
            cells.append("" if ratio is None else f"{shown(o.median[peer], o.unit)} ({ratio:.1f}x)")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def put_into_readme(text: str, readme: pathlib.Path) -> None:
    """Replaces what stands between the two marks of the README."""
    readme.write_text(
        MARKS.sub(lambda found: found[1] + text + found[2], readme.read_text(encoding="utf-8")), encoding="utf-8"
    )
