"""Recurrent modules, cells and packed sequences against PyTorch: parameters, outputs, states, gradients, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

NAMES = ["RNN", "LSTM", "GRU"]
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}


def flat(results: Any) -> list[Any]:
    """The tensors in nested tuples and lists, in order; None stays."""
    if isinstance(results, (tuple, list)):
        return [tensor for item in results for tensor in flat(item)]
    return [results]


def same(ours: list[Any], theirs: list[Any], tolerance: float = 0.0) -> None:
    """Within `tolerance` of the largest element, to which the rounding errors of a sum are relative."""
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert str(a.dtype).rpartition(".")[2] == str(b.dtype).rpartition(".")[2]
            expected = b.detach().numpy()
            largest = float(np.abs(expected).max(initial=1.0)) if tolerance else 0.0
            np.testing.assert_allclose(a.detach().numpy(), expected, rtol=0.0, atol=tolerance * largest)


def gradients(package: Any, results: list[Any], leaves: list[Any], seed: int) -> list[Any]:
    """Of the outputs along one direction."""
    random = np.random.default_rng(seed)
    directions = [package.tensor(random.normal(size=tuple(y.shape)), dtype=y.dtype) for y in results]
    loss = sum((y * direction).sum() for y, direction in zip(results, directions, strict=True))
    return list(package.autograd.grad(loss, leaves, allow_unused=True))


def both(name: str, *arguments: Any, dtype: str = "float32", seed: int = 5, **options: Any) -> tuple[Any, Any]:
    """The same module of both packages, built from the same seed."""
    made = []
    for package in (fg, torch):
        package.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dropout with one layer
            made.append(getattr(package.nn, name)(*arguments, dtype=getattr(package, dtype), **options))
    return made[0], made[1]


def compare(
    modules: tuple[Any, Any], call: Callable[[Any, Any, list[Any]], Any], arrays: list[Any], dtype: str,
    seed: int = 0,
) -> None:  # fmt: skip
    """`call(package, module, tensors)` in both packages: its tensors, and the gradients by `arrays` and parameters."""
    found = []
    for package, module in zip((fg, torch), modules, strict=True):
        tensors = [package.tensor(a, dtype=getattr(package, dtype), requires_grad=True) for a in arrays]
        results = flat(call(package, module, tensors))
        leaves = [*tensors, *module.parameters()]
        recorded = [y for y in results if y is not None and y.requires_grad]
        found.append([*results, *gradients(package, recorded, leaves, seed)])
    same(*found, TOLERANCE[dtype])


options = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
    }
)


def draw_case(name: str, choice: dict, variant: bool) -> dict:
    if name == "LSTM" and variant:
        return {**choice, "proj_size": 2}
    if name == "RNN" and variant:
        return {**choice, "nonlinearity": "relu"}
    return choice


def states_for(name: str, module: Any, random: Any, *batch: int) -> list[Any]:
    count = module.num_layers * (2 if module.bidirectional else 1)
    h = random.normal(size=(count, *batch, module.proj_size or module.hidden_size))
    return [h, random.normal(size=(count, *batch, module.hidden_size))] if name == "LSTM" else [h]


def state_of(name: str, tensors: list[Any]) -> Any:
    return None if not tensors else tuple(tensors) if name == "LSTM" else tensors[0]


class TestModules:
    @given(st.sampled_from(NAMES), options, st.booleans(), st.sampled_from([0.0, 0.25]))
    def test_parameters_and_text(self, name: str, choice: dict, variant: bool, dropout: float) -> None:
        ours, theirs = both(name, 3, 5, dropout=dropout, **draw_case(name, choice, variant))
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        same(list(ours.state_dict().values()), list(theirs.state_dict().values()))
        same(flat(ours.all_weights), flat(theirs.all_weights))
        same(ours._flat_weights, theirs._flat_weights)
        assert ours._flat_weights_names == theirs._flat_weights_names
        for attribute in ("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
                          "bidirectional", "proj_size"):  # fmt: skip
            assert getattr(ours, attribute) == getattr(theirs, attribute)

    @given(
        st.sampled_from(NAMES), options, st.booleans(), st.sampled_from(["float32", "float64"]), st.integers(1, 5),
        st.integers(1, 4), st.sampled_from(["batch", "alone"]), st.booleans(),
    )  # fmt: skip
    def test_a_state_dict_of_pytorch(
        self, name: str, choice: dict, variant: bool, dtype: str, steps: int, batch: int, form: str, with_state: bool
    ) -> None:
        ours, theirs = both(name, 3, 4, dtype=dtype, **draw_case(name, choice, variant))
        random = np.random.default_rng(steps + 7 * batch)
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter)
        ours.load_state_dict({key: fg.from_numpy(value.numpy()) for key, value in theirs.state_dict().items()})
        shape = [steps] if form == "alone" else [batch, steps] if choice["batch_first"] else [steps, batch]
        states = states_for(name, ours, random, *([] if form == "alone" else [batch])) if with_state else []

        def call(package: Any, module: Any, tensors: list[Any]) -> Any:
            return module(tensors[0], state_of(name, tensors[1:]))

        compare((ours, theirs), call, [random.normal(size=(*shape, 3)), *states], dtype)

    @given(
        st.sampled_from(NAMES), options, st.booleans(), st.sampled_from(["float32", "float64"]),
        st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans(), st.booleans(),
    )  # fmt: skip
    def test_packed(
        self, name: str, choice: dict, variant: bool, dtype: str, lengths: list[int], in_order: bool, with_state: bool
    ) -> None:
        lengths = sorted(lengths, reverse=True) if in_order else lengths
        modules = both(name, 3, 4, dtype=dtype, **draw_case(name, choice, variant))
        random = np.random.default_rng(len(lengths))
        batch_first = choice["batch_first"]
        shape = (len(lengths), max(lengths)) if batch_first else (max(lengths), len(lengths))
        states = states_for(name, modules[0], random, len(lengths)) if with_state else []

        def call(package: Any, module: Any, tensors: list[Any]) -> Any:
            rnn = package.nn.utils.rnn
            packed = rnn.pack_padded_sequence(tensors[0], lengths, batch_first, in_order)
            output, last = module(packed, state_of(name, tensors[1:]))
            return [*output, *rnn.pad_packed_sequence(output, batch_first, 1.0, 6), last]

        compare(modules, call, [random.normal(size=(*shape, 3)), *states], dtype)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("hidden", [31, 64, 70])
    def test_sizes_beyond_one_tile(self, name: str, dtype: str, hidden: int) -> None:
        modules = both(name, 33, hidden, 2, bidirectional=True, dtype=dtype)
        random = np.random.default_rng(hidden)
        arrays = [random.normal(size=(9, 14, 33)), *states_for(name, modules[0], random, 14)]
        lengths = [int(n) for n in random.integers(1, 10, 14)]

        def whole(package: Any, module: Any, tensors: list[Any]) -> Any:
            return module(tensors[0], state_of(name, tensors[1:]))

        def in_parts(package: Any, module: Any, tensors: list[Any]) -> Any:
            x = package.nn.utils.rnn.pack_padded_sequence(tensors[0], lengths, enforce_sorted=False)
            return module(x, state_of(name, tensors[1:]))

        compare(modules, whole, arrays, dtype)
        compare(modules, in_parts, arrays, dtype)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dropout_of_one_seed(self, name: str, dtype: str) -> None:
        modules = both(name, 3, 8, 3, dropout=0.5, dtype=dtype)

        def call(package: Any, module: Any, tensors: list[Any]) -> Any:
            package.manual_seed(7)
            return module(*tensors)

        compare(modules, call, [np.random.default_rng(0).normal(size=(4, 2, 3))], dtype)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_empty_batch(self, name: str) -> None:
        ours, theirs = both(name, 3, 4, 2, bidirectional=True)
        a, b = flat(ours(fg.zeros(5, 0, 3))), flat(theirs(torch.zeros(5, 0, 3)))
        same(a, b)

    @pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("batch", [(), (1,), (3,)])
    @pytest.mark.parametrize("with_state", [True, False])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_cells(self, name: str, bias: bool, batch: tuple, with_state: bool, dtype: str) -> None:
        nonlinearity = {"nonlinearity": "relu"} if name == "RNNCell" and bias else {}
        modules = both(name, 3, 4, bias=bias, dtype=dtype, **nonlinearity)
        assert repr(modules[0]) == repr(modules[1])
        assert list(modules[0].state_dict()) == list(modules[1].state_dict())
        same(*(list(module.parameters()) for module in modules))
        random = np.random.default_rng(1)
        states = [random.normal(size=(*batch, 4)) for _ in range((1 + (name == "LSTMCell")) * with_state)]

        def call(package: Any, module: Any, tensors: list[Any]) -> Any:
            return module(tensors[0], state_of(name.removesuffix("Cell"), tensors[1:]))

        compare(modules, call, [random.normal(size=(*batch, 3)), *states], dtype)


class TestUtilities:
    @given(
        st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([(), (3,), (2, 2)]), st.booleans(),
        st.booleans(), st.sampled_from([None, 5, 7]), st.sampled_from(["left", "right"]),
    )  # fmt: skip
    def test_values_and_gradients(
        self, lengths: list[int], trailing: tuple, in_order: bool, batch_first: bool, total: int | None, side: str
    ) -> None:
        lengths = sorted(lengths, reverse=True) if in_order else lengths
        arrays = [np.random.default_rng(k).normal(size=(n, *trailing)) for k, n in enumerate(lengths)]
        found = []
        for package in (fg, torch):
            rnn = package.nn.utils.rnn
            leaves = [package.tensor(a, requires_grad=True) for a in arrays]
            packed = rnn.pack_sequence(leaves, in_order)
            padded = rnn.pad_sequence(leaves, batch_first, 0.5, side)
            again = rnn.pack_padded_sequence(rnn.pad_sequence(leaves, batch_first), lengths, batch_first, in_order)
            results = flat([
                list(packed), padded, list(again), list(rnn.pad_packed_sequence(packed, batch_first, -1.0, total)),
                rnn.unpack_sequence(packed),
                # A copy, because PyTorch's changes the shape of what it is given.
                rnn.unpad_sequence(rnn.pad_sequence(leaves, batch_first), package.tensor(lengths), batch_first),
            ])  # fmt: skip
            recorded = [y for y in results if y is not None and y.requires_grad]
            found.append([*results, *gradients(package, recorded, leaves, 3)])
        same(*found, 1e-12)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
    @pytest.mark.parametrize("value", [0, 1.5, True])
    def test_padding_values(self, dtype: str, value: float) -> None:
        found = []
        for package in (fg, torch):
            rnn, kind = package.nn.utils.rnn, getattr(package, dtype)
            parts = [package.tensor([1, 0, 1]).to(kind), package.tensor([1]).to(kind)]
            packed = rnn.pack_sequence(parts)
            found.append([rnn.pad_sequence(parts, padding_value=value), *rnn.pad_packed_sequence(packed, True, value)])
        same(*found)

    def test_text(self) -> None:
        texts = [
            repr(package.nn.utils.rnn.pack_sequence([package.tensor([1.5, 2.5]), package.tensor([3.5])]))
            for package in (fg, torch)
        ]
        assert texts[0] == texts[1]


def lstm(p: Any, x: Any, *states: Any) -> Any:
    return p.nn.LSTM(2, 3)(x, states)


def packed(p: Any, x: Any, lengths: Any, in_order: bool = True) -> Any:
    return p.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=in_order)


def padded(p: Any, **options: Any) -> Any:
    return p.nn.utils.rnn.pad_packed_sequence(packed(p, p.ones(4, 1), [4]), **options)


ERRORS: dict[str, Callable[[Any], Any]] = {
    "dimensions": lambda p: p.nn.RNN(2, 3)(p.ones(2)),
    "dimensions of a GRU": lambda p: p.nn.GRU(2, 3)(p.ones(1, 1, 1, 2)),
    "dimensions of an LSTM": lambda p: lstm(p, p.ones(2), p.ones(1, 3), p.ones(1, 3)),
    "features": lambda p: p.nn.GRU(2, 3)(p.ones(4, 1, 5)),
    "no steps": lambda p: p.nn.LSTM(2, 3)(p.ones(0, 1, 2)),
    "no steps, alone": lambda p: p.nn.RNN(2, 3)(p.ones(0, 2)),
    "dtype": lambda p: p.nn.RNN(2, 3)(p.ones(4, 1, 2, dtype=p.float64)),
    "integers": lambda p: p.nn.LSTM(2, 3)(p.ones(4, 1, 2, dtype=p.int64)),
    "dtype of the state": lambda p: p.nn.GRU(2, 3)(p.ones(4, 1, 2), p.ones(1, 1, 3, dtype=p.float64)),
    "dtype of the cell": lambda p: lstm(p, p.ones(4, 1, 2), p.ones(1, 1, 3), p.ones(1, 1, 3, dtype=p.float64)),
    "2-d state": lambda p: p.nn.RNN(2, 3)(p.ones(4, 1, 2), p.ones(1, 3)),
    "3-d state alone": lambda p: p.nn.GRU(2, 3)(p.ones(4, 2), p.ones(1, 1, 3)),
    "states of an LSTM": lambda p: lstm(p, p.ones(4, 1, 2), p.ones(1, 3), p.ones(1, 3)),
    "batch of the state": lambda p: p.nn.RNN(2, 3)(p.ones(4, 1, 2), p.ones(1, 2, 3)),
    "size of the cell": lambda p: lstm(p, p.ones(4, 1, 2), p.ones(1, 1, 3), p.ones(1, 1, 4)),
    "three states": lambda p: lstm(p, p.ones(4, 1, 2), p.ones(1, 1, 3), p.ones(1, 1, 3), p.ones(1, 1, 3)),
    "layers of the state": lambda p: p.nn.GRU(2, 3, 2)(p.ones(4, 1, 2), p.ones(1, 1, 3)),
    "features of packed": lambda p: p.nn.GRU(2, 3)(packed(p, p.ones(4, 2, 5), [4, 2])),
    "dimensions of packed": lambda p: p.nn.RNN(2, 3)(packed(p, p.ones(4, 2), [4, 2])),
    "state of packed": lambda p: p.nn.GRU(2, 3)(packed(p, p.ones(4, 2, 2), [4, 2]), p.ones(1, 3, 3)),
    "length 0": lambda p: packed(p, p.ones(4, 3), [4, 2, 0]),
    "length -1": lambda p: packed(p, p.ones(4, 3), [4, 2, -1], False),
    "lengths that increase": lambda p: packed(p, p.ones(4, 3), [2, 4, 1]),
    "too few lengths": lambda p: packed(p, p.ones(4, 3), [4, 1]),
    "too many lengths": lambda p: packed(p, p.ones(4, 3), [4, 1, 1, 1], False),
    "lengths of two dimensions": lambda p: packed(p, p.ones(4, 3), p.tensor([[4, 1, 1]])),
    "one number for lengths": lambda p: packed(p, p.ones(4, 1), 4),
    "None for lengths": lambda p: packed(p, p.ones(4, 1), None),
    "text for lengths": lambda p: packed(p, p.ones(4, 3), "abc"),
    "an empty batch to pack": lambda p: packed(p, p.ones(4, 0, 2), []),
    "no steps to pack": lambda p: packed(p, p.ones(0, 2, 2), [0, 0]),
    "1-d to pack": lambda p: packed(p, p.ones(4), [4]),
    "a list to pack": lambda p: packed(p, [1.0], [1]),
    "total_length": lambda p: p.nn.utils.rnn.pad_packed_sequence(packed(p, p.ones(4, 1), [4]), total_length=3),
    "a float total_length": lambda p: p.nn.utils.rnn.pad_packed_sequence(
        packed(p, p.ones(4, 1), [4]), total_length=5.0
    ),
    "text for padding_value": lambda p: p.nn.utils.rnn.pad_packed_sequence(packed(p, p.ones(4, 1), [4]), False, "a"),
    "no sequences": lambda p: p.nn.utils.rnn.pad_sequence([]),
    "no iterable": lambda p: p.nn.utils.rnn.pad_sequence(3),
    "numbers for sequences": lambda p: p.nn.utils.rnn.pad_sequence([1, 2]),
    "padding_side": lambda p: p.nn.utils.rnn.pad_sequence([p.ones(1)], padding_side="up"),
    "sizes of sequences": lambda p: p.nn.utils.rnn.pad_sequence([p.ones(2, 3), p.ones(1, 2)]),
    "an empty sequence to pack": lambda p: p.nn.utils.rnn.pack_sequence([p.ones(2), p.ones(0)]),
    "lengths for unpadding": lambda p: p.nn.utils.rnn.unpad_sequence(p.ones(4, 3), p.tensor([1, 2])),
    "no permutation": lambda p: p.nn.utils.rnn.invert_permutation(p.tensor([2, 0, 3])),
    "one argument": lambda p: p.nn.utils.rnn.PackedSequence(p.ones(2)),
    "cell: dimensions": lambda p: p.nn.RNNCell(2, 3)(p.ones(1, 1, 2)),
    "cell: dimensions of the state": lambda p: p.nn.GRUCell(2, 3)(p.ones(1, 2), p.ones(1, 1, 3)),
    "cell: features": lambda p: p.nn.LSTMCell(2, 3)(p.ones(1, 4)),
    "cell: batch": lambda p: p.nn.RNNCell(2, 3)(p.ones(2, 2), p.ones(1, 3)),
    "cell: size": lambda p: p.nn.GRUCell(2, 3)(p.ones(2, 2), p.ones(2, 4)),
    "cell: dtype": lambda p: p.nn.LSTMCell(2, 3)(p.ones(1, 2, dtype=p.float64)),
    "cell: a tensor for two": lambda p: p.nn.LSTMCell(2, 3)(p.ones(1, 2), p.ones(1, 3)),
    "cell: three states": lambda p: p.nn.LSTMCell(2, 3)(p.ones(1, 2), (p.ones(1, 3),) * 3),
    "cell: input_size": lambda p: p.nn.GRUCell(2.0, 3),
    "cell: hidden_size": lambda p: p.nn.LSTMCell(2, -1),
    "cell: nonlinearity": lambda p: p.nn.RNNCell(2, 3, nonlinearity="x")(p.ones(1, 2)),
    "dropout": lambda p: p.nn.GRU(2, 3, dropout=1.5),
    "dropout None": lambda p: p.nn.RNN(2, 3, dropout=None),
    "dropout as text": lambda p: p.nn.LSTM(2, 3, dropout="0.5"),
    "bias": lambda p: p.nn.LSTM(2, 3, bias=1),
    "batch_first": lambda p: p.nn.RNN(2, 3, batch_first=1),
    "input_size": lambda p: p.nn.GRU(0, 3),
    "input_size as float": lambda p: p.nn.GRU(2.0, 3),
    "hidden_size": lambda p: p.nn.RNN(2, 0),
    "hidden_size as float": lambda p: p.nn.LSTM(2, 3.0),
    "num_layers": lambda p: p.nn.LSTM(2, 3, 0),
    "num_layers as float": lambda p: p.nn.LSTM(2, 3, 1.5),
    "proj_size": lambda p: p.nn.LSTM(2, 3, proj_size=3),
    "proj_size negative": lambda p: p.nn.LSTM(2, 3, proj_size=-1),
    "proj_size as float": lambda p: p.nn.LSTM(2, 3, proj_size=1.5),
    "proj_size of an RNN": lambda p: p.nn.RNN(2, 3, proj_size=1),
    "proj_size of a GRU": lambda p: p.nn.GRU(2, 3, proj_size=1),
    "nonlinearity": lambda p: p.nn.RNN(2, 3, nonlinearity="gelu"),
    "nonlinearity of a GRU": lambda p: p.nn.GRU(2, 3, nonlinearity="relu"),
    "dtype of the weights": lambda p: p.nn.GRU(2, 3, dtype=p.int64),
    "mode": lambda p: p.nn.RNNBase("X", 2, 3),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_the_same_type(name: str) -> None:
    with pytest.raises(Exception) as theirs:
        ERRORS[name](torch)
    with pytest.raises(theirs.type) as ours:
        ERRORS[name](fg)
    assert ours.type is theirs.type
