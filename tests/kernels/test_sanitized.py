"""The matrix products and the recurrent kernels under the compiler's sanitizers; see sanitized.c."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastgrad._core import launch

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "src" / "kernels"
DRIVER = Path(__file__).with_name("sanitized.c")
PER_ISA = [KERNELS / name for name in ("gemm.c", "matmul.c", "recurrent.c", "rnn.c", "lstm.c", "gru.c")] + [DRIVER]
ONCE = [KERNELS / "table.c", KERNELS / "threads.c", DRIVER]
AVX2 = ["-mavx2", "-mfma"]
ISA_FLAGS = {
    "baseline": [],
    "avx2": AVX2,
    "avx512": [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"],
}
FLAGS = ["-std=gnu11", "-O1", "-g1", "-fno-math-errno", "-fno-trapping-math", f"-I{KERNELS}"]


def compiler() -> str:
    return os.environ.get("CC", "cc").split()[0]


def sanitizes(flags: list[str], folder: Path) -> bool:
    """Can programs be built and run with these sanitizers?"""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    if not shutil.which(compiler()):
        return False
    built = subprocess.run([compiler(), *flags, str(source), "-o", str(folder / "empty")], capture_output=True)
    return built.returncode == 0 and subprocess.run([str(folder / "empty")], capture_output=True).returncode == 0


@pytest.mark.skipif(not KERNELS.exists(), reason="needs the sources of the kernels")
@pytest.mark.skipif(platform.system() != "Linux", reason="needs Linux")
@pytest.mark.parametrize(
    ("sanitizer", "isa"), [("thread", "baseline"), *(("address,undefined", isa) for isa in launch.isa_names())]
)
def test_nothing_is_found(sanitizer: str, isa: str, tmp_path: Path) -> None:
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    if not sanitizes(flags, tmp_path):
        pytest.skip(f"{compiler()} cannot build with -fsanitize={sanitizer}")

    def compiled(job: tuple[Path, list[str]]) -> str:
        source, extra = job
        target = tmp_path / f"{source.stem}{len(extra)}.o"
        subprocess.run([compiler(), *FLAGS, *flags, *extra, "-c", str(source), "-o", str(target)], check=True)
        return str(target)

    here = [f"-DFG_ISA={isa}", *ISA_FLAGS[isa]]
    choices = [] if isa == "baseline" else [f"-DFG_ISA_{isa.upper()}"]
    jobs = [(source, here) for source in PER_ISA] + [(source, choices) for source in ONCE]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, jobs))
    program = tmp_path / "sanitized"
    subprocess.run([compiler(), *flags, *objects, "-o", str(program), "-lm", "-lpthread"], check=True)
    threads = ["2"] if sanitizer == "thread" else ["1", "2"]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    result = subprocess.run([str(program), isa, *threads], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[:4000]
    assert result.stdout == f"{isa}: nothing found\n"
