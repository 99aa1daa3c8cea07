"""Every example in a docstring of fastgrad runs and prints what it says, those of compiled functions too."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import fastgrad


def modules() -> Iterator[Any]:
    yield fastgrad
    for info in pkgutil.walk_packages(fastgrad.__path__, "fastgrad."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def documented() -> dict[str, str]:
    """{name: docstring with an example}; doctest's own finder skips compiled functions."""
    found: dict[str, str] = {}
    seen: set[str] = set()

    def take(name: str, thing: Any) -> None:
        text = getattr(thing, "__doc__", None)
        if isinstance(text, str) and ">>>" in text and text not in seen:
            seen.add(text)
            found[name] = text

    for module in modules():
        take(module.__name__, module)
        for name, thing in sorted(vars(module).items()):
            if getattr(thing, "__module__", module.__name__) is not None and callable(thing):
                take(f"{module.__name__}.{name}", thing)
                if isinstance(thing, type):
                    for member_name, member in sorted(vars(thing).items()):
                        take(f"{module.__name__}.{name}.{member_name}", member)
    return found


DOCUMENTED = documented()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_example(name: str) -> None:
    test = doctest.DocTestParser().get_doctest(DOCUMENTED[name], {}, name, None, None)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not report, "".join(report)


def test_most_of_the_public_surface_has_an_example() -> None:
    assert len(DOCUMENTED) > 50
