"""clip_grad_norm_ and its relatives; parameters as a vector."""

from __future__ import annotations

import math
from typing import Any

import pytest

import fastgrad as fg
from fastgrad import nn
from fastgrad.nn import utils


def parameters(*grads: Any) -> list[Any]:
    made = []
    for grad in grads:
        parameter = nn.Parameter(fg.zeros(2))
        parameter.grad = None if grad is None else fg.tensor(grad)
        made.append(parameter)
    return made


class TestClipping:
    @pytest.mark.parametrize(("order", "norm"), [(2.0, 5.0), (1.0, 7.0), (math.inf, 4.0), (3.0, (27 + 64) ** (1 / 3))])
    def test_norm(self, order: float, norm: float) -> None:
        listed = parameters([3.0, 0.0], None, [0.0, -4.0])
        assert utils.clip_grad_norm_(listed, 1.0, order).item() == pytest.approx(norm)
        assert listed[0].grad.tolist() == pytest.approx([3 / norm, 0.0], rel=1e-5)
        assert listed[1].grad is None and listed[2].grad.tolist() == pytest.approx([0.0, -4 / norm], rel=1e-5)

    def test_small_gradients_stay(self) -> None:
        (parameter,) = parameters([0.3, 0.4])
        before = parameter.grad.tolist()
        assert utils.clip_grad_norm_(iter([parameter]), 10.0).item() == pytest.approx(0.5)
        assert parameter.grad.tolist() == before
        assert utils.clip_grad_norm_(parameter, 0.25).item() == pytest.approx(0.5)
        assert parameter.grad.tolist() == pytest.approx([0.15, 0.2], rel=1e-5)

    def test_nothing_to_clip(self) -> None:
        assert utils.clip_grad_norm_([], 1.0).item() == 0.0
        assert utils.clip_grad_norm_(parameters(None), 1.0).item() == 0.0

    def test_not_finite(self) -> None:
        (parameter,) = parameters([math.nan, 1.0])
        with pytest.raises(RuntimeError, match=r"must be finite.*got nan"):
            utils.clip_grad_norm_([parameter], 1.0, error_if_nonfinite=True)
        assert parameter.grad.tolist()[1] == 1.0
        assert math.isnan(utils.clip_grad_norm_([parameter], 1.0).item())
        assert math.isnan(parameter.grad.tolist()[1])

    def test_total_norm(self) -> None:
        assert utils.get_total_norm([fg.tensor([3.0]), fg.tensor([[4.0]])]).item() == pytest.approx(5.0)
        assert utils.get_total_norm([]).item() == 0.0

    def test_value(self) -> None:
        listed = parameters([3.0, -0.1], None)
        utils.clip_grad_value_(listed, 0.5)
        assert listed[0].grad.tolist() == pytest.approx([0.5, -0.1])


class TestVector:
    def test_there_and_back(self) -> None:
        net = nn.Linear(3, 2)
        vector = utils.parameters_to_vector(net.parameters())
        assert vector.shape == (8,) and vector.requires_grad
        utils.vector_to_parameters(fg.arange(8.0), net.parameters())
        assert net.weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and net.bias.tolist() == [6.0, 7.0]
        assert net.weight.requires_grad and net.weight.is_leaf

    def test_errors(self) -> None:
        with pytest.raises(TypeError, match="expected Tensor"):
            utils.vector_to_parameters([1.0], [])  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=r"shape \(8,\); got \(7,\)"):
            utils.vector_to_parameters(fg.zeros(7), nn.Linear(3, 2).parameters())
