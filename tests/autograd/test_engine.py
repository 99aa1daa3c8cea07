"""The engine: order, depth, lifetime, modes, hooks and errors."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.autograd import grad


def leaf(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True)


class TestOrder:
    def test_the_same_tensor_twice(self) -> None:
        a = leaf(1.0, 2.0)
        (a + a).sum().backward()
        assert a.grad.tolist() == [2.0, 2.0]

    def test_a_diamond_passes_each_node_once(self) -> None:
        """d = (x^2)(x^2 + x) = x^4 + x^3; a node run before both of its users are done would lose a term."""
        x, calls = leaf(2.0), []
        b = x * x
        b.register_hook(lambda g: calls.append(g.tolist()))
        c = b + x
        (b * c).sum().backward()
        assert x.grad.tolist() == [4 * 8.0 + 3 * 4.0]
        assert calls == [[2 * 4.0 + 2.0]]

    def test_branches_of_different_length(self) -> None:
        x = leaf(3.0)
        long = x
        for _ in range(10):
            long = long * 1.0
        (long + x + x * 2).sum().backward()
        assert x.grad.tolist() == [4.0]

    def test_only_what_leads_to_the_inputs_runs(self) -> None:
        x, y, calls = leaf(2.0), leaf(5.0), []
        z = y * y
        z.register_hook(lambda g: calls.append(g))
        (g,) = grad((x * x + z).sum(), x)
        assert g.tolist() == [4.0] and calls == [] and x.grad is None and y.grad is None

    def test_gradient_of_an_intermediate(self) -> None:
        x = leaf(2.0)
        y = x * x
        z = (y * y).sum()
        gy, gx = grad(z, (y, x))
        assert gy.tolist() == [8.0] and gx.tolist() == [32.0]

    def test_several_roots(self) -> None:
        x = leaf(2.0)
        fg.autograd.backward([x * x, x * 3], [fg.tensor([1.0], dtype=fg.float64), fg.tensor([10.0], dtype=fg.float64)])
        assert x.grad.tolist() == [34.0]

    def test_a_root_among_the_inputs(self) -> None:
        x = leaf(2.0)
        y = x * x
        assert grad(y, y, fg.ones_like(y))[0].tolist() == [1.0]
        assert grad(x.sum(), x)[0].tolist() == [1.0]

    def test_backward_with_inputs_accumulates_there_only(self) -> None:
        x, y = leaf(2.0), leaf(3.0)
        (x * y).sum().backward(inputs=[x])
        assert x.grad.tolist() == [3.0] and y.grad is None


def build_and_differentiate(length: int) -> list[float]:
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.sum().backward()
    return x.grad.tolist()


class TestDepth:
    LENGTH = 100_000

    def test_a_chain_is_built_differentiated_and_freed(self) -> None:
        assert build_and_differentiate(self.LENGTH) == [1.0]

    def test_a_chain_is_freed_without_being_differentiated(self) -> None:
        y = leaf(1.0)
        for _ in range(self.LENGTH):
            y = y * 1.0
        del y

    def test_a_chain_under_create_graph(self) -> None:
        x = leaf(1.5)
        y = x
        for _ in range(self.LENGTH // 4):
            y = -y
        (first,) = grad((y * y).sum(), x, create_graph=True)
        (second,) = grad(first.sum(), x)
        assert first.tolist() == [3.0] and second.tolist() == [2.0]

    def test_in_a_thread_with_a_small_stack(self) -> None:
        results: list[list[float]] = []
        previous = threading.stack_size(256 * 1024)
        try:
            thread = threading.Thread(target=lambda: results.append(build_and_differentiate(self.LENGTH)))
            thread.start()
            thread.join()
        finally:
            threading.stack_size(previous)
        assert results == [[1.0]]

    def test_a_chain_of_functions(self) -> None:
        class Half(fg.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 1.0

            @staticmethod
            def backward(ctx: Any, grad_output: Any) -> Any:
                return grad_output * 1.0

        x = leaf(1.0)
        y = x
        for _ in range(self.LENGTH // 10):
            y = Half.apply(y)
        y.sum().backward()
        assert x.grad.tolist() == [1.0]


class TestOrders:
    def test_third_order(self) -> None:
        x = leaf(0.3, -1.2)
        first = grad(x.sin().sum(), x, create_graph=True)[0]
        second = grad(first.sum(), x, create_graph=True)[0]
        third = grad(second.sum(), x, create_graph=True)[0]
        np.testing.assert_allclose(third.detach().numpy(), -np.cos([0.3, -1.2]), rtol=1e-15)
        assert third.requires_grad

    def test_backward_create_graph_gives_a_grad_with_a_graph(self) -> None:
        x = leaf(2.0)
        (x**3).sum().backward(create_graph=True)
        g = x.grad
        assert g.requires_grad and g.tolist() == [12.0]
        x.grad = None
        g.sum().backward()
        assert x.grad.tolist() == [12.0]
        x.grad = None

    def test_without_create_graph_the_gradient_has_none(self) -> None:
        x = leaf(2.0)
        (g,) = grad((x**3).sum(), x)
        assert not g.requires_grad and g.grad_fn is None

    def test_gradient_penalty(self) -> None:
        """d/dw (d(w x^2)/dx)^2 = d/dw (2wx)^2 = 8 w x^2."""
        w, x = leaf(3.0), leaf(2.0)
        (g,) = grad((w * x * x).sum(), x, create_graph=True)
        (g * g).sum().backward()
        assert w.grad.tolist() == [8 * 3.0 * 4.0] and x.grad.tolist() == [8 * 9.0 * 2.0]

    def test_mixed_derivatives_commute(self) -> None:
        x, y = leaf(0.5), leaf(-0.7)
        f = ((x * y).exp() * x.sin()).sum()
        fx, fy = grad(f, (x, y), create_graph=True)
        (fxy,) = grad(fx.sum(), y, retain_graph=True)
        (fyx,) = grad(fy.sum(), x)
        np.testing.assert_allclose(fxy.numpy(), fyx.numpy(), rtol=1e-14)


class TestFreedGraphs:
    def test_second_backward(self) -> None:
        x = leaf(2.0)
        y = (x * x).sum()
        y.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            y.backward()
        assert x.grad.tolist() == [4.0]

    def test_retain_graph(self) -> None:
        x = leaf(2.0)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [8.0]

    def test_ops_that_save_nothing_can_run_again(self) -> None:
        x = leaf(2.0)
        y = (x + 1).sum()
        y.backward()
        y.backward()
        assert x.grad.tolist() == [2.0]

    def test_shared_part_of_two_graphs(self) -> None:
        x = leaf(2.0)
        shared = x.exp()
        (shared * 2).sum().backward()
        with pytest.raises(RuntimeError, match="second time"):
            (shared * 3).sum().backward()


class TestChangedInPlace:
    @pytest.mark.parametrize(
        "make",
        [
            lambda x, y: (y * y, y),
            lambda x, y: (lambda e: (e.sum(), e))(y.exp()),
            lambda x, y: (y.sin(), y),
            lambda x, y: (fg.matmul(y, x), y),
            lambda x, y: (y / x, y),
        ],
    )
    def test_saved_tensor(self, make: Callable[..., Any]) -> None:
        x = leaf(2.0, 3.0)
        output, saved = make(x, x * 1.0)
        with fg.no_grad():
            saved.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()

    def test_through_a_view(self) -> None:
        x = leaf(2.0, 3.0)
        y = x * 1.0
        z = y * y
        y.detach()[0] = 7.0
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()

    def test_what_is_not_saved_may_change(self) -> None:
        x = leaf(2.0, 3.0)
        y = x * 1.0
        z = y + 1.0
        y.detach().zero_()
        z.sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]

    def test_leaf(self) -> None:
        x = leaf(2.0, 3.0)
        for write in (lambda: x.add_(1.0), lambda: x.__setitem__(0, 1.0), lambda: x.zero_(), lambda: x.__imul__(2.0)):
            with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
                write()
        with pytest.raises(RuntimeError, match="view of a leaf Variable that requires grad"):
            x[0].add_(1.0)
        assert x.tolist() == [2.0, 3.0]
        with fg.no_grad():
            x.add_(1.0)
        assert x.tolist() == [3.0, 4.0] and x.is_leaf

    def test_data_is_written_without_a_trace(self) -> None:
        x = leaf(2.0, 3.0)
        x.data.mul_(10.0)
        assert x.tolist() == [20.0, 30.0] and x.requires_grad and not x.data.requires_grad


class TestHooks:
    def test_a_hook_sees_and_changes_the_gradient(self) -> None:
        x, seen = leaf(2.0), []
        y = x * 3
        y.register_hook(lambda g: seen.append(g.tolist()))
        y.register_hook(lambda g: g * 10)
        y.sum().backward()
        assert seen == [[1.0]] and x.grad.tolist() == [30.0]

    def test_hooks_on_a_leaf_run_in_order(self) -> None:
        x = leaf(2.0)
        x.register_hook(lambda g: g + 1)
        x.register_hook(lambda g: g * 5)
        (x * 3).sum().backward()
        assert x.grad.tolist() == [20.0]

    def test_a_removed_hook_does_not_run(self) -> None:
        x = leaf(2.0)
        handle = x.register_hook(lambda g: g * 100)
        handle.remove()
        handle.remove()
        x.sum().backward()
        assert x.grad.tolist() == [1.0]

    def test_a_hook_clips(self) -> None:
        x = leaf(2.0, -0.1)
        x.register_hook(lambda g: g.clamp(-1.0, 1.0))
        (x * x * x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), [1.0, 0.03], rtol=1e-12)

    def test_hooks_run_under_create_graph(self) -> None:
        x = leaf(3.0)
        y = x * x
        y.register_hook(lambda g: g * 2)
        (g,) = grad(y.sum(), x, create_graph=True)
        (h,) = grad(g.sum(), x)
        assert g.tolist() == [12.0] and h.tolist() == [4.0]

    def test_a_hook_that_raises_stops_the_pass(self) -> None:
        x = leaf(2.0)
        y = x * 3

        def refuse(g: Any) -> Any:
            raise ValueError("no thanks")

        y.register_hook(refuse)
        with pytest.raises(ValueError, match="no thanks"):
            y.sum().backward()
        assert x.grad is None

    def test_a_hook_on_a_tensor_without_gradient(self) -> None:
        with pytest.raises(RuntimeError, match="doesn't require gradient"):
            fg.ones(2).register_hook(lambda g: g)

    def test_a_hook_that_changes_the_shape(self) -> None:
        x = leaf(2.0, 3.0)
        x.register_hook(lambda g: g.sum())
        with pytest.raises(RuntimeError):
            x.sum().backward()

    def test_retain_grad(self) -> None:
        x = leaf(2.0)
        y = x * 3
        assert not y.retains_grad
        y.retain_grad()
        y.retain_grad()
        assert y.retains_grad
        y.register_hook(lambda g: g * 2)
        (y * y).sum().backward()
        assert y.grad.tolist() == [24.0] and x.grad.tolist() == [72.0]


class TestAccumulation:
    def test_sums_over_passes(self) -> None:
        x = leaf(2.0)
        for _ in range(3):
            (x * x).sum().backward()
        assert x.grad.tolist() == [12.0]

    def test_happens_in_place(self) -> None:
        x = leaf(2.0)
        (x * x).sum().backward()
        g = x.grad
        (x * x).sum().backward()
        assert x.grad is g and g.tolist() == [8.0]

    def test_a_gradient_set_by_hand(self) -> None:
        x = leaf(2.0)
        x.grad = fg.tensor([100.0], dtype=fg.float64)
        (x * x).sum().backward()
        assert x.grad.tolist() == [104.0]
        for wrong, error in [
            (fg.ones(3, dtype=fg.float64), RuntimeError),
            (fg.ones(1), RuntimeError),
            (3.0, TypeError),
        ]:
            with pytest.raises(error):
                x.grad = wrong

    def test_the_cotangent_is_not_adopted(self) -> None:
        x, w = leaf(2.0, 3.0), fg.ones(2, dtype=fg.float64)
        (x + 0).backward(w)
        (x + 0).backward(w)
        assert w.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 2.0]

    def test_gradient_has_the_leafs_dtype(self) -> None:
        x = fg.ones(2, requires_grad=True)
        (x.double() * 2).sum().backward()
        assert x.grad.dtype == fg.float32 and x.grad.tolist() == [2.0, 2.0]

    def test_broadcasting_is_undone(self) -> None:
        x, y = fg.ones(3, 1, requires_grad=True), fg.ones(2, 1, 4, requires_grad=True)
        (x * y).sum().backward()
        assert x.grad.tolist() == [[8.0]] * 3 and y.grad.tolist() == [[[3.0] * 4]] * 2


class TestModes:
    def test_contexts(self) -> None:
        x = leaf(2.0)
        with fg.no_grad():
            assert not fg.is_grad_enabled() and not (x * 2).requires_grad
            with fg.enable_grad():
                assert (x * 2).requires_grad
            with fg.set_grad_enabled(True):
                assert fg.is_grad_enabled()
            assert not fg.is_grad_enabled()
        assert fg.is_grad_enabled() and (x * 2).requires_grad

    def test_decorators(self) -> None:
        x = leaf(2.0)

        @fg.no_grad()
        def off(v: Any) -> Any:
            """Doubles."""
            return v * 2

        @fg.enable_grad()
        def on(v: Any) -> Any:
            return v * 2

        @fg.inference_mode()
        def inference(v: Any) -> Any:
            return v * 2

        assert off.__name__ == "off" and off.__doc__ == "Doubles."
        assert not off(x).requires_grad and on(x).requires_grad and not inference(x).requires_grad
        with fg.no_grad():
            assert on(x).requires_grad
        assert fg.is_grad_enabled()

    def test_a_decorated_generator(self) -> None:
        @fg.no_grad()
        def steps() -> Any:
            for _ in range(2):
                yield fg.is_grad_enabled()

        found = []
        for enabled in steps():
            found.append((enabled, fg.is_grad_enabled()))
        assert found == [(False, True)] * 2

    def test_set_grad_enabled_as_a_function(self) -> None:
        try:
            fg.set_grad_enabled(False)
            assert not fg.is_grad_enabled()
        finally:
            fg.set_grad_enabled(True)

    def test_an_exception_restores_the_mode(self) -> None:
        with pytest.raises(ValueError), fg.no_grad():
            raise ValueError
        assert fg.is_grad_enabled()

    def test_one_context_object_used_twice(self) -> None:
        mode = fg.no_grad()
        for _ in range(2):
            with mode:
                assert not fg.is_grad_enabled()
            assert fg.is_grad_enabled()

    def test_a_mode_belongs_to_its_thread(self) -> None:
        found: list[bool] = []
        with fg.no_grad():
            thread = threading.Thread(target=lambda: found.append(fg.is_grad_enabled()))
            thread.start()
            thread.join()
        assert found == [True]

    def test_inference_mode(self) -> None:
        x = leaf(2.0)
        with fg.inference_mode():
            assert fg.is_inference_mode_enabled()
            y = x * 2
        assert not y.requires_grad
        assert not fg.is_inference_mode_enabled()
        with fg.inference_mode(False):
            assert (x * 2).requires_grad

    def test_outputs_of_no_grad_can_require_it_afterwards(self) -> None:
        with fg.no_grad():
            y = leaf(2.0) * 2
        y.requires_grad_()
        y.sum().backward()
        assert y.grad.tolist() == [1.0]

    def test_requires_grad(self) -> None:
        x = leaf(2.0)
        y = x * 2
        assert x.is_leaf and x.grad_fn is None and not y.is_leaf and y.grad_fn is not None
        assert not x.detach().requires_grad and x.detach().is_leaf
        with pytest.raises(RuntimeError, match=r"[Oo]nly [Tt]ensors of floating"):
            fg.tensor([1]).requires_grad_()
        with pytest.raises(RuntimeError, match=r"[Oo]nly [Tt]ensors of floating"):
            fg.zeros(2, dtype=fg.int64, requires_grad=True)
        with pytest.raises(RuntimeError, match="leaf"):
            y.requires_grad = False
        assert not (x > 1).requires_grad and not x.argmax().requires_grad


class TestErrors:
    def test_non_scalar(self) -> None:
        x = leaf(1.0, 2.0)
        with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
            (x * 2).backward()
        with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
            grad(x * 2, x)
        assert x.grad is None

    def test_no_graph(self) -> None:
        for y in (fg.ones(1), fg.ones(1) + 1):
            with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
                y.backward()
        with pytest.raises(RuntimeError, match="does not require grad"):
            grad(fg.ones(1).sum(), leaf(1.0))

    @pytest.mark.parametrize("shape", [(3,), (1, 2), (), (0,)])
    def test_gradient_of_the_wrong_shape(self, shape: tuple[int, ...]) -> None:
        x = leaf(1.0, 2.0)
        with pytest.raises(RuntimeError, match=r"[Mm]ismatch in shape"):
            (x * 2).backward(fg.ones(shape, dtype=fg.float64))
        assert x.grad is None

    def test_gradient_of_another_type(self) -> None:
        with pytest.raises(TypeError):
            (leaf(1.0) * 2).backward(2.0)

    def test_unused_input(self) -> None:
        x, y = leaf(1.0), leaf(2.0)
        with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
            grad((x * 2).sum(), (x, y))
        assert grad((x * 2).sum(), (x, y), allow_unused=True)[1] is None
        assert grad((x * 2).sum(), (x, y), materialize_grads=True)[1].tolist() == [0.0]

    def test_input_that_does_not_require_grad(self) -> None:
        x = leaf(1.0)
        with pytest.raises(RuntimeError, match="does not require grad"):
            grad((x * 2).sum(), fg.ones(1))

    def test_counts(self) -> None:
        x = leaf(1.0)
        with pytest.raises(RuntimeError):
            grad([x * 2, x * 3], x, [fg.ones(1, dtype=fg.float64)])
        with pytest.raises((RuntimeError, ValueError), match="cannot be empty"):
            grad(x.sum(), [])

    def test_grad_outputs(self) -> None:
        x = leaf(1.0, 2.0)
        assert grad(x * x, x, fg.tensor([3.0, 5.0], dtype=fg.float64))[0].tolist() == [6.0, 20.0]
        assert grad([x.sum(), x * x], x, [None, fg.ones(2, dtype=fg.float64)])[0].tolist() == [3.0, 5.0]

    def test_an_integer_and_a_none_loss(self) -> None:
        with pytest.raises(RuntimeError):
            fg.tensor(3).backward()


class TestAnomaly:
    def test_it_names_the_forward_line(self) -> None:
        x = fg.tensor([0.0, 1.0], requires_grad=True)
        with warnings.catch_warnings(record=True) as caught, fg.autograd.detect_anomaly():
            root = (x * 0).sqrt()  # the line that must be named
            with pytest.raises(RuntimeError, match=r"(?i)nan") as error:
                (root * 0).sum().backward()
        named = [str(w.message) for w in caught] + [str(error.value)]
        assert any("root = (x * 0).sqrt()" in text for text in named)

    def test_a_clean_pass_is_left_alone(self) -> None:
        x = leaf(1.0)
        with fg.autograd.detect_anomaly():
            (x * 2).sum().backward()
        assert x.grad.tolist() == [2.0]

    def test_it_is_off_by_default(self) -> None:
        x = fg.tensor([0.0], requires_grad=True)
        ((x * 0).sqrt() * 0).sum().backward()
        assert x.grad.isnan().all()


def resident_kilobytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


class TestLifetime:
    def test_weak_references_die_with_the_last_use(self) -> None:
        gc.disable()
        try:
            x = leaf(1.0, 2.0)
            y = x.exp()
            z = (y * y).sum()
            references = [weakref.ref(t) for t in (x, y, z)]
            z.backward()
            z.register_hook(lambda g: g)
            del y
            assert references[1]() is None
            del x, z
            assert [r() for r in references] == [None] * 3
        finally:
            gc.enable()

    def test_views_and_in_place_leave_no_cycle(self) -> None:
        gc.disable()
        try:
            x = leaf(1.0, 2.0)
            y = x * 2
            y[0] = 5.0
            y[1:].mul_(3.0)
            y.add_(y.sum())
            reference = weakref.ref(y)
            y.sum().backward()
            del y
            assert reference() is None
        finally:
            gc.enable()

    @pytest.mark.skipif(not hasattr(__import__("os"), "sched_getaffinity"), reason="reads /proc")
    def test_memory_is_constant_over_10_000_steps_without_the_collector(self) -> None:
        w = [fg.randn(16, 8).requires_grad_(), fg.zeros(16).requires_grad_(), fg.randn(3, 16).requires_grad_()]
        x, target = fg.randn(4, 8), fg.tensor([0, 2, 1, 0])

        def step() -> None:
            hidden = fg.nn.functional.linear(x, w[0], w[1]).relu()
            logits = fg.nn.functional.linear(hidden, w[2])
            logits[:, 0] *= 0.5
            loss = fg.nn.functional.cross_entropy(logits, target)
            for parameter in w:
                parameter.grad = None
            loss.backward()
            with fg.no_grad():
                for parameter in w:
                    parameter -= 0.01 * parameter.grad

        gc.disable()
        try:
            for _ in range(500):
                step()
            before = resident_kilobytes()
            for _ in range(10_000):
                step()
            grown = resident_kilobytes() - before
        finally:
            gc.enable()
        assert grown < 512, f"10,000 steps grew the process by {grown} KB"
