"""The package as installed: what importing it brings along, and its behaviour under each instruction set."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

import fastgrad as fg


def run(program: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_brings_numpy_alone() -> None:
    """Every module beyond NumPy's own imports is the standard library's or fastgrad's."""
    loaded = json.loads(run("import sys, json, fastgrad; print(json.dumps(sorted(sys.modules)))"))
    tops = {name.partition(".")[0] for name in loaded}
    foreign = {top for top in tops if not top.startswith("_") and top not in sys.stdlib_module_names}
    before = json.loads(run("import sys, json, numpy; print(json.dumps(sorted(sys.modules)))"))
    allowed = {"fastgrad", *(name.partition(".")[0] for name in before)}
    assert foreign <= allowed | {"cython_runtime"}, foreign - allowed
    for extra in ("numba", "scipy", "matplotlib", "tqdm", "torch", "cupy"):
        assert extra not in tops


PROGRAM = """
import json
import numpy as np
import fastgrad as fg
random = np.random.default_rng(0)
def t(*shape): return fg.from_numpy(random.normal(size=shape)).requires_grad_()
x, w, b, h = t(7, 5, 3), t(9, 3), t(9), t(1, 5, 6)
rnn = [t(6, 9), t(6, 6), t(6), t(6)]
results = []
for nonlinearity in ("tanh", "relu"):
    z = fg.nn.functional.linear(x, w, b).tanh()
    y, h_n = fg._core.recurrent_layer("rnn_" + nonlinearity, z, h, None, [*rnn, None])
    loss = fg.nn.functional.cross_entropy(y.reshape(35, 6), fg.arange(35) % 6)
    loss = loss + (h_n.exp() * h_n.sigmoid()).mean() + y.max()
    gradients = fg.autograd.grad(loss, [x, w, b, h, *rnn])
    results += [loss.item(), *[g.sum().item() for g in gradients], *[g.norm().item() for g in gradients]]
fg.show_config()
print(json.dumps(results))
"""
SETS = ("baseline", "avx2", "avx512")


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import fastgrad"]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)


def supported() -> list[str]:
    return [name for name in SETS if start(FASTGRAD_ISA=name).returncode == 0]


def test_every_instruction_set_gives_the_same_numbers() -> None:
    names = supported()
    assert "baseline" in names
    results: dict[str, Any] = {}
    for name in names:
        lines = run(PROGRAM, FASTGRAD_ISA=name).strip().splitlines()
        assert any(name in line for line in lines[:-1]), "show_config names the set in use"
        results[name] = json.loads(lines[-1])
    for name in names:
        assert results[name] == pytest.approx(results["baseline"], rel=1e-11, abs=1e-12), name


def test_an_unknown_instruction_set_is_a_clear_error() -> None:
    result = start(FASTGRAD_ISA="sse9")
    assert result.returncode != 0 and "FASTGRAD_ISA" in result.stderr and "sse9" in result.stderr


def test_show_config_names_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    fg.show_config()
    printed = capsys.readouterr().out.lower()
    for word in ("instruction set", "blas", "threads", "cuda"):
        assert word in printed


def test_version() -> None:
    assert fg.__version__.count(".") == 2


def test_threads() -> None:
    before = fg.get_num_threads()
    try:
        fg.set_num_threads(1)
        assert fg.get_num_threads() == 1
        with pytest.raises((RuntimeError, ValueError)):
            fg.set_num_threads(0)
    finally:
        fg.set_num_threads(before)


def test_it_works_in_a_forked_child() -> None:
    program = """
import os
import pathlib
import shutil
import fastgrad as fg
x = fg.randn(300, 300)
y = (x @ x).sum().item()
child = os.fork()
if not child:
    os._exit(0 if (x @ x).sum().item() == y else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    if hasattr(os, "fork"):
        run(program)


def test_a_source_tree_that_is_not_built_says_so(tmp_path: pathlib.Path) -> None:
    package = pathlib.Path(fg.__file__).parent
    shutil.copytree(package, tmp_path / "fastgrad", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    result = subprocess.run(
        [sys.executable, "-c", "import fastgrad"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode != 0 and "[fastgrad] the compiled core must be beside" in result.stderr
