"""The table of cases against PyTorch: values, gradients, gradients of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CASES, Case
from hypothesis import given
from hypothesis import strategies as st
from numeric import cotangents_for, gradients, hessian_product, leaves, outputs_of

import fastgrad as fg

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_equal_to_torch(case: Case, dtype: type, data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    sample = data.draw(case.samples)
    tolerance = 1e-10 if dtype is np.float64 else 2e-4

    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max(initial=1.0))

    def function(t: Any) -> Any:
        return lambda *tensors: case.function(t, *tensors, **sample.options)

    floats = case.floats(sample) if case.derivatives else []
    results = [outputs_of(function(t)(*leaves(t, sample.placed(dtype), floats))) for t in (fg, torch)]
    assert len(results[0]) == len(results[1])
    for ours, theirs in zip(*results, strict=True):
        assert tuple(ours.shape) == tuple(theirs.shape)
        assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype).rpartition(".")[2]
        assert ours.requires_grad == theirs.requires_grad
        close(ours.detach().numpy(), theirs.detach().numpy())
    if not case.derivatives:
        return
    positions = sorted(data.draw(st.sets(st.sampled_from(floats), min_size=1)))
    random = np.random.default_rng(3)
    w = [np.asarray(a, dtype) for a in cotangents_for(function(torch), sample.placed(dtype), positions, random, torch)]
    u = [np.asarray(random.normal(size=sample.arrays[k].shape), dtype) for k in positions]
    for derivative in (
        lambda t: gradients(function(t), sample.placed(dtype), positions, w, t),
        lambda t: hessian_product(function(t), sample.placed(dtype), positions, w, u, t),
    ):
        for ours, theirs in zip(derivative(fg), derivative(torch), strict=True):
            assert ours.dtype == dtype
            close(ours, theirs)
