"""rnn, lstm, gru and their backwards against loops over the steps in NumPy and float64 (tests/recurrent.py)."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from guarded import Guard, guarding
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent import CELLS, Gradients, Layer, Results, Weights, backward, forward, make_layer, unroll

import fastgrad
from fastgrad._core import launch, launch_kernel

Array = np.ndarray
DTYPES = [np.float32, np.float64]
KERNELS = {"rnn_tanh": ("rnn", 0), "rnn_relu": ("rnn", 1), "gru": ("gru", 0), "lstm": ("lstm", 0)}

# (T, B, I, H) around the widths of vectors and panels and the heights of row tiles.
SIZES = [
    (1, 1, 1, 1), (2, 1, 3, 1), (9, 1, 8, 16), (1, 20, 33, 31), (3, 2, 7, 3), (2, 5, 1, 7), (3, 5, 4, 8),
    (2, 12, 9, 17), (9, 13, 5, 33), (3, 13, 16, 32), (2, 20, 40, 48), (3, 33, 10, 65), (1, 33, 2, 64),
    (2, 37, 130, 100),
]  # fmt: skip
# More rows than any kernel takes through its input projection at a time.
LONG = [(300, 9, 2, 3), (2100, 1, 1, 2), (64, 8, 1, 2), (65, 8, 1, 2), (3, 600, 2, 3), (30, 100, 4, 17)]
EMPTY = [(1, 0, 3, 4), (3, 0, 3, 4), (3, 2, 0, 4), (1, 2, 0, 4), (3, 2, 3, 0)]
LENGTHS = {
    "all equal": [5, 5, 5],
    "strictly decreasing": [7, 6, 5, 4, 3, 2, 1],
    "ties": [9, 9, 9, 9, 4, 4, 4, 2, 2, 1, 1, 1, 1, 1],
    "one step": [1, 1, 1],
    "one row": [6],
    "one row goes on": [30, *[1] * 25],
    "longer than a chunk": [700, 699, 350, 350, 350, 350, 20, 1, 1],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Also of NumPy's products: tests that run side by side would wait for each other's threads."""
    threads = fastgrad.get_num_threads()
    fastgrad.set_num_threads(1)
    yield
    fastgrad.set_num_threads(threads)


def held(guard: Guard, array: Array | None) -> Array | None:
    """A copy between walls; of the integers, which cannot start as NaN, a plain copy."""
    return None if array is None else array.copy() if array.dtype == np.int64 else guard.copy(array)


def room(guard: Guard, kernel: str, layer: Layer) -> Array:
    """The workspace, not an element larger than promised."""
    sizes = len(layer.sizes), layer.batch, len(layer.x), layer.x.shape[1], layer.hidden, layer.state
    return guard.array((launch.recurrent_workspace(kernel, *sizes, len(layer.weights)),), layer.x.dtype.type)


def run(kernel: str, layer: Layer, operands: list[Array | None], inputs: list[Array | None]) -> None:
    before = [None if array is None else array.copy() for array in inputs]
    launch_kernel(kernel, operands, i=(KERNELS[layer.cell][1], layer.batch))
    for array, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def run_forward(layer: Layer, save: bool = True) -> Results:
    kernel, dtype = KERNELS[layer.cell][0], layer.x.dtype.type
    lstm, gated = layer.cell == "lstm", layer.cell in ("lstm", "gru")
    directions, rows = len(layer.weights), len(layer.x)
    with guarding() as guard:
        y = guard.array((rows, directions * layer.state), dtype)
        h_n = guard.array((directions, layer.batch, layer.state), dtype)
        c_n = guard.array((directions, layer.batch, layer.hidden), dtype) if lstm else None
        gates = guard.array((directions, rows, 4 * layer.hidden), dtype) if gated and save else None
        cells = guard.array((directions, rows, layer.hidden), dtype) if lstm and save else None
        inputs = [held(guard, array) for array in (layer.x, layer.h_0, layer.c_0, layer.batch_sizes)]
        inputs += [held(guard, array) for weights in layer.weights for array in weights]
        run(kernel, layer, [y, h_n, c_n, gates, cells, room(guard, kernel, layer), *inputs], inputs)
    return Results(y, h_n, c_n, gates, cells)


