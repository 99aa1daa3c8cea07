"""What an operation costs beside its arithmetic: four elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import Program, Row
from bench.peers import FRAMEWORKS

LENGTH = 20


def addition(t: Any) -> Program:
    a = t.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    b = t.tensor([0.5, 0.25, 2.0, 1.0], requires_grad=True)
    return Program(lambda: a + b, lambda: [(a + b).detach().numpy()])


def chain(t: Any) -> Program:
    a = t.tensor([1.0, 1.01, 0.99, 1.02], requires_grad=True)

    def step() -> None:
        a.grad = None
        b = a
        for _ in range(LENGTH):
            b = b * a
        b.sum().backward()

    return Program(step, lambda: [a.grad.numpy()])


def user_function(t: Any) -> Program:
    class ReLU(t.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            (x,) = ctx.saved_tensors
            return grad_output * (x > 0)

    a = t.tensor([1.0, -2.0, 3.0, 4.0], requires_grad=True)

    def step() -> None:
        a.grad = None
        b = a
        for _ in range(LENGTH):
            b = ReLU.apply(b)
        b.sum().backward()

    return Program(step, lambda: [a.grad.numpy()])


def numpy_addition() -> Program:
    a = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    b = np.array([0.5, 0.25, 2.0, 1.0], np.float32)
    return Program(lambda: a + b, lambda: [a + b])


def numpy_chain() -> Program:
    """Values kept on the way forward, one multiply-add pair a step on the way back."""
    a = np.array([1.0, 1.01, 0.99, 1.02], np.float32)
    gradient: list[Any] = [None]

    def step() -> None:
        kept = []
        b = a
        for _ in range(LENGTH):
            kept.append(b)
            b = b * a
        b.sum()
        db, da = np.ones_like(b), np.zeros_like(a)
        for value in reversed(kept):
            da += db * value
            db = db * a
        gradient[0] = da + db

    return Program(step, lambda: gradient)


def rows(quick: bool) -> Iterator[Row]:
    for name, make, by_hand, target in [
        ("c = a + b, 4 elements, recorded", addition, numpy_addition, 10.0),
        (f"{LENGTH} multiplications of 4 elements, sum, backward", chain, numpy_chain, 20.0),
        (f"a user's Function {LENGTH} times, sum, backward", user_function, None, 5.0),
    ]:
        programs = {peer: make(t) for peer, t in FRAMEWORKS.items()}
        if by_hand is not None:
            programs["NumPy"] = by_hand()
        yield Row("overhead", name, programs, {"PyTorch": target})
