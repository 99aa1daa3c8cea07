"""A walk that is broken off, entered again, or met by another thread; graphs that changed under it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import fastgrad as fg
from fastgrad.autograd import Function, backward, grad
from fastgrad.utils.hooks import RemovableHandle


def leaf(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True)


class Double(Function):
    """2x, in place; its gradient, unlike that of mul_, is written in Python."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        assert dy.shape == (2,)
        return dy * 2


class TestBrokenOff:
    @pytest.mark.parametrize(
        ("roots", "gradients", "error"),
        [
            (lambda y: [y.sum(), fg.ones(2)], None, RuntimeError),
            (lambda y: [y.sum(), 3.0], None, TypeError),
            (lambda y: [y.sum(), y], None, RuntimeError),
            (lambda y: [y.sum(), y], lambda: [None, fg.ones(5, dtype=fg.float64)], RuntimeError),
            (lambda y: [y.sum(), y], lambda: [None, 2.0], TypeError),
        ],
    )
    def test_by_the_second_root(self, roots: Callable[..., Any], gradients: Any, error: type[Exception]) -> None:
        x = leaf(2.0, 3.0)
        y = x * x
        for _ in range(3):
            with pytest.raises(error):
                backward(roots(y), gradients and gradients())
        backward(y.sum())
        assert x.grad.tolist() == [4.0, 6.0]

    def test_by_a_hook_in_the_middle(self) -> None:
        """What had arrived by then is forgotten: the next walk starts from zero."""
        x = leaf(2.0)
        y = x * x
        z = y * y + y
        handle = y.register_hook(lambda g: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            z.sum().backward(retain_graph=True)
        assert fg.is_grad_enabled() and x.grad is None
        handle.remove()
        z.sum().backward()
        assert x.grad.tolist() == [4 * 8.0 + 4.0]

    def test_by_an_in_place_op_on_a_view(self) -> None:
        broken = [True]

        class Refuses(Double):
            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                if broken:
                    raise ValueError("no thanks")
                return dy * 2

        x = leaf(1.0, 2.0, 3.0)
        y = x * 1
        Refuses.apply(y[:2])
        with pytest.raises(ValueError, match="no thanks"):
            y.sum().backward(retain_graph=True)
        broken.clear()
        y.sum().backward()
        assert x.grad.tolist() == [2.0, 2.0, 1.0]

    @pytest.mark.parametrize(
        "call",
        [
            lambda x: grad([3], x),
            lambda x: grad((x * 2).sum(), [x, 3]),
            lambda x: backward((x * 2).sum(), inputs=[3]),
            lambda x: (x * 2).sum().backward(inputs=[None]),
            lambda x: backward([None]),
        ],
    )
    def test_by_what_is_no_tensor(self, call: Callable[[Any], Any]) -> None:
        x = leaf(1.0)
        with pytest.raises(TypeError, match="must be Tensors; got"):
            call(x)
        assert x.grad is None


class TestEnteredAgain:
    def test_from_a_hook_in_the_same_graph(self) -> None:
        """The inner walk takes over nodes on which the outer one's gradients wait, and gives them back."""
        x, inner = leaf(2.0), []
        y = x * x
        z = (y * y + x * 3).sum()

        def hook(g: Any) -> None:
            if not inner:
                inner.append(None)
                inner[0] = grad(z, x, retain_graph=True)[0].tolist()

        y.register_hook(hook)
        z.backward(retain_graph=True)
        assert inner == [[4 * 8.0 + 3.0]] and x.grad.tolist() == inner[0]

    def test_from_a_hook_whose_inner_walk_fails(self) -> None:
        x, failures = leaf(2.0), []
        y = x * x
        z = (y * y).sum()

        def hook(g: Any) -> None:
            if not failures:
                failures.append(None)
                with pytest.raises(RuntimeError, match="not have been used"):
                    grad(z, leaf(1.0), retain_graph=True)
                other = leaf(1.0)
                other.register_hook(lambda g: 1 / 0)
                with pytest.raises(ZeroDivisionError), fg.enable_grad():
                    (z * other).sum().backward(retain_graph=True)

        y.register_hook(hook)
        z.backward(retain_graph=True)
        assert failures and x.grad.tolist() == [2 * 32.0]  # the inner walk had reached x

    def test_from_a_functions_own_backward(self) -> None:
        inner: list[Any] = []

        class Product(Function):
            @staticmethod
            def forward(ctx: Any, a: Any, b: Any) -> Any:
                ctx.save_for_backward(a, b)
                return a * b

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                a, b = ctx.saved_tensors
                if not inner:
                    inner.append(None)
                    inner[0] = grad(z, x, retain_graph=True)[0].tolist()
                return dy * b, dy * a

        x, y = leaf(2.0), leaf(5.0)
        z = (Product.apply(x, y) * 3).sum()
        z.backward(retain_graph=True)
        assert inner == [[15.0]] and x.grad.tolist() == [15.0] and y.grad.tolist() == [6.0]

    def test_from_a_leafs_hook(self) -> None:
        x, calls = leaf(2.0), []
        z = (x * x).sum()

        def hook(g: Any) -> None:
            calls.append(g.tolist())
            if len(calls) == 1:
                z.backward(retain_graph=True)

        x.register_hook(hook)
        z.backward(retain_graph=True)
        assert calls == [[4.0], [4.0]] and x.grad.tolist() == [8.0]


class TestThreads:
    def test_the_same_graph_in_two_threads(self) -> None:
        """While a hook of one walk waits, another thread is refused, and neither walk is spoiled."""
        x, errors = leaf(2.0), []
        y = x * x
        z = (y * y).sum()

        def other() -> None:
            try:
                grad(z, x, retain_graph=True)
            except RuntimeError as error:
                errors.append(str(error))

        def hook(g: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                thread = threading.Thread(target=other)
                thread.start()
                thread.join()

        y.register_hook(hook)
        z.backward(retain_graph=True)
        assert len(errors) == 1 and "two threads" in errors[0]
        assert x.grad.tolist() == [32.0]
        z.backward()
        assert x.grad.tolist() == [64.0]

    def test_one_leaf_in_graphs_of_several_threads(self) -> None:
        """Large enough for the kernels to let other threads run while they add to `.grad`."""
        x = fg.zeros(1 << 18, requires_grad=True)
        x.grad = fg.zeros(1 << 18)

        def add() -> None:
            for _ in range(50):
                (x * 1).backward(fg.ones(1 << 18))

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert x.grad.min().item() == x.grad.max().item() == 200.0


class TestGradients:
    def test_the_cotangent_is_not_adopted_under_create_graph(self) -> None:
        x, w = leaf(2.0, 3.0), fg.ones(2, dtype=fg.float64)
        (x + 0).backward(w, create_graph=True)
        (x + 0).backward(w)
        assert w.tolist() == [1.0, 1.0] and x.grad.tolist() == [2.0, 2.0]

    def test_a_kept_gradient_is_not_shared_with_a_leaf(self) -> None:
        x = leaf(2.0)
        y = x + 0
        y.retain_grad()
        y.backward(fg.ones(1, dtype=fg.float64), create_graph=True)
        (x * 1).sum().backward()
        assert y.grad.tolist() == [1.0] and x.grad.tolist() == [2.0]

    def test_a_root_that_is_a_leaf_gets_no_graph(self) -> None:
        x = leaf(1.0)
        x.backward(leaf(3.0))
        assert x.grad.tolist() == [3.0] and not x.grad.requires_grad

    def test_a_gradient_of_another_shape_set_by_hand_is_not_overrun(self) -> None:
        x = leaf(1.0, 2.0, 3.0, 4.0)
        part = x[1:4]
        x.data = fg.zeros(2, dtype=fg.float64)
        x.grad = fg.zeros(2, dtype=fg.float64)
        with pytest.raises(RuntimeError):
            part.sum().backward()
        assert x.grad.tolist() == [0.0, 0.0]

    def test_a_grad_of_another_shape_is_refused(self) -> None:
        x = leaf(1.0, 2.0, 3.0, 4.0)
        x.grad = fg.zeros(4, dtype=fg.float64)
        x.data = fg.zeros(2, dtype=fg.float64)
        with pytest.raises(RuntimeError, match="grad of its own shape"):
            (x * 2).sum().backward()

    def test_a_fresh_gradient_is_not_copied(self) -> None:
        x, launched = leaf(1.0, 2.0), []
        y = (x * leaf(3.0, 4.0).detach()).sum()
        with fg.observe(lambda name, shapes: launched.append(name)):
            y.backward()
        assert launched == ["mul"] and x.grad.tolist() == [3.0, 4.0]

    def test_hooks_after_accumulation_run_for_inputs(self) -> None:
        x, y, calls = leaf(3.0), leaf(1.0), []
        x.register_post_accumulate_grad_hook(lambda t: calls.append(t.grad.tolist()))
        z = x * y
        (z * 2).sum().backward(inputs=[x, z])
        assert calls == [[2.0]] and z.grad.tolist() == [2.0] and y.grad is None

    def test_kept_gradients_follow_the_value(self) -> None:
        """torch: after an in-place write `.grad` is the gradient of what the tensor holds since."""
        x = leaf(1.0, 2.0, 3.0)
        whole = x * 2
        part = whole[:2]
        whole.retain_grad()
        part.retain_grad()
        part.mul_(3)
        (whole * 5).sum().backward(retain_graph=True)
        assert whole.grad.tolist() == [5.0, 5.0, 5.0]
        (part * 5).sum().backward()
        assert part.grad.tolist() == [5.0, 5.0]


class TestInPlace:
    def test_a_function_writes_to_a_view(self) -> None:
        x = leaf(1.0, 2.0, 3.0)
        y = x * 1
        Double.apply(y[:2])
        assert y.tolist() == [2.0, 4.0, 3.0]
        (y * fg.tensor([1.0, 10.0, 100.0], dtype=fg.float64)).sum().backward()
        assert x.grad.tolist() == [2.0, 20.0, 100.0]

    def test_a_freed_write_to_a_view(self) -> None:
        x, w = leaf(1.0, 2.0), leaf(3.0)
        y = x * 1
        y[:1].mul_(w)
        y.sum().backward()
        with pytest.raises(RuntimeError, match="second time"):
            y.sum().backward()

    def test_a_part_of_a_constant_may_be_written(self) -> None:
        first, second = fg.zeros(4).split(2)
        first.add_(1)
        w = leaf(2.0, 3.0)
        second += w.float()
        (first.sum() + second.sum()).backward()
        assert first.tolist() == [1.0, 1.0] and second.tolist() == [2.0, 3.0] and w.grad.tolist() == [1.0, 1.0]

    def test_a_view_that_is_a_leaf(self) -> None:
        part = fg.zeros(3)[:2].requires_grad_()
        with pytest.raises(RuntimeError, match="view of a leaf Variable that requires grad"):
            part.mul_(2)


class TestLifetime:
    def test_a_long_chain_of_functions_is_freed(self) -> None:
        class Same(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 1.0

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return dy

        y = leaf(1.0)
        for _ in range(200_000):
            y = Same.apply(y)
        assert y.tolist() == [1.0]
        del y

    def test_a_handle_outlives_its_tensor(self) -> None:
        x = leaf(1.0)
        handle = x.register_hook(lambda g: g)
        assert isinstance(handle, RemovableHandle)
        del x
        handle.remove()

    def test_inference_mode_off_records(self) -> None:
        @fg.inference_mode(False)
        def enabled() -> bool:
            return fg.is_grad_enabled()

        with fg.no_grad():
            with fg.inference_mode(False):
                assert fg.is_grad_enabled()
            assert enabled() and not fg.is_grad_enabled()