def output_names(layer: Layer) -> list[str]:
    """The gradients that backward computes, in the order of `flat`; a second direction's names end in _reverse."""
    names = ["x", "h_0", *["c_0"] * (layer.cell == "lstm")]
    for suffix in ("", "_reverse")[: len(layer.weights)]:
        weights = ["w_ih", "w_hh", "b_ih", "b_hh", *["w_hr"] * (layer.weights[0].w_hr is not None)]
        names += [name + suffix for name in weights]
    return names


def named(layer: Layer, gradients: Gradients) -> dict[str, Array]:
    every = {"x": gradients.x, "h_0": gradients.h_0, "c_0": gradients.c_0}
    for suffix, weights in zip(("", "_reverse"), gradients.weights, strict=False):
        every |= {name + suffix: array for name, array in weights._asdict().items()}
    return {name: every[name] for name in output_names(layer)}


def run_backward(
    layer: Layer,
    saved: Results,
    dy: Array | None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
    wanted: Collection[str] | None = None,
) -> dict[str, Array]:
    kernel, dtype = KERNELS[layer.cell][0] + "_backward", layer.x.dtype.type
    wanted = output_names(layer) if wanted is None else wanted
    shapes = {name: array.shape for name, array in named(layer, zero_gradients(layer)).items()}
    with guarding() as guard:
        outputs = {name: guard.array(shapes[name], dtype) for name in wanted}
        given_gradients = [held(guard, array) for array in (dy, dh_n, dc_n)]
        given_saved = [held(guard, array) for array in (saved.y, saved.gates, saved.cells)]
        given_inputs = [held(guard, array) for array in (layer.x, layer.h_0, layer.c_0, layer.batch_sizes)]
        inputs = [*given_gradients, *given_saved, *given_inputs]
        operands = [outputs.get("x"), outputs.get("h_0"), outputs.get("c_0"), room(guard, kernel, layer), *inputs]
        for suffix, weights in zip(("", "_reverse"), layer.weights, strict=False):
            sides = [held(guard, array) for array in (weights.w_ih, weights.w_hh, weights.w_hr)]
            operands += [outputs.get(name + suffix) for name in ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")] + sides
            inputs += sides
        run(kernel, layer, operands, inputs)
    return outputs


def zero_gradients(layer: Layer) -> Gradients:
    weights = tuple(type(w)(*[None if a is None else np.zeros(a.shape) for a in w]) for w in layer.weights)
    rows = len(layer.weights[0].w_ih)
    weights = tuple(w._replace(b_ih=np.zeros(rows), b_hh=np.zeros(rows)) for w in weights)
    directions, batch = len(weights), layer.batch
    h_0, c_0 = np.zeros((directions, batch, layer.state)), np.zeros((directions, batch, layer.hidden))
    return Gradients(np.zeros(layer.x.shape), h_0, c_0, weights)


def incoming(layer: Layer, seed: int = 1) -> tuple[Array, Array, Array | None]:
    """dy, dh_n and, for lstm, dc_n."""
    random, dtype, directions = np.random.default_rng(seed), layer.x.dtype.type, len(layer.weights)
    dy = random.standard_normal((len(layer.x), directions * layer.state)).astype(dtype)
    dh_n = random.standard_normal((directions, layer.batch, layer.state)).astype(dtype)
    dc_n = random.standard_normal((directions, layer.batch, layer.hidden)).astype(dtype)
    return dy, dh_n, dc_n if layer.cell == "lstm" else None


def expected_gradients(layer: Layer, saved: Results, *gradients: Array | None) -> dict[str, Array]:
    """relu's from y as the kernel has saved it, so that what rounds to 0 there is 0 here."""
    trace = unroll(layer)
    if layer.cell == "rnn_relu":
        y = saved.y.reshape(len(layer.x), len(layer.weights), layer.state).astype(np.float64)
        trace = [[s._replace(h=y[s.places, d]) for s in steps] for d, steps in enumerate(trace)]
    return named(layer, backward(layer, trace, *gradients))


def assert_close(got: Array | None, expected: Array | None, what: str) -> None:
    assert (got is None) == (expected is None), what
    if got is not None and expected is not None:
        tolerance = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 4e-14}[got.dtype]
        scale = np.abs(expected).max(initial=1.0, where=np.isfinite(expected))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def check(layer: Layer, gradients: tuple[Array | None, ...], wanted: Collection[str] | None = None) -> None:
    """Everything that forward returns and saves, everything that backward is asked for, and nothing else touched."""
    saved, expected = run_forward(layer), forward(layer)
    for name, got, value in zip(Results._fields, saved, expected, strict=True):
        assert_close(got, value, name)
    without = run_forward(layer, save=False)
    for name in ("y", "h_n", "c_n"):
        np.testing.assert_array_equal(getattr(without, name), getattr(saved, name), f"{name} of a forward that saves")
    found = run_backward(layer, saved, *gradients, wanted=wanted)
    everything = expected_gradients(layer, saved, *gradients)
    for name, got in found.items():
        assert_close(got, everything[name], f"d{name}")


