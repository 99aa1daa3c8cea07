"""Trajectories of the optimizers against PyTorch's, and state dicts that go over from one to the other."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "betas": (0.5, 0.7), "eps": 1e-3}),
]


def name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def parameters() -> tuple[list[Any], list[Any]]:
    start = [np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(4, 3), (3,), (2, 2)])]
    return [nn.Parameter(fg.tensor(v)) for v in start], [torch.nn.Parameter(torch.tensor(v)) for v in start]


def run(pairs: list[tuple[Any, list[Any], Any]], steps: range) -> None:
    for step in steps:
        for optimizer, params, package in pairs:
            optimizer.zero_grad()
            for k, parameter in enumerate(params):
                if (step, k) == (2, 1):  # one parameter without a gradient once
                    continue
                gradient = np.random.default_rng(100 * step + k).normal(size=tuple(parameter.shape))
                parameter.grad = package.tensor(gradient)
            optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_trajectories_and_state_dicts(name: str, options: dict) -> None:
    ours, theirs = parameters()
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    run([(a, ours, fg), (b, theirs, torch)], range(5))
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-12)
    mine, other = a.state_dict(), b.state_dict()
    assert list(mine) == list(other) and mine["state"].keys() == other["state"].keys()
    assert set(mine["param_groups"][0]) == set(other["param_groups"][0])
    for number, state in other["state"].items():
        assert list(mine["state"][number]) == list(state)
        for key, value in state.items():
            assert name_of(mine["state"][number][key].dtype) == name_of(value.dtype)
            np.testing.assert_allclose(mine["state"][number][key].numpy(), value.numpy(), rtol=1e-9, atol=1e-12)

    translated = copy.deepcopy({"param_groups": other["param_groups"], "state": {}})
    for number, state in other["state"].items():
        translated["state"][number] = {key: fg.tensor(value.numpy()) for key, value in state.items()}
    resumed = [nn.Parameter(fg.tensor(q.detach().numpy())) for q in theirs]
    c = getattr(optim, name)(resumed, lr=7.0)
    c.load_state_dict(translated)
    run([(b, theirs, torch), (c, resumed, fg)], range(5, 8))
    for p, q in zip(resumed, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"), [("StepLR", {"step_size": 2}), ("CosineAnnealingLR", {"T_max": 3, "eta_min": 0.1})]
)  # fmt: skip
def test_schedules(name: str, options: dict) -> None:
    ours, theirs = parameters()
    a, b = optim.SGD(ours, 0.5), torch.optim.SGD(theirs, 0.5)
    s, t = getattr(optim.lr_scheduler, name)(a, **options), getattr(torch.optim.lr_scheduler, name)(b, **options)
    for _ in range(10):
        assert s.get_last_lr() == pytest.approx(t.get_last_lr(), rel=1e-12)
        a.step(), b.step(), s.step(), t.step()


def test_repr() -> None:
    ours, theirs = parameters()
    assert repr(optim.SGD(ours, 0.5)) == repr(torch.optim.SGD(theirs, 0.5))
    assert repr(optim.AdamW(ours, 0.5)) == repr(torch.optim.AdamW(theirs, 0.5))
