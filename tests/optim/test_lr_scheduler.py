"""Learning rate schedules against their closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import fastgrad as fg
from fastgrad import nn, optim
from fastgrad.optim import lr_scheduler


def optimizer(*rates: float) -> optim.Optimizer:
    return optim.SGD([{"params": [nn.Parameter(fg.ones(1))], "lr": rate} for rate in rates])


SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[float, int], float]]] = {
    "step": (lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5), lambda base, t: base * 0.5 ** (t // 3)),
    "lambda": (lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)), lambda base, t: base / (1 + t)),
    "cosine": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 5, eta_min=0.01),
        lambda base, t: 0.01 + (base - 0.01) * (1 + math.cos(math.pi * t / 5)) / 2,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_closed_form(name: str) -> None:
    make, formula = SCHEDULES[name]
    optimized = optimizer(0.4, 0.2)
    scheduler = make(optimized)
    for t in range(14):
        expected = [pytest.approx(formula(base, t)) for base in (0.4, 0.2)]
        assert [group["lr"] for group in optimized.param_groups] == expected == scheduler.get_last_lr()
        optimized.step()
        scheduler.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_resume(name: str) -> None:
    make, _ = SCHEDULES[name]
    first, second = optimizer(0.4), optimizer(0.4)
    running, resumed = make(first), make(second)
    for _ in range(4):
        running.step()
    resumed.load_state_dict(running.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        running.step()
        resumed.step()
        assert resumed.get_last_lr() == running.get_last_lr()


def test_schedules_combine() -> None:
    optimized = optimizer(1.0)
    schedulers = [lr_scheduler.StepLR(optimized, 1, 0.5), lr_scheduler.StepLR(optimized, 2, 0.1)]
    for _ in range(2):
        for scheduler in schedulers:
            scheduler.step()
    assert optimized.param_groups[0]["lr"] == pytest.approx(0.025)


def test_errors() -> None:
    with pytest.raises(TypeError, match="must be an Optimizer"):
        lr_scheduler.StepLR(3, 1)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer(0.1), 1, last_epoch=3)
    with pytest.raises(ValueError, match="one function per group"):
        lr_scheduler.LambdaLR(optimizer(0.1), [])
    with pytest.raises(NotImplementedError, match="must define get_lr"):
        lr_scheduler.LRScheduler(optimizer(0.1))
