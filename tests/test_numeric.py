"""Planted wrong gradients are caught by the testers, and a few numbers worked out by hand bypass all helpers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import check_first, check_second

import fastgrad as fg
from fastgrad.autograd import Function, gradcheck, gradgradcheck

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 2))


def squared_sine(gradient: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """sin(x)^2 as a Function whose backward is `gradient(grad_output, x)`; the right one is grad_output*sin(2x)."""

    class SquaredSine(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.sin() * x.sin()

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            (x,) = ctx.saved_tensors
            return gradient(grad_output, x)

    return SquaredSine.apply


def without_second(x: Any) -> Any:
    """The value of sin(2x) with no path back to x."""
    return (2 * x.detach()).sin()


def with_wrong_second(gradient: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """A right first derivative whose own derivative is `gradient(x)` in place of 2*cos(2x)."""

    class Slope(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return (2 * x).sin()

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            (x,) = ctx.saved_tensors
            return grad_output * gradient(x)

    return lambda dy, x: dy * Slope.apply(x)


RIGHT = squared_sine(lambda dy, x: dy * (2 * x).sin())
WRONG_FIRST = {
    "sign": squared_sine(lambda dy, x: -dy * (2 * x).sin()),
    "factor": squared_sine(lambda dy, x: dy * (2 * x).sin() * 1.01),
    "term": squared_sine(lambda dy, x: dy * x.sin()),
    "ignores the incoming gradient": squared_sine(lambda dy, x: (2 * x).sin()),
    "one element": squared_sine(lambda dy, x: dy * (2 * x).sin() * (x != x.max())),
    "rows exchanged": squared_sine(lambda dy, x: dy * (2 * x).sin()[[2, 1, 0]]),
    "zero": squared_sine(lambda dy, x: dy * 0),
}
WRONG_SECOND = {
    "sign": squared_sine(with_wrong_second(lambda x: -2 * (2 * x).cos())),
    "factor": squared_sine(with_wrong_second(lambda x: 2.02 * (2 * x).cos())),
    "term": squared_sine(with_wrong_second(lambda x: 2 * x.cos())),
    "no path to x": squared_sine(lambda dy, x: dy * without_second(x)),
    "no path to the incoming gradient": squared_sine(lambda dy, x: dy.detach() * (2 * x).sin()),
}


def recurrence(first_step_factor: float) -> Callable[[Any, Any], Any]:
    """h_t = tanh(x_t + w*h_(t-1)) with its gradient written by hand, wrong at t = 0 unless the factor is 1."""

    class Recurrence(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            states = [x[0].tanh()]
            for x_t in x[1:].unbind(0):
                states.append((x_t + w * states[-1]).tanh())
            h = fg.stack(states)
            ctx.save_for_backward(h, w)
            return h

        @staticmethod
        def backward(ctx: Any, dh: Any) -> Any:
            h, w = ctx.saved_tensors
            dx, carried, dw = [], dh[0] * 0, w * 0
            for step in range(len(h) - 1, -1, -1):
                dz = (dh[step] + carried) * (1 - h[step] * h[step])
                dx.append(dz * (first_step_factor if step == 0 else 1.0))
                carried = w * dz
                if step:
                    dw = dw + dz * h[step - 1]
            return fg.stack(dx[::-1]), dw

    return Recurrence.apply


def test_right_gradients_pass() -> None:
    check_first(RIGHT, [X], [0])
    check_second(RIGHT, [X], [0])
    check_first(recurrence(1.0), [X, X[0]], [0, 1])
    check_second(recurrence(1.0), [X, X[0]], [0, 1])


@pytest.mark.parametrize("name", WRONG_FIRST)
def test_wrong_first_derivatives_are_caught(name: str) -> None:
    with pytest.raises(AssertionError, match="first derivative"):
        check_first(WRONG_FIRST[name], [X], [0])
    x = fg.from_numpy(X.copy()).requires_grad_()
    with pytest.raises(RuntimeError, match=r"[Jj]acobian"):
        gradcheck(WRONG_FIRST[name], (x,))
    assert not gradcheck(WRONG_FIRST[name], (x,), raise_exception=False)


@pytest.mark.parametrize("name", WRONG_SECOND)
def test_wrong_second_derivatives_are_caught(name: str) -> None:
    check_first(WRONG_SECOND[name], [X], [0])
    with pytest.raises(AssertionError, match="second derivative"):
        check_second(WRONG_SECOND[name], [X], [0])
    x = fg.from_numpy(X.copy()).requires_grad_()
    assert gradcheck(WRONG_SECOND[name], (x,))
    with pytest.raises(RuntimeError):
        gradgradcheck(WRONG_SECOND[name], (x,))
    assert not gradgradcheck(WRONG_SECOND[name], (x,), raise_exception=False)


def test_a_recurrence_wrong_at_its_first_step_is_caught() -> None:
    wrong = recurrence(0.0)
    with pytest.raises(AssertionError, match="first derivative"):
        check_first(wrong, [X, X[0]], [0, 1])
    with pytest.raises(RuntimeError, match=r"[Jj]acobian"):
        gradcheck(wrong, tuple(fg.from_numpy(a.copy()).requires_grad_() for a in (X, X[0])))


def test_gradcheck_of_a_function_that_differentiates() -> None:
    """The function under test may call autograd itself, as a gradient penalty does."""

    def slope(x: Any) -> Any:
        return fg.autograd.grad((x * x * x).sum(), x, create_graph=True)[0]

    assert gradcheck(slope, (fg.from_numpy(X.copy()).requires_grad_(),))


# By hand. Only tensor, backward, grad, item and tolist stand between these and the numbers.
def test_product_and_square_by_hand() -> None:
    x = fg.tensor([2.0, 3.0], requires_grad=True)
    y = fg.tensor([5.0, 7.0], requires_grad=True)
    (x * x * y).sum().backward()  # d/dx = 2xy, d/dy = x^2
    assert x.grad.tolist() == [20.0, 42.0]
    assert y.grad.tolist() == [4.0, 9.0]


def test_derivatives_of_the_fourth_power_by_hand() -> None:
    x = fg.tensor(3.0, requires_grad=True)
    derivatives = [x**4]
    for _ in range(4):
        derivatives.append(fg.autograd.grad(derivatives[-1], x, create_graph=True)[0])
    assert [d.item() for d in derivatives] == [81.0, 108.0, 108.0, 72.0, 24.0]


def test_linear_by_hand() -> None:
    x = fg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    w = fg.tensor([[1.0, -1.0], [2.0, 0.5], [0.0, 3.0]], requires_grad=True)
    b = fg.tensor([10.0, 20.0, 30.0], requires_grad=True)
    y = fg.nn.functional.linear(x, w, b)
    assert y.tolist() == [[9.0, 23.0, 36.0], [9.0, 28.0, 42.0]]
    y.backward(fg.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]))
    assert x.grad.tolist() == [[1.0, 5.0], [2.0, -2.5]]
    assert w.grad.tolist() == [[1.0, 2.0], [3.0, 4.0], [-1.0, 0.0]]
    assert b.grad.tolist() == [1.0, 1.0, 1.0]


def test_cross_entropy_by_hand() -> None:
    """Logits (0, ln 3): probabilities (1/4, 3/4); the loss of class 0 is ln 4 and its gradient (1/4 - 1, 3/4)."""
    x = fg.tensor([[0.0, math.log(3.0)]], dtype=fg.float64, requires_grad=True)
    loss = fg.nn.functional.cross_entropy(x, fg.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4.0), abs=1e-15)
    assert x.grad.tolist()[0] == pytest.approx([-0.75, 0.75], abs=1e-15)


def test_two_steps_of_a_relu_recurrence_by_hand() -> None:
    """One unit, w_ih = 2, w_hh = 3, b_ih + b_hh = 1, h_0 = 1: h_1 = 2*1 + 3*1 + 1 = 6, h_2 = 2*(-1) + 3*6 + 1 = 17."""
    rnn = fg.nn.RNN(1, 1, nonlinearity="relu")
    with fg.no_grad():
        for name, value in [("weight_ih_l0", 2.0), ("weight_hh_l0", 3.0), ("bias_ih_l0", 0.75), ("bias_hh_l0", 0.25)]:
            getattr(rnn, name).fill_(value)
    x = fg.tensor([[[1.0]], [[-1.0]]], requires_grad=True)
    h_0 = fg.tensor([[[1.0]]], requires_grad=True)
    y, h_n = rnn(x, h_0)
    assert y.flatten().tolist() == [6.0, 17.0]
    assert h_n.flatten().tolist() == [17.0]
    (y[0] + 10 * y[1]).sum().backward()  # dz_2 = 10, dz_1 = 1 + 3*10 = 31
    assert x.grad.flatten().tolist() == [62.0, 20.0]
    assert h_0.grad.flatten().tolist() == [93.0]
    assert rnn.weight_ih_l0.grad.tolist() == [[1 * 31.0 + -1 * 10.0]]
    assert rnn.weight_hh_l0.grad.tolist() == [[1 * 31.0 + 6 * 10.0]]
    assert rnn.bias_ih_l0.grad.tolist() == [41.0]
    assert rnn.bias_hh_l0.grad.tolist() == [41.0]