def each_cell(function: Any) -> Any:
    return pytest.mark.parametrize("cell", CELLS)(function)


def subsets(names: Collection[str]) -> Iterator[set[str]]:
    return (set(chosen) for count in range(len(names) + 1) for chosen in combinations(sorted(names), count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("size", SIZES + EMPTY, ids=str)
@each_cell
def test_states_and_gradients(cell: str, size: tuple, directions: int, dtype: type) -> None:
    layer = make_layer(cell, size, dtype, directions=directions)
    check(layer, incoming(layer))


@pytest.mark.parametrize(("dtype", "directions"), [(np.float32, 1), (np.float64, 2)])
@pytest.mark.parametrize("size", LONG, ids=str)
@each_cell
def test_many_rows(cell: str, size: tuple, directions: int, dtype: type) -> None:
    layer = make_layer(cell, size, dtype, directions=directions)
    check(layer, incoming(layer))


def test_many_rows_of_large_weights() -> None:
    """Longer chunks than small weights have, and more rows than such a one."""
    layer = make_layer("lstm", (65, 36, 1200, 200), np.float32, lengths=[*[65] * 32, *[40] * 4])
    check(layer, incoming(layer))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@each_cell
def test_unequal_lengths(cell: str, lengths: list[int], directions: int, dtype: type) -> None:
    for inputs, hidden in [(3, 2), (2, 18)][: 1 if max(lengths) > 100 else 2]:
        size = (max(lengths), len(lengths), inputs, hidden)
        layer = make_layer(cell, size, dtype, directions=directions, lengths=lengths)
        check(layer, incoming(layer))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [None, [4, 4, 2, 1, 1]], ids=str)
@pytest.mark.parametrize("size", [(1, 5, 2, 2), (4, 5, 3, 9), (4, 5, 9, 33), (4, 5, 20, 70)], ids=str)
@pytest.mark.parametrize("directions", [1, 2])
def test_projections(size: tuple, directions: int, lengths: list[int] | None, dtype: type) -> None:
    for projection in {1, size[3] // 2, size[3] - 1}:
        options = {"directions": directions, "projection": projection}
        layer = make_layer("lstm", size, dtype, lengths=lengths if size[0] > 1 else None, **options)
        check(layer, incoming(layer))


@pytest.mark.parametrize("size", [(1, 3, 4, 5), (4, 3, 5, 17)], ids=str)
@pytest.mark.parametrize("lengths", [None, [4, 2, 1]], ids=str)
@each_cell
def test_whatever_is_absent_is_zero(cell: str, lengths: list[int] | None, size: tuple) -> None:
    if lengths is not None and size[0] == 1:
        lengths = [1, 1, 1]
    inputs, outputs = {"h_0", "b_ih", "b_hh"}, ["dy", "dh_n"]
    if cell == "lstm":
        inputs, outputs = inputs | {"c_0"}, [*outputs, "dc_n"]
    for directions, absent in product((1, 2), subsets(inputs)):
        layer = make_layer(cell, size, lengths=lengths, directions=directions, absent=absent)
        for left_out in subsets(outputs):
            values = dict(zip(["dy", "dh_n", "dc_n"], incoming(layer), strict=True))
            check(layer, tuple(None if name in left_out else value for name, value in values.items()))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("cell", "projection"), [*((cell, 0) for cell in CELLS), ("lstm", 4)])
def test_gradients_that_are_not_asked_for(cell: str, directions: int, projection: int) -> None:
    for size, lengths in [((1, 3, 4, 5), None), ((5, 6, 7, 20), None), ((5, 4, 3, 6), [5, 3, 3, 1])]:
        layer = make_layer(cell, size, lengths=lengths, directions=directions, projection=projection)
        saved, gradients = run_forward(layer), incoming(layer)
        everything = run_backward(layer, saved, *gradients)
        names = output_names(layer)
        choices = [*([name] for name in names), *([n for n in names if n != name] for name in names), []]
        random = np.random.default_rng(0)
        choices += [[name for name in names if random.integers(2)] for _ in range(20)]
        for wanted in choices:
            for name, got in run_backward(layer, saved, *gradients, wanted=wanted).items():
                np.testing.assert_array_equal(got, everything[name], f"d{name} of {wanted}")


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm"])
@pytest.mark.parametrize("directions", [1, 2])
def test_both_biases_may_share_one_gradient(cell: str, directions: int) -> None:
    layer = make_layer(cell, (4, 3, 2, 5), directions=directions)
    saved, gradients = run_forward(layer), incoming(layer)
    expected = expected_gradients(layer, saved, *gradients)
    kernel = KERNELS[cell][0] + "_backward"
    with guarding() as guard:
        shared = [guard.array(w.b_ih.shape, np.float64) for w in layer.weights]
        operands = [None, None, None, room(guard, kernel, layer), *gradients, saved.y, saved.gates, saved.cells]
        operands += [layer.x, layer.h_0, layer.c_0, None]
        for db, w in zip(shared, layer.weights, strict=True):
            operands += [None, None, db, db, None, w.w_ih, w.w_hh, w.w_hr]
        launch_kernel(kernel, operands, i=(KERNELS[cell][1], layer.batch))
    for suffix, db in zip(("", "_reverse"), shared, strict=False):
        assert_close(db, expected["b_ih" + suffix], "db")


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    cell = draw(st.sampled_from(CELLS))
    batch, inputs = draw(st.sampled_from([1, 2, 5, 12, 13, 20, 33])), draw(st.integers(1, 40))
    hidden = draw(st.sampled_from([1, 3, 7, 8, 16, 17, 31, 33, 48, 65]))
    lengths, steps = None, draw(st.sampled_from([1, 2, 3, 9]))
    if draw(st.booleans()):
        lengths = sorted(draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch)), reverse=True)
        steps = lengths[0]
    inputs_absent = draw(st.sets(st.sampled_from(["h_0", "c_0", "b_ih", "b_hh"])))
    return make_layer(
        cell,
        (steps, batch, inputs, hidden),
        draw(st.sampled_from(DTYPES)),
        directions=draw(st.integers(1, 2)),
        projection=draw(st.integers(0, hidden - 1)) if cell == "lstm" else 0,
        lengths=lengths,
        absent=inputs_absent,
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=120)
@given(data=st.data())
def test_options_crossed(data: st.DataObject) -> None:
    layer = data.draw(layers())
    left_out = data.draw(st.sets(st.integers(0, 2)))
    gradients = tuple(None if k in left_out else value for k, value in enumerate(incoming(layer)))
    wanted = data.draw(st.sets(st.sampled_from(output_names(layer)), min_size=1))
    check(layer, gradients, wanted)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [None, [6, 6, 6, 6, 6, 6, 6, 6, 5, 5, 5, 2, 1, 1]], ids=["equal", "unequal"])
