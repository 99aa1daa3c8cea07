"""rnn and rnn_backward against a loop over the time steps in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from guarded import guarding

from fastgrad._core import launch_kernel

DTYPES = [np.float32, np.float64]
NONLINEARITIES = ["tanh", "relu"]
# (T, B, I, H) around the widths of vectors and panels, the heights of row tiles, and the number of rows from which
# w_hh is packed.
SIZES = [
    (1, 1, 1, 1), (1, 1, 8, 16), (1, 20, 64, 64), (2, 1, 3, 5), (10, 1, 8, 16), (3, 2, 7, 15), (5, 3, 4, 17),
    (4, 5, 9, 31), (6, 12, 5, 32), (3, 13, 6, 33), (2, 25, 10, 48), (7, 20, 11, 65), (2, 37, 130, 100),
]  # fmt: skip
EMPTY = [(0, 2, 3, 4), (3, 0, 3, 4), (3, 2, 0, 4), (3, 2, 3, 0), (1, 0, 3, 4), (1, 2, 0, 4)]


class Layer(NamedTuple):
    x: np.ndarray
    h_0: np.ndarray | None
    w_ih: np.ndarray
    w_hh: np.ndarray
    b_ih: np.ndarray | None
    b_hh: np.ndarray | None


def layer(size: tuple[int, int, int, int], dtype: type) -> tuple[Layer, np.ndarray]:
    steps, batch, inputs, hidden = size
    rng = np.random.default_rng(0)

    def numbers(scale: float, *shape: int) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    recurrent = numbers(0.8 / max(hidden, 1) ** 0.5, hidden, hidden)
    sides = numbers(1 / max(inputs, 1) ** 0.5, hidden, inputs), recurrent, numbers(0.3, hidden), numbers(0.3, hidden)
    return Layer(numbers(1, steps, batch, inputs), numbers(1, batch, hidden), *sides), numbers(1, steps, batch, hidden)


def order(steps: int, reverse: bool) -> list[int]:
    return list(range(steps))[:: -1 if reverse else 1]


def wide(array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape) if array is None else array.astype(np.float64)


def expected_states(p: Layer, nonlinearity: str, reverse: bool) -> np.ndarray:
    steps, batch, _ = p.x.shape
    hidden = len(p.w_hh)
    h, bias = wide(p.h_0, (batch, hidden)), wide(p.b_ih, (hidden,)) + wide(p.b_hh, (hidden,))
    y = np.zeros((steps, batch, hidden))
    for t in order(steps, reverse):
        z = p.x[t].astype(np.float64) @ p.w_ih.T + h @ p.w_hh.T.astype(np.float64) + bias
        h = y[t] = np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)
    return y


def expected_gradients(p: Layer, dy: np.ndarray, y: np.ndarray, nonlinearity: str, reverse: bool) -> list[np.ndarray]:
    """In the order of Layer. From y as the kernel has saved it, so that a relu close to 0 is the same relu."""
    y = y.astype(np.float64)
    times = order(len(y), reverse)
    h_0 = wide(p.h_0, dy.shape[1:])
    dx, dh, dw_ih, dw_hh, db = (np.zeros(s) for s in (p.x.shape, h_0.shape, p.w_ih.shape, p.w_hh.shape, len(p.w_hh)))
    for step in reversed(range(len(times))):
        t = times[step]
        before = y[times[step - 1]] if step else h_0
        dz = (dy[t] + dh) * (1 - y[t] ** 2 if nonlinearity == "tanh" else y[t] > 0)
        dx[t] = dz @ p.w_ih
        dh = dz @ p.w_hh.astype(np.float64)
        dw_ih += dz.T @ p.x[t]
        dw_hh += dz.T @ before
        db += dz.sum(axis=0)
    return [dx, dh, dw_ih, dw_hh, db, db]


def workspace_size(size: tuple[int, int, int, int], backward: bool) -> int:
    """What fg_rnn_workspace promises: columns in panels of 32, dz in blocks of 64."""
    steps, batch, _, hidden = size
    padded = -(-hidden // 32) * 32
    return hidden * padded + (-(-steps * batch * hidden // 64) * 64 if backward else padded)


def parameters(nonlinearity: str, reverse: bool, accumulate: bool = False) -> tuple[int, int, int]:
    return int(nonlinearity == "relu"), int(reverse), int(accumulate)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    tolerance = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 4e-14}[got.dtype]
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max(initial=0)))


def run_forward(p: Layer, nonlinearity: str, reverse: bool) -> np.ndarray:
    size = (*p.x.shape, len(p.w_hh))
    with guarding() as guard:
        y = guard.array((*p.x.shape[:2], len(p.w_hh)), p.x.dtype.type)
        workspace = guard.array((workspace_size(size, backward=False),), p.x.dtype.type)
        launch_kernel("rnn", [y, workspace, *p], i=parameters(nonlinearity, reverse))
    return y


def run_backward(
    p: Layer,
    dy: np.ndarray,
    y: np.ndarray,
    nonlinearity: str,
    reverse: bool,
    asked: str = "123456",
    before: list[np.ndarray] | None = None,
) -> list[np.ndarray | None]:
    """The gradients in the order of Layer; `before` is what the kernel adds to, where it is given."""
    dtype = dy.dtype.type
    shapes = [p.x.shape, dy.shape[1:], p.w_ih.shape, p.w_hh.shape, dy.shape[2:], dy.shape[2:]]
    kept = dy.copy()
    with guarding() as guard:
        outputs = [guard.array(shape, dtype) if str(k + 1) in asked else None for k, shape in enumerate(shapes)]
        for k in range(2, 6) if before else ():
            if outputs[k] is not None:
                outputs[k][...] = before[k]
        workspace = guard.array((workspace_size((*p.x.shape, dy.shape[2]), backward=True),), dtype)
        operands = [*outputs, workspace, dy, y, p.x, p.h_0, p.w_ih, p.w_hh]
        launch_kernel("rnn_backward", operands, i=parameters(nonlinearity, reverse, before is not None))
    np.testing.assert_array_equal(dy, kept)
    return outputs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("size", SIZES + EMPTY, ids=str)
def test_states_and_gradients(size: tuple, nonlinearity: str, reverse: bool, dtype: type) -> None:
    p, dy = layer(size, dtype)
    y = run_forward(p, nonlinearity, reverse)
    assert_close(y, expected_states(p, nonlinearity, reverse))
    gradients = run_backward(p, dy, y, nonlinearity, reverse)
    for got, expected in zip(gradients, expected_gradients(p, dy, y, nonlinearity, reverse), strict=True):
        assert_close(got, expected)


@pytest.mark.parametrize(
    "absent",
    [{"h_0"}, {"b_ih"}, {"b_hh"}, {"b_ih", "b_hh"}, {"h_0", "b_ih", "b_hh"}],
    ids=lambda names: "+".join(sorted(names)),
)
@pytest.mark.parametrize("size", [(1, 3, 4, 5), (1, 20, 40, 33), (4, 3, 5, 17), (9, 4, 5, 40)], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_absent_state_and_biases_are_zeros(size: tuple, absent: set[str], reverse: bool) -> None:
    p, dy = layer(size, np.float64)
    p = p._replace(**dict.fromkeys(absent))
    for nonlinearity in NONLINEARITIES:
        y = run_forward(p, nonlinearity, reverse)
        assert_close(y, expected_states(p, nonlinearity, reverse))
        gradients = run_backward(p, dy, y, nonlinearity, reverse)
        for got, expected in zip(gradients, expected_gradients(p, dy, y, nonlinearity, reverse), strict=True):
            assert_close(got, expected)


@pytest.mark.parametrize("asked", ["1", "2", "3", "4", "5", "6", "", "16", "2345"])
@pytest.mark.parametrize("size", [(1, 3, 4, 5), (5, 6, 7, 20)], ids=str)
def test_gradients_that_are_not_asked_for(size: tuple, asked: str) -> None:
    p, dy = layer(size, np.float64)
    y = run_forward(p, "tanh", False)
    everything = run_backward(p, dy, y, "tanh", False)
    some = run_backward(p, dy, y, "tanh", False, asked)
    for k, (got, full) in enumerate(zip(some, everything, strict=True)):
        assert (got is not None) == (str(k + 1) in asked)
        if got is not None:
            np.testing.assert_array_equal(got, full)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 3, 4, 5), (5, 6, 7, 20), (0, 2, 3, 4), (3, 0, 3, 4)], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_add_to_what_is_there(size: tuple, reverse: bool, dtype: type) -> None:
    p, dy = layer(size, dtype)
    y = run_forward(p, "relu", reverse)
    rng = np.random.default_rng(1)
    fresh = expected_gradients(p, dy, y, "relu", reverse)
    before = [rng.standard_normal(gradient.shape) for gradient in fresh]
    added = run_backward(p, dy, y, "relu", reverse, before=before)
    for k, (got, expected) in enumerate(zip(added, fresh, strict=True)):
        assert_close(got, expected + before[k] if k >= 2 else expected)


@pytest.mark.parametrize("accumulate", [False, True])
def test_both_biases_may_share_one_gradient(accumulate: bool) -> None:
    p, dy = layer((4, 3, 2, 5), np.float64)
    y = run_forward(p, "tanh", False)
    db, workspace = np.ones(5), np.empty(workspace_size((4, 3, 2, 5), backward=True))
    operands = [None, None, None, None, db, db, workspace, dy, y, p.x, p.h_0, p.w_ih, p.w_hh]
    launch_kernel("rnn_backward", operands, i=parameters("tanh", False, accumulate))
    assert_close(db, expected_gradients(p, dy, y, "tanh", False)[4] + accumulate)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("size", [(4, 3, 5, 17), (6, 14, 5, 40)], ids=str)
def test_nan_and_inf_stay_in_their_row(size: tuple, nonlinearity: str, dtype: type) -> None:
    p, dy = layer(size, dtype)
    p.x[1, 1, 2] = np.nan
    p.x[2, 2, 0] = np.inf
    p.w_ih[:, 0] = np.abs(p.w_ih[:, 0]) + 0.1
    y = run_forward(p, nonlinearity, False)
    assert np.isfinite(y[:, 0]).all()
    assert np.isfinite(y[0]).all() and np.isnan(y[1:, 1]).all()
    assert (y[2, 2] == (1 if nonlinearity == "tanh" else np.inf)).all()
    gradients = run_backward(p, dy, y, "tanh", False, asked="1")
    assert np.isnan(gradients[0][:2, 1]).all() and np.isfinite(gradients[0][:, 0]).all()


@pytest.mark.torch
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("size", [(1, 20, 64, 64), (10, 1, 8, 16), (28, 32, 28, 128), (35, 20, 200, 200)], ids=str)
def test_is_torch_rnn(size: tuple, nonlinearity: str) -> None:
    import torch

    p, dy = layer(size, np.float64)
    module = torch.nn.RNN(size[2], size[3], nonlinearity=nonlinearity, dtype=torch.float64)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), p[2:], strict=True):
            parameter.copy_(torch.from_numpy(value))
    x, h_0 = (torch.from_numpy(value).requires_grad_() for value in (p.x, p.h_0[None]))
    expected, _ = module(x, h_0)
    expected.backward(torch.from_numpy(dy))
    y = run_forward(p, nonlinearity, False)
    assert_close(y, expected.detach().numpy())
    wanted = [x.grad, h_0.grad[0], *(parameter.grad for parameter in module.parameters())]
    for got, gradient in zip(run_backward(p, dy, y, nonlinearity, False), wanted, strict=True):
        assert_close(got, gradient.numpy())
