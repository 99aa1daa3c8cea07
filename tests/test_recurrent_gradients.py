"""The recurrent layers' derivatives over their crossed options: which inputs are differentiated, which outputs are
used, what is kept for the backward and how much memory that is, and that wrong gradients would be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import recurrent
from hypothesis import assume, given
from hypothesis import strategies as st
from numeric import check_first
from recurrent import CELLS, Gradients, Layer, Step, Weights, make_layer

import fastgrad as fg
from fastgrad.autograd import Function, GradcheckError, gradcheck, gradgradcheck

Array = np.ndarray
each_cell = pytest.mark.parametrize("cell", CELLS)
# (T, B, I, H), projection, lengths, directions
SHAPES = [
    ((1, 2, 3, 4), 0, None, 1),
    ((3, 2, 2, 3), 0, None, 1),
    ((3, 3, 2, 3), 0, [3, 1, 1], 1),
    ((3, 2, 2, 3), 2, None, 1),
    ((3, 3, 2, 3), 0, [3, 2, 1], 2),
]
each_cell_and_shape = pytest.mark.parametrize(
    ("cell", "shape"), [(cell, shape) for cell in CELLS for shape in SHAPES if cell == "lstm" or not shape[1]], ids=str
)


def layer_of(cell: str, shape: tuple) -> Layer:
    size, projection, lengths, directions = shape
    return make_layer(cell, size, projection=projection, lengths=lengths, directions=directions)


def arrays_of(layer: Layer) -> dict[str, Array]:
    """The float arrays that there are, by name, in the order of recurrent_layer's arguments."""
    every = {"x": layer.x, "h_0": layer.h_0, "c_0": layer.c_0}
    for d, weights in enumerate(layer.weights):
        every |= {f"{name}_{d}": array for name, array in weights._asdict().items()}
    if layer.batch_sizes is None:
        every["x"] = layer.x.reshape(-1, layer.batch, layer.x.shape[1])
    return {name: array for name, array in every.items() if array is not None}


def function_of(layer: Layer) -> Callable[..., tuple[Any, ...]]:
    """recurrent_layer as a function of the tensors of `arrays_of` alone."""
    names = list(arrays_of(layer))
    sizes = None if layer.batch_sizes is None else fg.from_numpy(layer.batch_sizes.copy())
    slots = [f"{name}_{d}" for d in range(len(layer.weights)) for name in Weights._fields]

    def function(*tensors: Any) -> tuple[Any, ...]:
        given_tensors = dict(zip(names, tensors, strict=True))
        x, h_0, c_0, *weights = [given_tensors.get(name) for name in ("x", "h_0", "c_0", *slots)]
        return fg._core.recurrent_layer(layer.cell, x, h_0, c_0, weights, sizes)

    return function


def leaves(layer: Layer, wanted: Sequence[str] | None = None) -> list[Any]:
    arrays = arrays_of(layer)
    return [fg.from_numpy(a.copy()).requires_grad_(wanted is None or name in wanted) for name, a in arrays.items()]


def cotangents(outputs: Sequence[Any]) -> list[Any]:
    random = np.random.default_rng(5)
    return [fg.from_numpy(random.standard_normal(tuple(y.shape)).astype(y.detach().numpy().dtype)) for y in outputs]


def differentiated(
    outputs: Sequence[Any], inputs: Sequence[Any], given_gradients: Sequence[Any], **options: Any
) -> Any:
    return [g.numpy() for g in fg.autograd.grad(outputs, inputs, given_gradients, **options)]


def by_name(layer: Layer, gradients: Gradients) -> dict[str, Array]:
    c_0 = gradients.c_0 if layer.cell == "lstm" else None
    return arrays_of(layer._replace(x=gradients.x, h_0=gradients.h_0, c_0=c_0, weights=gradients.weights))


