"""Which cores and how many threads a process may use, and measurements that need a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

THREAD_COUNTS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def one_core() -> None:
    """Everyone gets one thread on one core; to be called before NumPy is imported."""
    for name in THREAD_COUNTS:
        os.environ[name] = "1"
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(CORES)})


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile inherits these cores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(module: str, *arguments: object, threads: int = 1) -> Any:
    """The JSON that `python -m MODULE ARGUMENTS` prints last, in a process of its own with `threads` threads."""
    environment = {**os.environ, **dict.fromkeys(THREAD_COUNTS, str(threads))}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with on_cores(CORES if threads > 1 else {max(CORES)}):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed: {result.stderr.strip()[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])
