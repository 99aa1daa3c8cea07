"""Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn


def tagged(*numbers: int) -> list[nn.Module]:
    """Modules that can be told apart."""
    return [nn.Flatten(number) for number in numbers]


def tags(modules: Any) -> list[int]:
    return [module.start_dim for module in modules]


class TestSequential:
    def test_order_and_names(self) -> None:
        net = nn.Sequential(OrderedDict([("scale", nn.Linear(2, 2)), ("relu", nn.ReLU())]))
        assert list(net.state_dict()) == ["scale.weight", "scale.bias"]
        x = fg.tensor([[1.0, -2.0]])
        assert net(x).tolist() == net.relu(net.scale(x)).tolist()
        assert nn.Sequential()(x) is x

    def test_list_operations(self) -> None:
        net = nn.Sequential(*tagged(0, 1, 2))
        assert len(net) == 3 and net[-1].start_dim == 2 and tags(net[1:]) == [1, 2]
        assert type(net[1:]) is nn.Sequential and list(net[1:]._modules) == ["1", "2"]
        net.append(nn.Flatten(3)).extend(tagged(4)).insert(1, nn.Flatten(9))
        assert tags(net) == [0, 9, 1, 2, 3, 4] and list(net._modules) == list("012345")
        assert net.pop(1).start_dim == 9
        del net[0]
        del net[1:3]
        assert tags(net) == [1, 4] and list(net._modules) == ["0", "1"]
        net[0] = nn.Flatten(7)
        assert tags(net + nn.Sequential(*tagged(5))) == [7, 4, 5]
        assert "0" not in dir(net)

    def test_errors(self) -> None:
        net = nn.Sequential(*tagged(0))
        with pytest.raises(IndexError, match="index 1 is out of range"):
            net[1]
        with pytest.raises(IndexError, match="out of range"):
            net.insert(3, nn.ReLU())
        with pytest.raises(AssertionError, match="of type"):
            net.insert(0, 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not a Module"):
            nn.Sequential(3)
        with pytest.raises(ValueError, match="Sequential class"):
            net + [nn.ReLU()]  # type: ignore[operator]
        assert tags(net) == [0]


class TestModuleList:
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("append"), st.integers(0, 99)),
                st.tuples(st.just("insert"), st.integers(-4, 4), st.integers(0, 99)),
                st.tuples(st.just("pop"), st.integers(-4, 4)),
                st.tuples(st.just("set"), st.integers(-4, 4), st.integers(0, 99)),
                st.tuples(st.just("delete"), st.slices(5)),
                st.tuples(st.just("extend"), st.lists(st.integers(0, 99), max_size=3)),
            ),
            max_size=8,
        )
    )
    def test_behaves_as_a_list(self, changes: list[tuple]) -> None:
        modules, expected = nn.ModuleList(), []
        for name, *arguments in changes:
            if name == "append":
                modules.append(nn.Flatten(arguments[0]))
                expected.append(arguments[0])
            elif name == "insert":
                modules.insert(arguments[0], nn.Flatten(arguments[1]))
                expected.insert(arguments[0], arguments[1])
            elif name == "extend":
                modules += tagged(*arguments[0])
                expected += arguments[0]
            elif name == "delete":
                del modules[arguments[0]]
                del expected[arguments[0]]
            elif -len(expected) <= arguments[0] < len(expected):
                if name == "pop":
                    assert modules.pop(arguments[0]).start_dim == expected.pop(arguments[0])
                else:
                    modules[arguments[0]] = nn.Flatten(arguments[1])
                    expected[arguments[0]] = arguments[1]
            else:
                with pytest.raises(IndexError, match="out of range"):
                    modules.pop(arguments[0])
            assert tags(modules) == expected
            assert list(modules._modules) == [str(k) for k in range(len(expected))]

    def test_repr_joins_equal_neighbours(self) -> None:
        modules = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.ReLU()])
        assert repr(modules) == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n  (3): ReLU()\n)"
        assert repr(nn.ModuleList()) == "ModuleList()"

    def test_errors(self) -> None:
        with pytest.raises(TypeError, match="called with an iterable"):
            nn.ModuleList().extend(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not a Module"):
            nn.ModuleList([3])  # type: ignore[list-item]
        assert tags(nn.ModuleList(tagged(1)) + tagged(2)) == [1, 2]


class TestModuleDict:
    def test_behaves_as_a_dict(self) -> None:
        modules = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
        modules["c"] = nn.Tanh()
        modules.update([("d", nn.Sigmoid())])
        assert list(modules) == list(modules.keys()) == ["a", "b", "c", "d"] and "a" in modules and len(modules) == 4
        assert modules["c"] is modules.c
        assert isinstance(modules.pop("a"), nn.ReLU) and "a" not in modules and not hasattr(modules, "a")
        del modules["c"]
        assert [type(value).__name__ for value in modules.values()] == ["Linear", "Sigmoid"]
        assert list(nn.ModuleDict(modules).items()) == list(modules.items())
        assert list(modules.state_dict()) == ["b.weight", "b.bias"]
        modules.clear()
        assert len(modules) == 0
        with pytest.raises(KeyError, match="already exists"):
            modules["pop"] = nn.ReLU()
        with pytest.raises(TypeError, match="iterable of key/value pairs"):
            modules.update(3)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            modules["none"]


class TestParameterList:
    def test_behaves_as_a_list(self) -> None:
        parameters = nn.ParameterList([nn.Parameter(fg.ones(2)), fg.zeros(1)])
        parameters.append(fg.ones(3, 2))
        assert [isinstance(p, nn.Parameter) for p in parameters] == [True] * 3
        assert list(parameters.state_dict()) == ["0", "1", "2"]
        parameters[0] = fg.zeros(4)
        assert parameters[0].shape == (4,) and len(parameters) == 3 and len(list(parameters.parameters())) == 3
        del parameters[1]
        assert list(parameters._parameters) == ["0", "1"] and parameters[1].shape == (3, 2)
        assert "(1): Parameter containing: [float32 of size 3x2]" in repr(parameters)
        with pytest.raises(TypeError, match="Parameter or a Tensor"):
            parameters.append(3)
        with pytest.raises(IndexError, match="out of range"):
            parameters[2]
