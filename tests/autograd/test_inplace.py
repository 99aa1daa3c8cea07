"""In-place operations on non-leaves and on views, differentiated as PyTorch differentiates them.

Each program takes the module and two (3, 4) tensors away from kinks. By default its derivatives are held against
central differences; the marked test runs the same programs on PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import check_first, check_second, cotangents_for, gradients, leaves

import fastgrad as fg

RANDOM = np.random.default_rng(5)
ARRAYS = [RANDOM.uniform(0.3, 1.5, (3, 4)), RANDOM.uniform(0.3, 1.5, (3, 4))]
PROGRAMS: list[Callable[..., Any]] = []


def program(f: Callable[..., Any]) -> Callable[..., Any]:
    PROGRAMS.append(f)
    return f


@program
def chain_on_a_copy(t: Any, x: Any, y: Any) -> Any:
    z = x.clone()
    z.mul_(y).add_(x, alpha=2).sub_(0.5).div_(y).neg_()
    return z


@program
def augmented_assignments(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    z += y
    z *= x
    z -= y * y
    z /= 3
    z **= 2
    return z


@program
def unary_functions(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    for name in ("exp_", "sqrt_", "tanh_", "sigmoid_", "log_", "abs_", "relu_", "square_", "reciprocal_", "neg_"):
        z = z * 1
        getattr(z, name)()
    return z


@program
def an_op_that_saves_its_output_then_a_new_tensor(t: Any, x: Any, y: Any) -> Any:
    e = x.exp()
    z = e + y
    z.mul_(e)
    return z


@program
def clamp_and_fill(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    z.clamp_(0.9, 2.05)
    z.masked_fill_(y > 1.0, 0.25)
    return z * y


@program
def whole_tensor_overwritten(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    w = z.sum()
    z.copy_(y)
    return z * w


@program
def fill_and_zero(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    before = z.sum()
    z.zero_()
    z += x
    u = y * 2
    u.fill_(3.0)
    return z * u + before


@program
def one_row_set_to_a_number(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[1] = 7.0
    return z * z


@program
def rows_exchanged(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    z[0] = y[1]
    z[1] = x[0] * z[2].clone()
    z[2, 1:3] += y[0, :2]
    return z * y


@program
def write_through_a_view(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    row = z[1]
    row.mul_(y[0])
    row.add_(1)
    return z * z


@program
def base_written_after_its_view_was_made(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    row = z[1]
    z.mul_(y)
    return row * row + x[0]


@program
def view_of_a_view(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    z[1:].t()[::2].mul_(y[:2, :2])
    return z.sum(0) * y


@program
def a_view_written_and_both_used(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    column = z[:, 1]
    column.exp_()
    return z.sum(1) * column


@program
def two_views_of_one_base(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    top, left = z[0], z[:, 0]
    top.mul_(3)
    left.add_(y[:, 1])
    return z * top.sum() + left.sum()


@program
def alternate_base_and_view(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    view = z.view(4, 3)
    view[0].mul_(2)
    z.add_(y)
    view[3].mul_(y.view(4, 3)[2])
    z[2] -= x[0]
    return view * 2 + z.view(4, 3)


@program
def transpose_and_reshape_views(t: Any, x: Any, y: Any) -> Any:
    z = x + y
    z.transpose(0, 1)[2] = y[:, 0]
    z.view(-1)[5:7].mul_(4)
    z.unsqueeze(0).permute(2, 0, 1)[0].sub_(x[:, :1].t())
    return z * z


@program
def narrow_pieces(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    for k in range(2):
        row = z.narrow(0, k + 1, 1)
        row *= y[k]
        z.select(1, k).sub_(y[:, 3])
    return z


@program
def mask_assignment(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[x > 0.9] = 0.0
    z[y < 0.8] *= 3.0
    return z * x


@program
def integer_array_assignment(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    z[t.tensor([2, 0])] = y[:2]
    z[:, t.tensor([1, 3])] += x[:, :2]
    z[[0, 1], [3, 0]] = x[2, :2] * 2
    return z * z


@program
def repeated_index_read_after_a_write(t: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[0] += 1.0
    return z[t.tensor([0, 0, 2])] * x


@program
def assignment_that_broadcasts(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    z[1:] = y[0]
    z[:, 2:] = y[:, :1]
    return z * x


@program
def constant_buffer_filled_with_results(t: Any, x: Any, y: Any) -> Any:
    """A tensor that needs no gradient starts to when one is written into it."""
    out = t.zeros(3, 4, dtype=x.dtype)
    for k in range(3):
        out[k] = x[k] * y[2 - k]
    return out * out


@program
def constant_view_filled_then_base_used(t: Any, x: Any, y: Any) -> Any:
    base = t.ones(5, 4, dtype=x.dtype)
    window = base[1:4]
    window.mul_(x)
    return base.sum(0) * y


@program
def scatter_and_index_in_place(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    z.scatter_add_(1, t.tensor([[0, 0], [3, 1]]), y[1:, :2])
    return z * z


@program
def write_to_a_detached_copy(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    free = z.detach().clone()
    free.mul_(100)
    return z * y


@program
def loop_of_updates(t: Any, x: Any, y: Any) -> Any:
    z = x * 1
    for _ in range(5):
        z.mul_(y).add_(x)
    return z


@program
def requires_grad_after_a_write_by_a_tensor_that_does(t: Any, x: Any, y: Any) -> Any:
    z = t.ones(3, 4, dtype=x.dtype)
    z.add_(x)
    z.mul_(y)
    return z


@program
def view_under_no_grad_written_through_the_base(t: Any, x: Any, y: Any) -> Any:
    z = x * 2
    z[0].mul_(3)
    with t.no_grad():
        total = z.sum() * 1
    return z * y + total * 0


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("positions", [[0], [1], [0, 1]])
def test_against_central_differences(f: Callable[..., Any], positions: list[int]) -> None:
    check_first(lambda *tensors: f(fg, *tensors), ARRAYS, positions)
    check_second(lambda *tensors: f(fg, *tensors), ARRAYS, positions)


@pytest.mark.torch
@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("positions", [[0], [1], [0, 1]])
def test_against_torch(f: Callable[..., Any], positions: list[int]) -> None:
    torch = pytest.importorskip("torch")
    outputs = [f(t, *leaves(t, [a.copy() for a in ARRAYS], positions)) for t in (fg, torch)]
    assert outputs[0].requires_grad == outputs[1].requires_grad
    np.testing.assert_allclose(outputs[0].detach().numpy(), outputs[1].detach().numpy(), rtol=1e-12)
    w = cotangents_for(lambda *tensors: f(torch, *tensors), ARRAYS, positions, np.random.default_rng(0), torch)
    found = [
        gradients(lambda *tensors, t=t: f(t, *tensors), [a.copy() for a in ARRAYS], positions, w, t)
        for t in (fg, torch)
    ]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def base(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True) * 1.0


class TestState:
    def test_version_numbers(self) -> None:
        z = base(1.0, 2.0, 3.0)
        start = z._version
        z.mul_(2)
        z[0] = 1.0
        z[1:].add_(1.0)
        assert z._version == z[1:]._version == start + 3

    def test_the_object_stays_and_its_node_changes(self) -> None:
        z = base(1.0, 2.0)
        node, same = z.grad_fn, z
        z *= 2.0
        assert z is same and z.grad_fn is not node and not z.is_leaf
        row = z[0]
        z.add_(1.0)
        assert row.tolist() == 3.0 and row.grad_fn is not None

    def test_in_place_returns_the_same_tensor(self) -> None:
        z = base(1.0, 2.0)
        assert z.add_(1.0) is z and z.mul_(2).exp_() is z

    def test_a_constant_written_in_place_stays_constant(self) -> None:
        z = fg.zeros(3)
        z[0] = 2.0
        z.add_(1)
        assert not z.requires_grad and z.is_leaf and z.tolist() == [3.0, 1.0, 1.0]

    def test_a_hook_belongs_to_the_value_it_was_registered_on(self) -> None:
        z, seen = base(1.0, 2.0), []
        z.register_hook(lambda g: seen.append(g.tolist()))
        z.mul_(10.0)
        z.sum().backward()
        assert seen == [[10.0, 10.0]]


class TestRefused:
    def test_output_of_several_views(self) -> None:
        first, _ = base(1.0, 2.0).unbind(0)
        with pytest.raises(RuntimeError, match=r"multiple views|modified inplace"):
            first.mul_(2.0)

    def test_result_does_not_fit(self) -> None:
        z = base(1.0, 2.0)
        with pytest.raises(RuntimeError):
            z.add_(fg.ones(3, 2, dtype=fg.float64))
        with pytest.raises(RuntimeError):
            z[0] = fg.ones(2, dtype=fg.float64)
        assert z.tolist() == [1.0, 2.0]

    def test_result_type_cannot_be_cast(self) -> None:
        z = fg.tensor([1, 2])
        for write in (lambda: z.add_(0.5), lambda: z.__imul__(1.5), lambda: z.__itruediv__(2)):
            with pytest.raises(RuntimeError, match="can't be cast"):
                write()
        assert z.tolist() == [1, 2]

    def test_expanded_memory(self) -> None:
        z = fg.zeros(1).expand(3)
        with pytest.raises(
            RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"
        ):
            z.add_(fg.ones(3))

    def test_overlapping_operands_are_read_before_they_are_written(self) -> None:
        z = fg.arange(4.0)
        z[1:] = z[:-1].clone()
        assert z.tolist() == [0.0, 0.0, 1.0, 2.0]
        z.view(2, 2).add_(z.clone().view(2, 2).t())
        assert z.tolist() == [0.0, 1.0, 1.0, 4.0]


class TestRandomFills:
    """What is overwritten by random numbers has no part in the result."""

    @pytest.mark.parametrize("fill", ["uniform_", "normal_", "bernoulli_", "random_", "exponential_"])
    @pytest.mark.parametrize("part", [lambda z: z, lambda z: z[:2], lambda z: z.view(2, 2)])
    def test_gradient(self, fill: str, part: Any) -> None:
        w = fg.ones(4, dtype=fg.float64, requires_grad=True)
        z = w * 2
        filled = part(z)
        getattr(filled, fill)()
        z.sum().backward()
        kept = 4 - filled.numel()
        assert w.grad.tolist() == [0.0] * (4 - kept) + [2.0] * kept


def test_logits_overwritten_after_cross_entropy() -> None:
    gradients = []
    for create_graph in (False, True):
        w = fg.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
        z = w * 1
        loss = fg.nn.functional.cross_entropy(z, fg.tensor([0]))
        with fg.no_grad():
            z.mul_(5)
        if create_graph:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                fg.autograd.grad(loss, w, create_graph=True)
        else:
            gradients.append(fg.autograd.grad(loss, w)[0])
    assert gradients[0].abs().sum().item() > 0


def test_a_weight_overwritten_that_the_gradient_does_not_need() -> None:
    weight = fg.ones(2, 3, requires_grad=True)
    y = fg.nn.functional.linear(fg.ones(4, 3), weight)
    with fg.no_grad():
        weight.mul_(2)
    y.sum().backward()
    assert weight.grad.tolist() == [[4.0] * 3] * 2


@pytest.mark.parametrize(
    ("options", "reduction"),
    [({"size_average": False}, "sum"), ({"reduce": False}, "none"), ({"reduce": True}, "mean")],
)
def test_the_arguments_of_old_of_cross_entropy(options: dict, reduction: str) -> None:
    x, t = fg.tensor([[1.0, 2.0], [0.0, 3.0]]), fg.tensor([0, 1])
    cross_entropy = fg.nn.functional.cross_entropy
    assert cross_entropy(x, t, **options).tolist() == cross_entropy(x, t, reduction=reduction).tolist()
