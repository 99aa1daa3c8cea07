"""python -m bench [--quick] [--only TOPIC]: measures, prints tables, writes bench/results/bench.json and bench.png."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
import os
import pathlib
import platform
import traceback
from typing import Any

TOPICS = ("overhead", "mlp", "inference", "rnn", "elementwise", "import_size")
PEERS = ("PyTorch", "NumPy", "JAX", "ONNX Runtime")
RESULTS = pathlib.Path(__file__).with_name("results")


def one_core() -> None:
    """Everyone gets one thread on one core; to be called before NumPy is imported."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ[name] = "1"
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "MB":
        return f"{value:.1f} MB"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or name == "us":
            return f"{value * factor:.3g} {name}" if value * factor < 100 else f"{value * factor:.0f} {name}"
    return ""


def table(outcomes: list[Any]) -> str:
    """Times per step; `x` columns say how many times longer the peer takes."""
    peers = [peer for peer in PEERS if any(peer in o.median for o in outcomes)]
    lines = [["", "fastgrad", *[c for peer in peers for c in (peer, "x")], "target", "", "of sgemm"]]
    for o in outcomes:
        if o.error is not None:
            lines.append([o.name, f"failed: {o.error}"])
            continue
        line = [o.name, shown(o.median["fastgrad"], o.unit)]
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


def draw(outcomes: list[Any], path: pathlib.Path) -> None:
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
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, without the largest sizes")
    parser.add_argument("--only", choices=TOPICS, action="append", help="this topic alone; may be given again")
    options = parser.parse_args()
    one_core()

    import fastgrad
    from bench import measure, peers

    fastgrad.show_config()
    peak = functools.cache(measure.sgemm_peak)
    found: list[measure.Outcome] = []
    for topic in options.only or TOPICS:
        module = importlib.import_module(f"bench.{topic}")
        outcomes: list[measure.Outcome] = []
        if topic == "import_size":
            outcomes = module.outcomes(options.quick)
        else:
            for row in module.rows(options.quick):
                try:
                    outcomes.append(measure.measure(row, options.quick, peak))
                except Exception as error:  # one broken row must not take the others with it
                    traceback.print_exc()
                    outcomes.append(measure.Outcome(row.topic, row.name, row.target, error=str(error)))
        print(f"\n{topic}\n{table(outcomes)}", flush=True)
        found += outcomes
    RESULTS.mkdir(exist_ok=True)
    report = {
        "processor": processor(),
        "python": platform.python_version(),
        "versions": peers.versions(),
        "sgemm_gflops": peak(),
        "quick": options.quick,
        "rows": [
            {**dataclasses.asdict(o), "ratio": {peer: o.ratio(peer) for peer in o.median}, "met": o.met()}
            for o in found
        ],
    }
    (RESULTS / "bench.json").write_text(json.dumps(report, indent=1))
    print(f"\nsgemm of NumPy's BLAS, one core: {peak():.1f} GFLOP/s. {RESULTS / 'bench.json'}")
    try:
        draw(found, RESULTS / "bench.png")
    except ImportError:
        print("No picture: matplotlib is not installed.")


if __name__ == "__main__":
    main()
