"""The threads that kernels share: what they compute, and that no use of them hangs (every program has a time limit)."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import fastgrad as fg

SOURCES = pathlib.Path(__file__).parents[2] / "src" / "kernels"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
SECONDS = 120


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    target = tmp_path_factory.mktemp("threads") / "driver"
    sources = [pathlib.Path(__file__).with_name("threads_driver.c"), SOURCES / "threads.c"]
    command = [COMPILER, "-std=gnu11", "-O1", f"-I{SOURCES}", *map(str, sources), "-o", str(target), "-pthread", "-lm"]
    subprocess.run(command, check=True, timeout=SECONDS)
    return target


@pytest.mark.skipif(not COMPILER or not SOURCES.is_dir(), reason="needs a C compiler and the sources")
@pytest.mark.parametrize("check", ["one_caller", "many_callers", "forks_amid_launches", "too_few_threads_to_be_had"])
def test_each_task_runs_once(driver: pathlib.Path, check: str) -> None:
    if check == "too_few_threads_to_be_had" and not sys.platform.startswith("linux"):
        pytest.skip("only Linux holds a process to RLIMIT_AS")
    done = subprocess.run([str(driver), check], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def run(program: str, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=variables | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOW = "import fastgrad; print(fastgrad.get_num_threads())"


def test_the_number_at_import() -> None:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert 1 <= int(run(SHOW)) <= processors
    assert int(run(SHOW, FASTGRAD_NUM_THREADS="3")) == 3
    assert int(run(SHOW, FASTGRAD_NUM_THREADS="")) == int(run(SHOW))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.parametrize("blas", [{}, {"OPENBLAS_NUM_THREADS": "4"}], ids=str)
def test_one_processor_is_one_thread(blas: dict[str, str]) -> None:
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert int(run(pin + SHOW, **blas)) == 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "9" * 30])
def test_a_wrong_number_at_import(value: str) -> None:
    program = f"""
try:
    import fastgrad
except ImportError as error:
    assert str(error) == "[fastgrad] FASTGRAD_NUM_THREADS must be a positive whole number; got {value}", error
else:
    raise AssertionError
"""
    run(program, FASTGRAD_NUM_THREADS=value)


def test_bounds() -> None:
    before = fg.get_num_threads()
    try:
        for number in (0, -1, -(2**63)):
            with pytest.raises(RuntimeError, match=rf"^\[set_num_threads\] .* must be positive; got {number}$"):
                fg.set_num_threads(number)
            assert fg.get_num_threads() == before
        fg.set_num_threads(3)
        assert fg.get_num_threads() == 3
        fg.set_num_threads(2**40)  # nothing starts before it is needed, and there is a limit
        assert 3 < fg.get_num_threads() < 10000
    finally:
        fg.set_num_threads(before)
