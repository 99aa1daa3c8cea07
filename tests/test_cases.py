"""The table of cases against NumPy, against central differences, and fused ops against their composites."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import recurrent
from cases import CASES, Case, Sample
from hypothesis import given
from hypothesis import strategies as st
from numeric import check_first, check_second, cotangents_for, gradients, hessian_product, leaves, outputs_of

import fastgrad as fg
from fastgrad.autograd import gradcheck, gradgradcheck

DIFFERENTIABLE = [case for case in CASES if case.derivatives]
FUSED = [case for case in CASES if case.composite]


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=repr)


def bound(case: Case, sample: Sample, spelling: Any = None) -> Any:
    function = spelling or case.function
    return lambda *tensors: function(fg, *tensors, **sample.options)


def positions_of(data: st.DataObject, case: Case, sample: Sample) -> list[int]:
    """Any non-empty subset of the inputs may require a gradient."""
    floats = case.floats(sample)
    return sorted(data.draw(st.sets(st.sampled_from(floats), min_size=1)))


@each(CASES)
@given(data=st.data())
def test_forward_equals_numpy_in_both_precisions(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    expected = [np.asarray(y) for y in outputs_of(case.reference(*sample.placed(), **sample.options))]
    for dtype, tolerance in [(np.float64, 1e-13), (np.float32, 3e-5)]:
        arrays = sample.placed(dtype)
        before = [a.copy() for a in arrays]
        outputs = outputs_of(case.function(fg, *[fg.from_numpy(a) for a in arrays], **sample.options))
        assert len(outputs) == len(expected)
        for y, e in zip(outputs, expected, strict=True):
            assert tuple(y.shape) == e.shape
            assert y.numpy().dtype == (dtype if e.dtype.kind == "f" else e.dtype)
            scale = np.abs(e).max(initial=1.0)
            np.testing.assert_allclose(y.numpy(), e, rtol=tolerance, atol=tolerance * scale)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)


@each(DIFFERENTIABLE)
@given(data=st.data())
def test_first_derivative(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    check_first(bound(case, sample), sample.placed(), positions_of(data, case, sample))


@each(DIFFERENTIABLE)
@given(data=st.data())
def test_second_derivative(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    check_second(bound(case, sample), sample.placed(), positions_of(data, case, sample))


@each(DIFFERENTIABLE)
@given(data=st.data())
def test_gradients_in_float32_are_those_of_float64(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    positions = positions_of(data, case, sample)
    f = bound(case, sample)
    w = [np.asarray(a, np.float32) for a in cotangents_for(f, sample.placed(), positions, np.random.default_rng(1))]
    wide = gradients(f, sample.placed(), positions, [np.asarray(a, np.float64) for a in w])
    narrow = gradients(f, sample.placed(np.float32), positions, w)
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max(initial=1.0))


@each(DIFFERENTIABLE)
@given(data=st.data())
def test_inputs_stay_and_gradients_are_nobody_elses_memory(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    arrays, positions = sample.placed(), case.floats(sample)
    before = [a.copy() for a in arrays]
    tensors = leaves(fg, arrays, positions)
    outputs = [y for y in outputs_of(case.function(fg, *tensors, **sample.options)) if y.requires_grad]
    cotangents = [fg.ones_like(y) for y in outputs]
    fg.autograd.backward(outputs, cotangents)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
    held = [tensors[k].grad for k in positions]
    for k, g in zip(positions, held, strict=True):
        assert g is None or tuple(g.shape) == arrays[k].shape
    found = [g for g in held if g is not None]
    others = [*arrays, *[w.numpy() for w in cotangents], *[y.detach().numpy() for y in outputs]]
    for n, g in enumerate(found):
        mine = g.numpy()
        for other in [*others, *[h.numpy() for h in found[:n]]]:
            assert not np.shares_memory(mine, other), "writing to one gradient would change another tensor"


@each(DIFFERENTIABLE)
@given(data=st.data())
def test_gradcheck_accepts(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    tensors = leaves(fg, list(sample.arrays), positions_of(data, case, sample))
    f = bound(case, sample)

    def float_outputs(*arguments: Any) -> tuple[Any, ...]:
        return tuple(y for y in outputs_of(f(*arguments)) if y.is_floating_point())

    if float_outputs(*tensors):
        assert gradcheck(float_outputs, tuple(tensors))
        assert gradgradcheck(float_outputs, tuple(tensors), tuple(fg.ones_like(y) for y in float_outputs(*tensors)))


@each(FUSED)
@given(data=st.data())
def test_fused_equals_composite(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    positions = positions_of(data, case, sample)
    fused, composite = bound(case, sample), bound(case, sample, case.composite)
    arrays = sample.placed()
    for a, b in zip(
        outputs_of(fused(*leaves(fg, arrays, []))), outputs_of(composite(*leaves(fg, arrays, []))), strict=True
    ):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)
    random = np.random.default_rng(2)
    w = cotangents_for(fused, arrays, positions, random)
    u = [np.asarray(random.normal(size=arrays[k].shape)) for k in positions]
    for derivative in (
        lambda f: gradients(f, arrays, positions, w),
        lambda f: hessian_product(f, arrays, positions, w, u),
    ):
        for a, b in zip(derivative(fused), derivative(composite), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def summed(results: Any) -> Any:
    total = 0
    for y in outputs_of(results):
        total = total + (y * y).sum()
    return total


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", ["linear bias=True", *recurrent.CELLS])
def test_one_tensor_in_two_places_of_a_fused_op(name: str, create_graph: bool) -> None:
    """Each place contributes once, also where the gradient comes from the composite."""
    random = np.random.default_rng(4)
    case, rows = next(case for case in FUSED if case.name == name), 2 * recurrent.GATES.get(name, 1)
    w, b = (fg.from_numpy(random.normal(size=s) * 0.5).requires_grad_() for s in ((rows, 2), (rows,)))
    x, h = fg.from_numpy(random.normal(size=(3, 1, 2))), fg.from_numpy(random.normal(size=(1, 1, 2)))
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((w, w, b), {})]
    if name in recurrent.CELLS:
        first = w[:2].view(1, 2, 2)
        states = [h, h] if name == "lstm" else [h]
        calls = [((x, *states, w, w, b, b), {}), ((first, *[first] * len(states), w, w), {"bias": False})]
    for arguments, options in calls:
        found = []
        for spelling in (case.function, case.composite):
            assert spelling is not None
            loss = summed(spelling(fg, *arguments, **options))
            first_order = fg.autograd.grad(loss, (w, b), create_graph=create_graph, allow_unused=True)
            second_order = fg.autograd.grad(summed(first_order[0]), w) if create_graph else ()
            found.append([g.detach().numpy() for g in (*first_order, *second_order) if g is not None])
        for a, c in zip(*found, strict=True):
            np.testing.assert_allclose(a, c, rtol=1e-10, atol=1e-12)
