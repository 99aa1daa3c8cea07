"""python -m bench [--quick] [--only TOPIC] [--readme]: prints tables, writes bench/results/bench.json and bench.png."""

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

TOPICS = ("overhead", "mlp", "inference", "rnn", "elementwise", "import_size")
RESULTS = pathlib.Path(__file__).with_name("results")


def one_core() -> None:
    """Everyone gets one thread on one core; to be called before NumPy is imported."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ[name] = "1"
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


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
    parser.add_argument(
        "--by", choices=("median", "best"), default="median", help="best: for a machine with other work"
    )
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    one_core()

    import fastgrad
    from bench import measure, peers, report

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
        if options.by == "best":
            for outcome in outcomes:
                outcome.use_best()
        print(f"\n{topic}\n{report.table(outcomes)}", flush=True)
        found += outcomes
    RESULTS.mkdir(exist_ok=True)
    contents = {
        "processor": processor(),
        "python": platform.python_version(),
        "versions": peers.versions(),
        "sgemm_gflops": peak(),
        "quick": options.quick,
        "by": options.by,
        "rows": [
            {**dataclasses.asdict(o), "ratio": {peer: o.ratio(peer) for peer in o.median}, "met": o.met()}
            for o in found
        ],
    }
    (RESULTS / "bench.json").write_text(json.dumps(contents, indent=1))
    print(f"\nsgemm of NumPy's BLAS, one core: {peak():.1f} GFLOP/s. {RESULTS / 'bench.json'}")
    try:
        report.draw(found, RESULTS / "bench.png")
    except ImportError:
        print("No picture: matplotlib is not installed.")
    if options.readme:
        versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
        heading = f"{processor()}, one core, Python {platform.python_version()}, {versions}; {options.by} times."
        report.put_into_readme(report.markdown(found, heading), RESULTS.parent.parent / "README.md")


if __name__ == "__main__":
    main()