def nonempty_subsets(names: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    return (chosen for count in range(1, len(names) + 1) for chosen in combinations(names, count))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    cell = draw(st.sampled_from(CELLS))
    steps, batch, inputs, hidden = (draw(st.integers(1, most)) for most in (3, 3, 2, 3 if cell != "lstm" else 2))
    lengths = None
    if draw(st.booleans()):
        lengths = sorted(draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch)), reverse=True)
        steps = lengths[0]
    layer = make_layer(
        cell,
        (steps, batch, inputs, hidden),
        directions=draw(st.integers(1, 2)),
        projection=draw(st.integers(0, hidden - 1)) if cell == "lstm" else 0,
        lengths=lengths,
        absent=draw(st.sets(st.sampled_from(["h_0", "c_0", "b_ih", "b_hh"]))),
        seed=draw(st.integers(0, 999)),
    )
    assume(cell != "rnn_relu" or recurrent.away_from_kinks(layer))
    return layer


@given(data=st.data())
def test_gradcheck_and_gradgradcheck_accept_every_option(data: st.DataObject) -> None:
    layer = data.draw(layers())
    wanted = data.draw(st.sets(st.sampled_from(list(arrays_of(layer))), min_size=1))
    function, tensors = function_of(layer), tuple(leaves(layer, sorted(wanted)))
    used = data.draw(st.sets(st.integers(0, 2 if layer.cell == "lstm" else 1), min_size=1))

    def some_outputs(*arguments: Any) -> tuple[Any, ...]:
        outputs = function(*arguments)
        return tuple(outputs[k] for k in sorted(used))

    assert gradcheck(some_outputs, tensors)
    assert gradgradcheck(some_outputs, tensors, tuple(cotangents(some_outputs(*tensors))))


@each_cell_and_shape
def test_any_inputs_may_require_a_gradient(cell: str, shape: tuple) -> None:
    layer = layer_of(cell, shape)
    function, names = function_of(layer), list(arrays_of(layer))
    full = leaves(layer)
    outputs = function(*full)
    given_gradients = cotangents(outputs)
    everything = dict(zip(names, differentiated(outputs, full, given_gradients), strict=True))
    chosen = list(nonempty_subsets(names)) if len(names) <= 8 else [(name,) for name in names]
    for wanted in chosen:
        tensors = leaves(layer, wanted)
        fg.autograd.backward(function(*tensors), given_gradients)
        for name, tensor in zip(names, tensors, strict=True):
            if name in wanted:
                np.testing.assert_allclose(tensor.grad.numpy(), everything[name], rtol=1e-12, atol=1e-13, err_msg=name)
            else:
                assert tensor.grad is None


@each_cell_and_shape
def test_any_outputs_may_be_used(cell: str, shape: tuple) -> None:
    layer = layer_of(cell, shape)
    trace, tensors = recurrent.unroll(layer), leaves(layer)
    outputs = function_of(layer)(*tensors)
    given_gradients = cotangents(outputs)
    for used in nonempty_subsets(range(len(outputs))):
        arrays = [given_gradients[k].numpy() if k in used else None for k in range(len(outputs))]
        if arrays[0] is not None:
            arrays[0] = arrays[0].reshape(len(layer.x), -1)
        expected = by_name(layer, recurrent.backward(layer, trace, *arrays))
        found = differentiated(
            [outputs[k] for k in used], tensors, [given_gradients[k] for k in used], retain_graph=True
        )
        for (name, gradient), got in zip(expected.items(), found, strict=True):
            np.testing.assert_allclose(got, gradient, rtol=1e-10, atol=1e-12, err_msg=f"{name} of outputs {used}")


