"""The README's programs run, and its figures are those of the benchmark."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"
if not README.exists():
    pytest.skip("README.md is not beside an installed package's tests", allow_module_level=True)

TEXT = README.read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number: int) -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAMS[number]], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    for claim, printed in zip(
        re.findall(r"# above ([\d.]+)", PROGRAMS[number]), re.findall(r"[\d.]+", result.stdout), strict=False
    ):
        assert float(printed.rstrip(".")) > float(claim)


def test_there_are_programs_and_two_commands() -> None:
    assert PROGRAMS
    first, second = SHELL[0].strip().splitlines()
    assert "fastgrad.examples.digits" in first and "pytest" in second


def test_every_file_it_names_exists() -> None:
    for name in re.findall(r"`((?:src|tests|fastgrad|bench|\.ci)[/\w.]*)`", TEXT):
        assert name.startswith("bench/results") or (README.parent / name).exists(), name
