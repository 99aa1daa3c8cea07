"""The stubs say what the compiled modules have: every name, with its parameters and their defaults, nothing else."""

from __future__ import annotations

import ast
import inspect
import pathlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import fastgrad as fg

CORE = pathlib.Path(fg._core.__file__).parent
EMPTY = inspect.Parameter.empty
Parameters = list[tuple[str, str, Any]]
Definitions = dict[str, list[ast.stmt]]


def definitions(body: list[ast.stmt]) -> Definitions:
    """{name: what declares it}; an overloaded function has several declarations."""
    found: Definitions = {}
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found.setdefault(name, []).append(statement)
            case ast.ImportFrom(module=str(module), names=aliases) if module.startswith("fastgrad._core."):
                for alias in aliases:
                    if alias.asname == alias.name:  # `import x as x` is how a stub passes a name on
                        found[alias.name] = stub(module.rpartition(".")[2])[alias.name]
    return found


def stub(module: str) -> Definitions:
    return definitions(ast.parse((CORE / f"{module}.pyi").read_text(encoding="utf-8")).body)


def declared_parameters(function: ast.stmt) -> Parameters:
    """(name, kind, default) of every parameter."""
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [EMPTY] * (len(positional) - len(arguments.defaults)) + [*map(ast.literal_eval, arguments.defaults)]
    found: Parameters = [(item.arg, "positional", value) for item, value in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        found.append((arguments.vararg.arg, "*", EMPTY))
    for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((argument.arg, "keyword", EMPTY if node is None else ast.literal_eval(node)))
    if arguments.kwarg:
        found.append((arguments.kwarg.arg, "**", EMPTY))
    return found


def compiled_parameters(function: Callable[..., Any]) -> Parameters:
    kinds = {"VAR_POSITIONAL": "*", "KEYWORD_ONLY": "keyword", "VAR_KEYWORD": "**"}
    parameters = inspect.signature(function).parameters.values()
    return [(item.name, kinds.get(item.kind.name, "positional"), item.default) for item in parameters]


def check_parameters(statements: list[ast.stmt], function: Callable[..., Any], first: int = 0) -> None:
    """Compare from parameter `first` on: 1 skips self, which a compiled function may call otherwise."""
    compiled = compiled_parameters(function)[first:]
    overloads = [declared_parameters(statement)[first:] for statement in statements]
    for declared in overloads:
        assert [parameter[:2] for parameter in declared] == [parameter[:2] for parameter in compiled]
    for position, (name, _, default) in enumerate(compiled):
        defaults = [declared[position][2] for declared in overloads]
        assert default in defaults, name
        # What one overload may leave out another may require, but it has no other default.
        assert set(map(repr, defaults)) <= {repr(default), repr(EMPTY)}, name


def entries(table: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(public name, object) of a table of fastgrad._core."""
    for module, names in table.items():
        for entry in names.split():
            name, _, function = entry.partition("=")
            yield name, getattr(import_module(f"fastgrad._core.{module}"), function or name)


def is_function(value: object) -> bool:
    """Is it a function of Python or Cython, whose signature can be read?"""
    return inspect.isfunction(value) or type(value).__name__ == "cython_function_or_method"


STUB = stub("__init__")
(TENSOR_CLASS,) = STUB["Tensor"]
assert isinstance(TENSOR_CLASS, ast.ClassDef)
TENSOR = definitions(TENSOR_CLASS.body)
FUNCTIONS = dict(entries(fg._core.FUNCTIONS)) | dict(entries(fg._core.FUSED))
METHODS = dict(entries(fg._core.METHODS))
# Any attribute of a Function's context; and the buffer protocol, which Python shows from 3.12 on.
UNSEEN = {"__getattr__", "__buffer__"}
MODULES = {name: import_module(f"fastgrad._core.{name}") for name in ("autograd", "function")}


@pytest.mark.parametrize("name", [name for name, value in FUNCTIONS.items() if is_function(value)])
def test_function(name: str) -> None:
    check_parameters(STUB[name], FUNCTIONS[name])


@pytest.mark.parametrize("name", METHODS)
def test_method(name: str) -> None:
    assert vars(fg.Tensor)[name] is METHODS[name]
    check_parameters(TENSOR[name], METHODS[name], 1)


def test_every_name_is_declared_and_nothing_else() -> None:
    tables = {"FUNCTIONS", "FUSED", "METHODS", "functions"}
    assert {name for name in STUB if not name.startswith("_")} == {*fg._core.__all__, *FUNCTIONS, *tables}
    body = ast.parse((CORE / "__init__.pyi").read_text(encoding="utf-8")).body
    (exported,) = [
        ast.literal_eval(statement.value)
        for statement in body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
    ]
    assert sorted(exported) == sorted(fg._core.__all__)


def test_every_attribute_of_a_tensor_is_declared_and_nothing_else() -> None:
    empty = {"__delitem__", "__release_buffer__", "__pyx_vtable__"}
    own = {name for name, value in vars(fg.Tensor).items() if name in METHODS or getattr(object, name, None) is None}
    assert own - empty <= set(TENSOR) <= {*vars(fg.Tensor), *UNSEEN}


def classes() -> Iterator[Any]:
    """The classes that the stubs declare under their own names."""
    for module in ("__init__", *MODULES):
        for name, statements in stub(module).items():
            if isinstance(statements[0], ast.ClassDef) and not name.startswith("_"):
                value = getattr(MODULES.get(module, fg._core), name)
                yield pytest.param(value, definitions(statements[0].body), id=f"{module}.{name}")


@pytest.mark.parametrize(("value", "declared"), list(classes()))
def test_class(value: type, declared: Definitions) -> None:
    """Its public attributes are declared, its declared methods exist, with those parameters where they can be read."""
    assert {name for name in vars(value) if not name.startswith("_")} <= set(declared)
    for name, statements in declared.items():
        if isinstance(statements[0], ast.FunctionDef) and name not in UNSEEN:
            function = inspect.getattr_static(value, name)
            if is_function(function):
                check_parameters(statements, function, 1)


@pytest.mark.parametrize("module", MODULES)
def test_module(module: str) -> None:
    for name, statements in stub(module).items():
        if isinstance(statements[0], ast.FunctionDef):
            check_parameters(statements, getattr(MODULES[module], name))
