"""The threads that kernels share: what they compute, and that no use of them hangs (every program has a time limit)."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import fastgrad as fg
from fastgrad._core import launch

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


shared = pytest.mark.skipif(launch.ISA == "baseline", reason="products of this size go to the BLAS")
PRODUCTS = """
import sys
import numpy as np
from fastgrad._core import launch_kernel, set_num_threads

rng = np.random.default_rng(0)

def product(m, n, k, dtype, transposed):
    a = rng.standard_normal((m, k)).astype(dtype)
    w = rng.standard_normal((n, k) if transposed else (k, n)).astype(dtype)
    b = rng.standard_normal(n).astype(dtype)
    def run():
        out = np.full((m, n), np.nan, dtype)
        if transposed:
            launch_kernel("linear", [out, a, w, b])
        else:
            launch_kernel("matmul", [out, a, w], f=[0, 1])
        return out
    return run
"""


@shared
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_the_number_of_threads(dtype: str) -> None:
    run(f"""{PRODUCTS}
# Shared by blocks of rows, by panels (even and uneven) and by rows; a row and a column of results; many parts of sums.
SIZES = [
    (1500, 70, 48), (100, 700, 70), (40, 520, 210), (200, 96, 230), (203, 17, 1301), (1, 4099, 1031), (4099, 1, 1031),
]
for size in SIZES:
    for transposed in (False, True):
        once = product(*size, "{dtype}", transposed)
        set_num_threads(1)
        alone = once()
        for threads in (2, 3, 7):
            set_num_threads(threads)
            for again in range(3):
                assert once().tobytes() == alone.tobytes(), (size, transposed, threads)
""")


def test_several_python_threads_at_once() -> None:
    run(f"""{PRODUCTS}
import threading
import fastgrad as fg
x, w = fg.randn(100, 400), fg.randn(400, 300)
set_num_threads(1)
right = x.matmul(w).numpy().tobytes()
set_num_threads(2)
wrong = []
def work():
    for _ in range(200):
        if x.matmul(w).numpy().tobytes() != right:
            wrong.append(1)
callers = [threading.Thread(target=work) for _ in range(4)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]
assert not wrong
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("amid", [False, True], ids=["after", "amid"])
def test_fork(amid: bool) -> None:
    run(f"""{PRODUCTS}
import multiprocessing, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # CPython's on a fork amid threads: that is what is tested
set_num_threads(2)
once = product(100, 300, 400, "float32", False)
right = once().tobytes()
done = threading.Event()
def work():
    while not done.is_set():
        once()
def child():
    for _ in range(50):
        assert once().tobytes() == right
other = threading.Thread(target=work)
if {amid}:
    other.start()
try:
    for _ in range(10):
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0, process.exitcode
finally:
    done.set()
assert once().tobytes() == right
""")


def test_an_interrupt_leaves_the_pool_usable() -> None:
    run(f"""{PRODUCTS}
import os, signal, threading, time
set_num_threads(2)
once = product(100, 300, 400, "float32", False)
right = once().tobytes()
for _ in range(10):
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            once()
    except KeyboardInterrupt:
        pass
    assert once().tobytes() == right
""")


def test_the_end_of_the_program_amid_launches() -> None:
    run(f"""{PRODUCTS}
import threading, time
set_num_threads(2)
once = product(100, 300, 400, "float32", False)
def work():
    while True:
        once()
threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""")


@shared
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_threads_start_when_they_are_wanted_and_burn_nothing_when_idle() -> None:
    run(f"""{PRODUCTS}
import os, time
def threads():
    return len(os.listdir("/proc/self/task"))
set_num_threads(1)
alone = threads()
product(300, 300, 300, "float32", False)()
assert threads() == alone
set_num_threads(3)  # the BLAS may start its own at once
before = threads()
product(8, 8, 8, "float32", False)()
assert threads() == before
once = product(300, 300, 300, "float32", False)
once()
assert threads() == before + 2
for _ in range(50):
    once()
    time.sleep(0.002)
time.sleep(0.05)
started = time.process_time()
time.sleep(0.5)
assert time.process_time() - started < 0.05
set_num_threads(1)
time.sleep(0.2)
assert threads() <= before
""")
