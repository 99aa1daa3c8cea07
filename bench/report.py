"""What a run leaves behind: tables on the terminal, Markdown for the README and RESULTS.md, pictures."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

from bench.measure import OURS, Outcome

PEERS = ("PyTorch", "NumPy", "JAX", "ONNX Runtime")
RATIOS = "A peer's column: how many times what fastgrad takes (time, memory, size) the peer takes."
MARKS = re.compile(r"(<!-- bench:begin -->\n).*?(<!-- bench:end -->)", re.DOTALL)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "MB":
        return f"{value:.3g} MB" if value < 100 else f"{value:.0f} MB"
    if unit != "s":
        return f"{value:.2f}{unit}"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or name == "us":
            return f"{value * factor:.3g} {name}" if value * factor < 100 else f"{value * factor:.0f} {name}"
    return ""


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def compared(outcomes: Iterable[Outcome]) -> list[str]:
    """The peers that were measured, the known ones first."""
    found = dict.fromkeys(name for o in outcomes for name in o.median if name != OURS)
    return [p for p in PEERS if p in found] + [p for p in found if p not in PEERS]


def targets(outcome: Outcome, by: str) -> list[str]:
    """What was asked for, and whether it is so."""
    asked = [times(outcome.targets["PyTorch"])] if "PyTorch" in outcome.targets else []
    asked += [times(t) for peer, t in outcome.targets.items() if peer not in PEERS]
    asked += [f"{outcome.percent:.0f} %"] if outcome.percent is not None else []
    asked += [f"< {shown(outcome.limit, outcome.unit)}"] if outcome.limit is not None else []
    missed = outcome.missed(by)
    reached = "" if not outcome.has_target() else f"MISSED: {', '.join(missed)}" if missed else "met"
    return [" ".join(asked), reached]


def table(outcomes: list[Outcome], by: str = "median") -> str:
    """Times per step; an `x` column: how many times longer the peer takes, in the median (and the best) repetition."""
    peers = compared(outcomes)
    percents = any(o.flops is not None for o in outcomes)
    lines = [["", OURS, *[c for peer in peers for c in (peer, "x")], *["of sgemm"] * percents, "target", ""]]
    for o in outcomes:
        if o.error is not None:
            lines.append([o.name, f"failed: {o.error}"])
            continue
        other = "best" if by == "median" else "median"
        line = [o.name, shown(o.of(by)[OURS], o.unit)]
        for peer in peers:
            ratios = o.ratio(peer, by), o.ratio(peer, other)
            line += [shown(o.of(by).get(peer), o.unit), f"{times(ratios[0])} ({times(ratios[1])})" if ratios[0] else ""]
        if percents:
            percent = o.percent_of_peak(by=by), o.percent_of_peak(by=other)
            line.append("" if percent[0] is None else f"{percent[0]:.0f} ({percent[1]:.0f}) %")
        lines.append(line + targets(o, by))
    widths = [max(len(line[k]) for line in lines if len(line) > k and len(line) > 2) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k in (0, len(widths) - 1) else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def draw(outcomes: list[Outcome], path: pathlib.Path) -> None:
    """How many times faster than each peer, one line of marks a row."""
    from matplotlib.figure import Figure

    rows = [o for o in outcomes if o.error is None and len(o.median) > 1][::-1]
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    styles = zip("osD^v", ("C3", "C0", "C2", "C4", "C1"), strict=True)
    for peer, (marker, colour) in zip(compared(rows), styles, strict=False):
        points = [(o.ratio(peer), k) for k, o in enumerate(rows) if o.ratio(peer) is not None]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=peer, alpha=0.85)
        marks = [(o.targets[peer], k) for k, o in enumerate(rows) if o.targets.get(peer, 1.0) != 1.0]
        if marks:
            axes.plot(*zip(*marks, strict=True), "|", color=colour, markersize=12, label=f"target against {peer}")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(rows)), [o.name for o in rows], fontsize=8)
    axes.set_xlabel(f"how many times what {OURS} takes (left of 1: the peer takes less)")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside upper center", ncols=5)
    figure.savefig(path, dpi=130)


def markdown(outcomes: list[Outcome], by: str = "median") -> str:
    """A row a measure: ours, its percentage of the sgemm peak, and how many times longer each peer takes."""
    outcomes = [o for o in outcomes if o.error is None]
    peers, percents = compared(outcomes), any(o.flops is not None for o in outcomes)
    head = ["", OURS, *["of sgemm's peak"] * percents, *peers]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for o in outcomes:
        percent = o.percent_of_peak(by=by)
        lines.append(
            [
                o.name,
                shown(o.of(by)[OURS], o.unit),
                *["" if percent is None else f"{percent:.0f} %"] * percents,
                *(times(o.ratio(peer, by)) for peer in peers),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def overview(topics: dict[str, list[Outcome]], titles: dict[str, str], by: str = "median") -> str:
    """A line a topic: the least and the most of what each peer takes."""
    peers = compared(o for outcomes in topics.values() for o in outcomes)
    lines = [["", "rows", *peers], ["---", *["---:"] * (len(peers) + 1)]]
    for topic, outcomes in topics.items():
        line = [titles[topic].partition(":")[0], str(sum(o.error is None for o in outcomes))]
        for peer in peers:
            ratios = [r for o in outcomes if (r := o.ratio(peer, by)) is not None]
            ends = list(dict.fromkeys([times(min(ratios)), times(max(ratios))])) if ratios else []
            line.append(" to ".join(ends))
        lines.append(line)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(
    topics: dict[str, list[Outcome]],
    titles: dict[str, str],
    heading: str,
    by: str,
    readme: pathlib.Path,
    results: pathlib.Path,
) -> None:
    """An overview and the recurrent layers into the README, every row into the results."""
    short = [heading, f"{RATIOS} Every row is in `bench/RESULTS.md`.", overview(topics, titles, by)]
    if "recurrent" in topics:
        short += [titles["recurrent"] + ".", markdown(topics["recurrent"], by)]
    put_into_readme("\n\n".join(part.rstrip() for part in short) + "\n", readme)
    parts = ["# Every measured row", "Written by `python -m bench --readme`.", heading, RATIOS]
    for topic, outcomes in topics.items():
        parts += [f"## {titles[topic]}", markdown(outcomes, by)]
    results.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")


def put_into_readme(text: str, readme: pathlib.Path) -> None:
    """Replaces what stands between the two marks of the README."""
    readme.write_text(
        MARKS.sub(lambda found: found[1] + text + found[2], readme.read_text(encoding="utf-8")), encoding="utf-8"
    )
