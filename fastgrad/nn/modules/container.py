"""Containers: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from fastgrad._core import Tensor, call_in_turn
from fastgrad.nn.modules.module import Module
from fastgrad.nn.parameter import Parameter


class _Numbered(Module):
    """A list whose items are registered under their numbers; subclasses say which registry."""

    def __init__(self, items: Iterable | None = None) -> None:
        super().__init__()
        if items is not None:
            self.extend(items)

    def _names(self) -> dict[str, bool]:
        return self._module_names

    def _put(self, name: str, item: Any) -> None:
        self.add_module(name, item)

    def _position(self, index: Any) -> int:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position} is out of range")
        return position % len(self)

    def _replace_all(self, items: Iterable) -> None:
        items = list(items)
        for name in list(self._names()):
            self._forget(name)
        for number, item in enumerate(items):
            self._put(str(number), item)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter([getattr(self, name) for name in self._names()])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return getattr(self, list(self._names())[self._position(index)])

    def __setitem__(self, index: int, item: Any) -> None:
        setattr(self, list(self._names())[self._position(index)], item)

    def __delitem__(self, index: int | slice) -> None:
        items = list(self)
        del items[index if isinstance(index, slice) else self._position(index)]
        self._replace_all(items)

    def append(self, item: Any) -> Any:
        """Add an item at the end; returns the list."""
        self._put(str(len(self)), item)
        return self

    def extend(self, items: Iterable) -> Any:
        """Add all items at the end; returns the list."""
        if not isinstance(items, Iterable):
            raise TypeError(
                f"{type(self).__name__}.extend should be called with an iterable, but got {type(items).__name__}"
            )
        for item in list(items):
            self.append(item)
        return self

    def __iadd__(self, items: Iterable) -> Any:
        return self.extend(items)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]


class Sequential(_Numbered):
    """Calls its modules one after the other, each on the result of the one before.

    >>> import fastgrad as torch
    >>> torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    Sequential(
      (0): Linear(in_features=4, out_features=16, bias=True)
      (1): ReLU()
      (2): Linear(in_features=16, out_features=2, bias=True)
    )
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        return call_in_turn(self, self._module_names, input)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def __delitem__(self, index: int | slice) -> None:
        chosen = list(self._module_names)[index if isinstance(index, slice) else self._position(index)]
        for name in [chosen] if isinstance(chosen, str) else chosen:
            delattr(self, name)
        # As in PyTorch, what is left is numbered anew, names included.
        self._replace_all(self)

    def pop(self, key: int | slice) -> Module:
        """Remove the module at a position and return it."""
        module = self[key]
        del self[key]
        return module

    def insert(self, index: int, module: Module) -> Sequential:
        """Put a module before position `index`."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"Index out of range: {index}")
        modules = list(self)
        modules.insert(index, module)
        self._replace_all(modules)
        return self

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)


class ModuleList(_Numbered):
    """A list of modules whose parameters are counted as those of the module that holds it."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__(modules)

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._replace_all(modules)

    def pop(self, key: int | slice) -> Module:
        """Remove the module at a position and return it."""
        module = self[key]
        del self[key]
        return module

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Equal neighbours are shown once, as `(0-2): 3 x Linear(...)`."""
        if len(self) == 0:
            return f"{self._get_name()}()"
        runs: list[list] = []
        for number, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1][1] = number
            else:
                runs.append([number, number, text])
        lines = [
            f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            for first, last, text in runs
        ]  # fmt: skip
        return f"{self._get_name()}(" + "".join("\n  " + line.replace("\n", "\n  ") for line in lines) + "\n)"


class ModuleDict(Module):
    """A dict of modules whose parameters are counted as those of the module that holds it."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._module_names)

    def __contains__(self, key: str) -> bool:
        return key in self._module_names

    def clear(self) -> None:
        """Remove all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Remove the module of that name and return it."""
        return self._modules.pop(key)

    def keys(self) -> KeysView:
        """The names."""
        return self._modules.keys()

    def items(self) -> ItemsView:
        """(name, module) in order."""
        return self._modules.items()

    def values(self) -> ValuesView:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add the modules of a mapping or of (name, module) pairs."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                "ModuleDict.update should be called with an iterable of key/value pairs, but got "
                + type(modules).__name__
            )
        for key, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[key] = module


class ParameterList(_Numbered):
    """A list of parameters that are counted as those of the module that holds it; tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__(values)

    def _names(self) -> dict[str, bool]:
        return self._parameter_names

    def _put(self, name: str, item: Any) -> None:
        setattr(self, name, self._as_parameter(item))

    def __setitem__(self, index: int, item: Any) -> None:
        super().__setitem__(index, self._as_parameter(item))

    @staticmethod
    def _as_parameter(item: Any) -> Parameter:
        if not isinstance(item, Tensor):
            raise TypeError(f"[ParameterList] an item must be a Parameter or a Tensor; got {type(item).__name__}")
        return item if isinstance(item, Parameter) else Parameter(item)

    def extra_repr(self) -> str:
        return "\n".join(
            f"({number}): Parameter containing: [{str(parameter.dtype).rpartition('.')[2]} of size "
            f"{'x'.join(map(str, parameter.shape))}]"
            for number, parameter in enumerate(self)
        )
