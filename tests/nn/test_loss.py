"""Losses: values against NumPy, gradients by differences, reductions, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn
from fastgrad.nn import functional as F

REDUCTIONS = {"none": lambda loss: loss, "mean": np.mean, "sum": np.sum}


def randn(*shape: int) -> Any:
    return fg.randn(*shape, dtype=fg.float64)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("module", "formula"),
    [(nn.MSELoss, lambda a, b: (a - b) ** 2), (nn.L1Loss, lambda a, b: np.abs(a - b))],
)
def test_differences(module: Any, formula: Any, reduction: str) -> None:
    a, b = randn(3, 2).requires_grad_(), randn(3, 2).requires_grad_()
    loss = module(reduction=reduction)
    expected = REDUCTIONS[reduction](formula(a.detach().numpy(), b.detach().numpy()))
    np.testing.assert_allclose(loss(a, b).detach().numpy(), expected, rtol=1e-12)
    assert fg.autograd.gradcheck(loss, (a, b))
    with pytest.warns(UserWarning, match="one shape"):
        loss(a, b[:1])


def test_older_spelling_of_the_reduction() -> None:
    assert nn.MSELoss(size_average=False).reduction == "sum"
    assert nn.MSELoss(reduce=False).reduction == "none"
    assert nn.L1Loss(True, True).reduction == "mean"
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        nn.MSELoss(reduction="average")
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        F.l1_loss(fg.ones(1), fg.ones(1), reduction="average")


class TestNLL:
    @given(
        st.sampled_from([(), (4,), (2, 3)]),
        st.booleans(),
        st.sampled_from(list(REDUCTIONS)),
        st.sampled_from([-100, 1]),
    )
    def test_value(self, positions: tuple[int, ...], weighted: bool, reduction: str, ignore_index: int) -> None:
        """`positions` is the shape of the target; the class axis of the input is the second, or the only one."""
        classes = 3
        shape = (*positions[:1], classes, *positions[1:])
        x = randn(*shape).log_softmax(1 if positions else 0).requires_grad_()
        target = fg.randint(0, classes, positions)
        weight = fg.rand(classes, dtype=fg.float64) + 0.5
        rows = np.moveaxis(x.detach().numpy(), 1 if positions else 0, -1).reshape(-1, classes)
        index = target.numpy().reshape(-1)
        factors = (weight.numpy() if weighted else np.ones(classes))[index] * (index != ignore_index)
        losses = -factors * rows[np.arange(len(index)), index]
        with np.errstate(invalid="ignore"):
            expected = {"none": losses.reshape(positions), "sum": losses.sum(), "mean": losses.sum() / factors.sum()}
        loss = nn.NLLLoss(weight if weighted else None, ignore_index=ignore_index, reduction=reduction)
        np.testing.assert_allclose(loss(x, target).detach().numpy(), expected[reduction], rtol=1e-12)
        if factors.sum():
            assert fg.autograd.gradcheck(lambda x: loss(x, target), (x,))

    def test_weight_is_a_buffer(self) -> None:
        loss = nn.NLLLoss(fg.ones(3))
        assert list(loss.state_dict()) == ["weight"] and loss.double().weight.dtype is fg.float64

    @pytest.mark.parametrize(
        ("shape", "target", "weight", "error", "text"),
        [
            ((2, 3), [3, 0], None, IndexError, r"in \[0, 3\); got 3"),
            ((2, 3), [0, -1], None, IndexError, r"in \[0, 3\); got -1"),
            ((2, 3), [0], None, ValueError, "without the class axis"),
            ((), [0], None, ValueError, "without the class axis"),
            ((2, 3), [0, 1], 2, RuntimeError, r"shape \(3,\); got \(2,\)"),
        ],
    )
    def test_errors(self, shape: tuple, target: list, weight: int | None, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            F.nll_loss(fg.ones(shape), fg.tensor(target), None if weight is None else fg.ones(weight))


class TestCrossEntropy:
    def test_is_nll_of_log_softmax(self) -> None:
        x, target, weight = randn(4, 3), fg.tensor([0, 2, 1, 1]), fg.tensor([1.0, 2.0, 0.5], dtype=fg.float64)
        for reduction in REDUCTIONS:
            loss = nn.CrossEntropyLoss(weight, ignore_index=1, reduction=reduction)
            expected = F.nll_loss(x.log_softmax(1), target, weight, ignore_index=1, reduction=reduction)
            np.testing.assert_allclose(loss(x, target).numpy(), expected.numpy(), rtol=1e-12)

    def test_label_smoothing(self) -> None:
        """Smoothing mixes the uniform distribution into the target (Szegedy et al. 2016)."""
        x, target = randn(4, 3), fg.tensor([0, 2, 1, 1])
        smooth = F.one_hot(target, 3).double() * 0.7 + 0.1
        expected = -(smooth * x.log_softmax(1)).sum(1).mean()
        assert nn.CrossEntropyLoss(label_smoothing=0.3)(x, target).item() == pytest.approx(expected.item())
        assert nn.CrossEntropyLoss()(x, smooth).item() == pytest.approx(expected.item())

    def test_functional_is_the_core(self) -> None:
        assert F.cross_entropy is fg._core.cross_entropy and F.linear is fg._core.linear


class TestBCEWithLogits:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_value(self, reduction: str, weighted: bool) -> None:
        x, y = randn(4, 3).requires_grad_(), fg.rand(4, 3, dtype=fg.float64)
        weight, pos_weight = (
            (fg.rand(4, 3, dtype=fg.float64), fg.rand(3, dtype=fg.float64)) if weighted else (None, None)
        )
        loss = nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos_weight)
        s, t = 1 / (1 + np.exp(-x.detach().numpy())), y.numpy()
        expected = -((pos_weight.numpy() if weighted else 1) * t * np.log(s) + (1 - t) * np.log(1 - s))
        expected = REDUCTIONS[reduction](expected * (weight.numpy() if weighted else 1))
        np.testing.assert_allclose(loss(x, y).detach().numpy(), expected, rtol=1e-10)
        assert fg.autograd.gradcheck(lambda x: loss(x, y), (x,))

    def test_far_out_and_at_zero(self) -> None:
        x = fg.tensor([-1000.0, 0.0, 1000.0], dtype=fg.float64, requires_grad=True)
        loss = F.binary_cross_entropy_with_logits(x, fg.tensor([1.0, 0.25, 0.0], dtype=fg.float64), reduction="none")
        np.testing.assert_allclose(loss.tolist(), [1000.0, np.log(2), 1000.0], rtol=1e-12)
        loss.sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), [-1.0, 0.25, 1.0], rtol=1e-12)

    def test_second_derivative_at_zero(self) -> None:
        """s'(0) = 1/4; a form with |x| would give 0."""
        x = fg.zeros(1, dtype=fg.float64, requires_grad=True)
        (dx,) = fg.autograd.grad(
            F.binary_cross_entropy_with_logits(x, fg.zeros(1, dtype=fg.float64)), x, create_graph=True
        )
        (ddx,) = fg.autograd.grad(dx.sum(), x)
        assert dx.item() == pytest.approx(0.5) and ddx.item() == pytest.approx(0.25)

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="must have input's shape"):
            nn.BCEWithLogitsLoss()(fg.ones(2), fg.ones(3))
