"""python -m bench [--quick] [--only TOPIC] [--readme]: prints tables, writes bench/results/bench.json and pictures."""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import platform
import traceback
from types import ModuleType
from typing import TYPE_CHECKING

from bench.process import one_core

if TYPE_CHECKING:
    from bench.measure import Outcome

TOPICS = (
    "overhead",
    "mlp",
    "inference",
    "recurrent",
    "recurrent_forward",
    "streaming",
    "hidden_sizes",
    "saturated",
    "threads",
    "memory",
    "long_sequences",
    "elementwise",
    "import_size",
)
ROOT = pathlib.Path(__file__).parent
RESULTS = ROOT / "results"


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def outcomes_of(module: ModuleType, quick: bool) -> list[Outcome]:
    """A topic times its `rows`, or has measured `outcomes` in its own way."""
    from bench.measure import Outcome, measure

    topic = module.__name__.rpartition(".")[2]
    found: list[Outcome] = []
    try:
        if hasattr(module, "outcomes"):
            return module.outcomes(quick)
        for row in module.rows(quick):
            try:
                found.append(measure(row, quick))
            except Exception as error:  # one broken row must not take the others with it
                traceback.print_exc()
                found.append(Outcome(row.topic, row.name, row.targets, error=str(error)))
    except Exception as error:
        traceback.print_exc()
        found.append(Outcome(topic, topic, error=str(error)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, without the largest sizes")
    parser.add_argument("--only", choices=TOPICS, action="append", help="this topic alone; may be given again")
    parser.add_argument("--by", choices=("median", "best"), default="median", help="the repetitions that are compared")
    parser.add_argument(
        "--clock", choices=("wall", "processor"), default="wall", help="processor: for a machine with other work"
    )
    parser.add_argument("--readme", action="store_true", help="put the figures into README.md and bench/RESULTS.md")
    options = parser.parse_args()
    one_core()

    import fastgrad
    from bench import measure, peers, report

    measure.clock = measure.CLOCKS[options.clock]
    fastgrad.show_config()
    RESULTS.mkdir(exist_ok=True)
    modules = {topic: importlib.import_module(f"bench.{topic}") for topic in options.only or TOPICS}
    found: dict[str, list[Outcome]] = {}
    for topic, module in modules.items():
        found[topic] = outcomes_of(module, options.quick)
        print(f"\n{topic}\n{report.table(found[topic], options.by)}", flush=True)
        try:
            getattr(module, "draw", report.draw)(found[topic], RESULTS / f"{topic}.png")
        except ImportError:
            print("No picture: matplotlib is not installed.")
    contents = {
        "processor": processor(),
        "python": platform.python_version(),
        "versions": peers.versions(),
        "quick": options.quick,
        "clock": options.clock,
        "rows": [outcome.record() for outcomes in found.values() for outcome in outcomes],
    }
    (RESULTS / "bench.json").write_text(json.dumps(contents, indent=1))
    print(f"\n{RESULTS / 'bench.json'}")
    if options.readme:
        versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
        machine = f"{processor()}, one core, Python {platform.python_version()}"
        heading = f"{machine}, {versions}; {options.by} {options.clock} time."
        titles = {topic: (module.__doc__ or topic).partition("\n")[0].rstrip(".") for topic, module in modules.items()}
        report.write(found, titles, heading, options.by, ROOT.parent / "README.md", ROOT / "RESULTS.md")


if __name__ == "__main__":
    main()