@pytest.mark.parametrize("directions", [1, 2])
@each_cell
def test_nan_and_inf_stay_in_their_row_of_the_batch(
    cell: str, directions: int, lengths: list[int] | None, dtype: type
) -> None:
    layer = make_layer(cell, (6, 14, 5, 40), dtype, directions=directions, lengths=lengths)
    gradients = incoming(layer)
    clean = run_forward(layer)
    clean_dx = run_backward(layer, clean, *gradients, wanted=["x", "h_0"])
    ends = np.cumsum([0, *layer.sizes])
    for value in (np.nan, np.inf, -np.inf):
        spoilt = layer._replace(x=layer.x.copy())
        spoilt.x[ends[1] + 1, 2] = value
        got = run_forward(spoilt)
        expected = forward(spoilt)
        assert not np.array_equal(expected.y, forward(layer).y)
        for name in ("y", "h_n"):
            assert_close(getattr(got, name), getattr(expected, name), f"{name} of {value}")
        rows = np.concatenate([np.arange(size) for size in layer.sizes])
        np.testing.assert_array_equal(got.y[rows != 1], clean.y[rows != 1])
        found = run_backward(spoilt, got, *gradients, wanted=["x", "h_0"])
        np.testing.assert_array_equal(found["x"][rows != 1], clean_dx["x"][rows != 1])
        np.testing.assert_array_equal(np.delete(found["h_0"], 1, 1), np.delete(clean_dx["h_0"], 1, 1))
        if np.isnan(value):
            wide = expected_gradients(spoilt, got, *gradients)
            for name, gradient in found.items():
                assert_close(gradient, wide[name], f"d{name} of {value}")
    dy = gradients[0].copy()
    dy[ends[1] + 1] = np.nan
    found = run_backward(layer, clean, dy, *gradients[1:], wanted=["x", "h_0"])
    np.testing.assert_array_equal(found["x"][rows != 1], clean_dx["x"][rows != 1])
    assert np.isnan(found["x"][rows == 1]).any() and np.isnan(found["h_0"][0, 1]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@each_cell
def test_saturated_cells_are_exact(cell: str, dtype: type) -> None:
    """Pre-activations of 1e4 neither overflow on the way nor leave a derivative where there is none."""
    layer = make_layer(cell, (3, 4, 2, 20), dtype)
    layer = layer._replace(x=layer.x * np.asarray(1e4, dtype))
    check(layer, incoming(layer))


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_explodes_becomes_infinite(dtype: type) -> None:
    """h_t = x_t + 4 h_(t-1), whose sums need no rounding until they are beyond the largest number."""
    steps, one = 600, np.ones((1, 1), dtype)
    layer = Layer("rnn_relu", np.ones((steps, 1), dtype), None, None, (Weights(one, 4 * one),), 1)
    expected = np.zeros(steps, dtype)
    for t in range(steps):
        expected[t] = 1 + 4 * expected[t - 1]
    saved = run_forward(layer)
    np.testing.assert_array_equal(saved.y[:, 0], expected)
    assert np.isinf(expected[-1])
    dx = run_backward(layer, saved, np.ones((steps, 1), dtype), wanted=["x"])["x"]
    np.testing.assert_array_equal(dx[::-1, 0], expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="nothing is flushed")
@pytest.mark.parametrize("dtype", DTYPES)
@each_cell
def test_numbers_below_the_smallest_normal_one_are_zero_here_and_nowhere_else(cell: str, dtype: type) -> None:
    """So none can slow the kernels down; the caller's arithmetic keeps them."""
    layer, tiny = make_layer(cell, (20, 7, 9, 20), dtype, absent={"b_ih", "b_hh"}), np.finfo(dtype).tiny / dtype(1e3)
    states = {name: getattr(layer, name) for name in ("x", "h_0", "c_0")}
    small = layer._replace(**{name: None if a is None else a * tiny for name, a in states.items()})
    zero = layer._replace(**{name: None if a is None else a * dtype(0) for name, a in states.items()})
    assert (small.x != 0).all()
    for name, got, expected in zip(Results._fields, run_forward(small), run_forward(zero), strict=True):
        if got is not None:
            np.testing.assert_array_equal(got, expected, name)
    gradients = [None if g is None else g * tiny for g in incoming(layer)]
    for name, gradient in run_backward(layer, run_forward(layer), *gradients).items():
        np.testing.assert_array_equal(gradient, 0, f"d{name}")
    smallest = np.full(64, tiny)
    assert (smallest * dtype(1) == smallest).all() and (smallest != 0).all()
    assert (np.full(64, np.finfo(dtype).tiny) * dtype(0.1) != 0).all()


@pytest.mark.parametrize("lengths", [None, "unequal"], ids=["equal", "unequal"])
@pytest.mark.parametrize("directions", [1, 2])
@each_cell
def test_threads_give_the_result_of_one(cell: str, directions: int, lengths: str | None) -> None:
    for size in [(9, 41, 24, 128), (1, 200, 60, 128), (20, 2, 30, 150), (3, 1, 4, 5)]:
        chosen = None if lengths is None else sorted((1 + k * 7 % size[0] for k in range(size[1])), reverse=True)
        layer = make_layer(cell, size, np.float64, directions=directions, lengths=chosen)
        gradients, results = incoming(layer), []
        for count in (1, 2, 5):
            fastgrad.set_num_threads(count)
            saved = run_forward(layer)
            results.append([*saved, *run_backward(layer, saved, *gradients).values()])
        names = [*Results._fields, *output_names(layer)]
        for name, one, *others in zip(names, *results, strict=True):
            for other in others:
                assert_close(other, one, name)


@pytest.mark.torch
@pytest.mark.parametrize("size", [(1, 20, 64, 64), (10, 1, 8, 16), (28, 32, 28, 128), (35, 20, 200, 200)], ids=str)
@pytest.mark.parametrize("directions", [1, 2])
@each_cell
def test_equal_to_torch(cell: str, directions: int, size: tuple) -> None:
    import torch

    layer = make_layer(cell, size, directions=directions)
    gradients = incoming(layer)

    def leaf(array: Array) -> Any:
        return torch.from_numpy(array.copy()).requires_grad_()

    x = leaf(layer.x.reshape(*size[:2], size[2]))
    state = [leaf(array) for array in (layer.h_0, layer.c_0) if array is not None]
    weights = [leaf(array) for w in layer.weights for array in w if array is not None]
    options = (True, 1, 0.0, False, directions == 2, False)
    y, *last = getattr(torch, cell)(x, state if cell == "lstm" else state[0], weights, *options)
    saved = run_forward(layer)
    for name, ours, theirs in zip(["y", "h_n", "c_n"], saved, [y.flatten(0, 1), *last], strict=False):
        assert_close(ours, theirs.detach().numpy(), name)
    dy = torch.from_numpy(gradients[0].reshape(*y.shape))
    torch.autograd.backward([y, *last], [dy, *[torch.from_numpy(g) for g in gradients[1:] if g is not None]])
    wanted = [x.grad.flatten(0, 1), *[leaf.grad for leaf in (*state, *weights)]]
    for (name, ours), theirs in zip(run_backward(layer, saved, *gradients).items(), wanted, strict=True):
        assert_close(ours, theirs.numpy(), f"d{name}")