@each_cell_and_shape
def test_a_graph_that_is_kept_gives_the_same_gradients_again(cell: str, shape: tuple) -> None:
    layer = layer_of(cell, shape)
    tensors = leaves(layer)
    outputs = function_of(layer)(*tensors)
    given_gradients = cotangents(outputs)
    first = differentiated(outputs, tensors, given_gradients, retain_graph=True)
    through_composite = fg.autograd.grad(outputs, tensors, given_gradients, create_graph=True)
    last = differentiated(outputs, tensors, given_gradients)
    for one, two, three in zip(first, last, through_composite, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(three.detach().numpy(), one, rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        differentiated(outputs, tensors, given_gradients)


@each_cell_and_shape
def test_what_the_backward_needs_must_not_change(cell: str, shape: tuple) -> None:
    layer = layer_of(cell, shape)
    names = list(arrays_of(layer))
    for changed in [*(k for k, name in enumerate(names) if not name.startswith("b_")), "y"]:
        tensors = [t * 1 for t in leaves(layer)]
        outputs = function_of(layer)(*tensors)
        target = outputs[0] if changed == "y" else tensors[changed]
        loss = sum(((y * y).sum() for y in outputs[1:]), outputs[0].sum())
        with fg.no_grad():
            target.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@each_cell_and_shape
def test_last_states_may_be_changed_in_place(cell: str, shape: tuple) -> None:
    layer = layer_of(cell, shape)
    found = []
    for in_place in (False, True):
        tensors = leaves(layer)
        y, *last = function_of(layer)(*tensors)
        last = [state.mul_(3) if in_place else state * 3 for state in last]
        found.append(differentiated([y, *last], tensors, cotangents([y, *last])))
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-13)


# What is saved beside the inputs and the output, in rows of H. Blocks of sizes that are powers of two have no room to
# spare, so that bytes can be compared.
SAVED = {"rnn_tanh": 0, "rnn_relu": 0, "gru": 4, "lstm": 5}
each_memory_case = pytest.mark.parametrize(
    ("directions", "unequal"), [(1, False), (2, False), (1, True)], ids=["one direction", "two directions", "unequal"]
)


def in_use() -> int:
    return fg.memory_stats()["in_use"]


def memory_case(cell: str, steps: int, directions: int, unequal: bool) -> tuple[Layer, int, int]:
    """A layer, the bytes of one float32 array (N, D*H), and those of the copy of batch_sizes."""
    lengths = [steps] * 3 + [steps // 2] + [steps // 8] * 4 if unequal else None
    layer = make_layer(cell, (steps, 8, 16, 32), np.float32, directions=directions, lengths=lengths)
    return layer, len(layer.x) * directions * 32 * 4, 8 * steps if unequal else 0


@each_memory_case
@each_cell
def test_what_is_saved(cell: str, directions: int, unequal: bool) -> None:
    layer, unit, sizes = memory_case(cell, 64, directions, unequal)
    function, recorded, plain = function_of(layer), leaves(layer), leaves(layer, [])
    last_states = directions * 8 * 32 * 4 * (2 if cell == "lstm" else 1)
    for tensors, saved in [(plain, 0), (recorded, SAVED[cell] * unit + sizes)]:
        before = in_use()
        outputs = function(*tensors)
        assert in_use() - before == unit + last_states + saved
        del outputs
        assert in_use() == before
    with fg.no_grad():
        before = in_use()
        outputs = function(*recorded)
        assert in_use() - before == unit + last_states
        assert not any(y.requires_grad for y in outputs)
    for ours, theirs in zip(outputs, function(*recorded), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.detach().numpy())


def peak_of(function: Callable[[], Any]) -> int:
    """How far the memory in use rises above what it is before."""
    before = in_use()
    fg.reset_peak_memory()
    function()
    return fg.memory_stats()["peak"] - before


@each_memory_case
@each_cell
def test_peak_memory(cell: str, directions: int, unequal: bool) -> None:
    """Four times the steps need four times the output, the lengths and what is saved, and no more workspace."""
    training, inference, kept, outputs = [], [], [], []
    for steps in (512, 2048):
        layer, unit, sizes = memory_case(cell, steps, directions, unequal)
        function, tensors = function_of(layer), leaves(layer)
        tensors[0].requires_grad_(False)
        dy = fg.ones(*function(*tensors)[0].shape)

        def step(function: Any = function, tensors: Any = tensors, dy: Any = dy) -> None:
            function(*tensors)[0].backward(dy)

        def forward(function: Any = function, tensors: Any = tensors) -> None:
            with fg.no_grad():
                function(*tensors)

        step()  # from here on the parameters' gradients are there
        training.append(peak_of(step))
        inference.append(peak_of(forward))
        kept.append((1 + SAVED[cell]) * unit + sizes)
        outputs.append(unit + sizes)
    assert training[1] - training[0] == kept[1] - kept[0]
    assert inference[1] - inference[0] == outputs[1] - outputs[0]
    workspace = training[0] - kept[0]
    assert workspace < 4 * 1024 * 1024


Trace = list[list[Step]]


def by_hand(
    layer: Layer, spoil_trace: Callable[[Trace], None], spoil_gradients: Callable[[dict[str, Array]], None]
) -> Callable[..., Any]:
    """The layer with the gradients of tests/recurrent.py, spoilt."""

    class ByHand(Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.layer = moved(layer, [t.detach().numpy() for t in tensors])
            y, *last = recurrent.forward(ctx.layer)[:3]
            return tuple(fg.from_numpy(np.array(a)) for a in (y, *last) if a is not None)

        @staticmethod
        def backward(ctx: Any, *given_gradients: Any) -> Any:
            trace = recurrent.unroll(ctx.layer)
            spoil_trace(trace)
            found = by_name(layer, recurrent.backward(ctx.layer, trace, *[g.numpy() for g in given_gradients]))
            spoil_gradients(found)
            return tuple(fg.from_numpy(np.array(g)) for g in found.values())

    return ByHand.apply


def moved(layer: Layer, arrays: Sequence[Array]) -> Layer:
    """The layer with these numbers in place of its own."""
    values = dict(zip(arrays_of(layer), arrays, strict=True))
    weights = tuple(
        Weights(*[values.get(f"{name}_{d}") for name in Weights._fields]) for d in range(len(layer.weights))
    )
    x = values["x"].reshape(layer.x.shape)
    return layer._replace(x=x, h_0=values.get("h_0"), c_0=values.get("c_0"), weights=weights)


def scaled(name: str, rows: slice = slice(None)) -> Callable[[dict[str, Array]], None]:
    def spoil(gradients: dict[str, Array]) -> None:
        gradients[name][rows] *= 1.01

    return spoil


def forgotten(field: str) -> Callable[[Trace], None]:
    """The first step computed takes the state before it for zero."""

    def spoil(trace: Trace) -> None:
        for steps in trace:
            steps[0] = steps[0]._replace(**{field: np.zeros_like(getattr(steps[0], field))})

    return spoil


def nothing(_: Any) -> None:
    pass


RIGHT = (nothing, nothing)
WRONG = {
    "h_0 forgotten": (forgotten("h_before"), nothing),
    "c_0 forgotten": (forgotten("c_before"), nothing),
    "dx of the first step": (nothing, scaled("x", slice(0, 1))),
    "dh_0": (nothing, scaled("h_0")),
    "dc_0": (nothing, scaled("c_0")),
}


@pytest.mark.parametrize("shape", [((1, 2, 3, 2), 0, None, 1), ((4, 2, 2, 3), 0, None, 2)], ids=str)
@pytest.mark.parametrize(
    ("cell", "wrong"),
    [(cell, wrong) for cell in CELLS for wrong in [None, *WRONG] if cell == "lstm" or "c_0" not in (wrong or "")],
)
def test_a_wrong_first_step_is_found(cell: str, shape: tuple, wrong: str | None) -> None:
    """By central differences, by gradcheck and by the comparison of the kernels with the gradients by hand."""
    layer = layer_of(cell, shape)
    packed = layer._replace(batch_sizes=np.full(shape[0][0], layer.batch, np.int64))
    if cell == "rnn_relu":
        assert recurrent.away_from_kinks(layer)
    function = by_hand(packed, *(RIGHT if wrong is None else WRONG[wrong]))
    arrays, tensors = list(arrays_of(packed).values()), tuple(leaves(packed))
    outputs = [f(*tensors) for f in (function, function_of(packed))]
    given_gradients = cotangents(outputs[0])
    ours, fused = (differentiated(y, tensors, given_gradients) for y in outputs)
    equal = all(np.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(ours, fused, strict=True))
    if wrong is None:
        check_first(function, arrays, range(len(arrays)))
        assert gradcheck(function, tensors) and equal
    else:
        with pytest.raises(AssertionError, match="central differences"):
            check_first(function, arrays, range(len(arrays)))
        with pytest.raises(GradcheckError):
            gradcheck(function, tensors)
        assert not equal
