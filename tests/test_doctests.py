"""The docstrings: every public object has one, and its examples print what they say, those of compiled code too."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import fastgrad as fg
from fastgrad._core import FUNCTIONS, FUSED, METHODS


def modules() -> Iterator[ModuleType]:
    """fastgrad and everything below it, the compiled modules too."""
    yield fg
    for found in pkgutil.walk_packages(fg.__path__, "fastgrad."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def tables() -> Iterator[tuple[str, Any]]:
    """What the tables of fastgrad._core name: `fastgrad.name`, `fastgrad._core.name` and `Tensor.name`."""
    for prefix, table in (("", FUNCTIONS), ("_core.", FUSED), ("Tensor.", METHODS)):
        for module, names in table.items():
            compiled = importlib.import_module(f"fastgrad._core.{module}")
            for entry in names.split():
                name, _, function = entry.partition("=")
                yield prefix + name, getattr(compiled, function or name)


def members(value: type) -> dict[str, Any]:
    """The methods and properties that a class itself defines."""
    return {
        name: item for name, item in vars(value).items() if inspect.isroutine(item) or inspect.isdatadescriptor(item)
    }


def objects() -> dict[str, Any]:
    """{name: object} of all that can have a docstring, each object once, under the first name that leads to it."""
    found: dict[int, tuple[str, Any]] = {}

    def take(name: str, value: Any) -> None:
        if id(value) not in found:
            found[id(value)] = name, value
            if isinstance(value, type):
                for member, item in members(value).items():
                    take(f"{name}.{member}", item)

    for name, value in tables():
        take(name, value)
    for module in modules():
        take(module.__name__, module)
        for name, value in vars(module).items():
            defined_in = getattr(value, "__module__", None)
            if callable(value) and isinstance(defined_in, str) and defined_in.startswith("fastgrad"):
                take(f"{module.__name__}.{name}".removeprefix("fastgrad."), value)
    return dict(found.values())


OBJECTS = objects()
EXAMPLES = {
    name: value.__doc__ for name, value in OBJECTS.items() if isinstance(value.__doc__, str) and ">>>" in value.__doc__
}


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """What an example may set, as it is after the import, before and after."""
    fg.set_default_dtype(fg.float32)
    fg.set_printoptions(profile="default")
    fg.manual_seed(0)
    yield
    fg.set_default_dtype(fg.float32)
    fg.set_printoptions(profile="default")


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], {}, name, None, None)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert result.attempted and not result.failed, "".join(report)


def exported(module: ModuleType) -> list[str]:
    """What a module exports: its `__all__`, else what it defines itself."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", own)


def public() -> Iterator[tuple[str, Any]]:
    """(name, object) of what the tables name, the modules of the library export and their classes define."""
    yield from tables()
    for module in modules():
        if "._" in module.__name__ or ".examples" in module.__name__:
            continue
        for name in exported(module):
            value = getattr(module, name)
            yield f"{module.__name__}.{name}", value
            if isinstance(value, type) and not name.startswith("_"):
                for member in members(value):
                    yield f"{module.__name__}.{name}.{member}", getattr(value, member)


def takes_a_docstring(value: Any) -> bool:
    """Functions, classes and properties do; of compiled attributes those of Tensor, whose getters are written out."""
    is_attribute_of_tensor = inspect.isgetsetdescriptor(value) and value.__objclass__ is fg.Tensor
    return isinstance(value, type | property) or inspect.isroutine(value) or is_attribute_of_tensor


def test_what_is_public_is_documented() -> None:
    """A method may have the docstring of the one that it overrides."""
    for name, value in public():
        if takes_a_docstring(value) and not name.rpartition(".")[2].startswith("_"):
            assert inspect.getdoc(value), name


def test_the_walk_finds_python_and_compiled_objects() -> None:
    some = {"tensor", "Tensor.item", "Tensor.scatter_", "_core.recurrent_layer", "Function", "nn.Linear"}
    assert some <= set(OBJECTS)
