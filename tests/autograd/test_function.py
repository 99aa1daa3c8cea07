"""User Functions in both styles: what the context carries, what comes back, and every error's text."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import fastgrad as fg
from fastgrad.autograd import Function, Variable, grad, gradcheck, gradgradcheck
from fastgrad.autograd.function import once_differentiable


def leaf(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True)


class Square(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad_output: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad_output * 2 * x


class SquareInstance(Function):
    def forward(self, input: Any) -> Any:
        self.save_for_backward(input)
        return input * input

    def backward(self, grad_output: Any) -> Any:
        (input,) = self.saved_tensors
        return grad_output * 2 * input


STYLES = [Square.apply, lambda x: SquareInstance()(x)]


@pytest.mark.parametrize("square", STYLES, ids=["static", "instance"])
class TestBothStyles:
    def test_value_and_gradients_of_every_order(self, square: Any) -> None:
        x = leaf(2.0, -3.0)
        y = square(x)
        assert y.tolist() == [4.0, 9.0] and y.requires_grad and not y.is_leaf
        (first,) = grad(y.sum(), x, create_graph=True)
        (second,) = grad((first * first).sum(), x)
        assert first.tolist() == [4.0, -6.0] and second.tolist() == [16.0, -24.0]
        assert gradcheck(square, (x,)) and gradgradcheck(square, (x,))

    def test_forward_runs_without_recording(self, square: Any) -> None:
        y = square(leaf(2.0))
        assert "Square" in type(y.grad_fn).__name__ or "Square" in y.grad_fn.name()

    def test_without_gradient(self, square: Any) -> None:
        assert not square(fg.ones(2)).requires_grad
        with fg.no_grad():
            assert not square(leaf(1.0)).requires_grad

    def test_second_backward_needs_retain_graph(self, square: Any) -> None:
        x = leaf(3.0)
        y = square(x).sum()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [12.0]
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()

    def test_saved_tensor_changed_in_place(self, square: Any) -> None:
        x = leaf(3.0) * 1.0
        y = square(x)
        x.detach().add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_an_exception_in_forward_passes_through(self, square: Any) -> None:
        with pytest.raises(TypeError):
            square(leaf(1.0), 2, 3, 4)

    def test_it_leaves_no_cycle(self, square: Any) -> None:
        gc.disable()
        try:
            x = leaf(1.0)
            y = square(x)
            (y * y).sum().backward()
            reference = weakref.ref(y)
            del y
            assert reference() is None
        finally:
            gc.enable()


class TestStatic:
    def test_needs_input_grad_and_none(self) -> None:
        asked: list[tuple[bool, ...]] = []

        class Product(Function):
            @staticmethod
            def forward(ctx: Any, a: Any, b: Any, c: float) -> Any:
                ctx.save_for_backward(a, b)
                ctx.c = c
                return a * b * c

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                a, b = ctx.saved_tensors
                asked.append(tuple(ctx.needs_input_grad))
                da = dy * b * ctx.c if ctx.needs_input_grad[0] else None
                db = dy * a * ctx.c if ctx.needs_input_grad[1] else None
                return da, db, None

        a, b = leaf(2.0), leaf(5.0)
        Product.apply(a, b.detach(), 3.0).sum().backward()
        Product.apply(a.detach(), b, 3.0).sum().backward()
        assert asked == [(True, False, False), (False, True, False)]
        assert a.grad.tolist() == [15.0] and b.grad.tolist() == [6.0]

    def test_setup_context(self) -> None:
        class Scaled(Function):
            @staticmethod
            def forward(x: Any, factor: float) -> Any:
                return x.sin() * factor

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                x, ctx.factor = inputs
                ctx.save_for_backward(x)
                assert tuple(output.shape) == tuple(x.shape)

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                (x,) = ctx.saved_tensors
                return dy * x.cos() * ctx.factor, None

        x = leaf(0.3, -2.0)
        assert gradcheck(lambda v: Scaled.apply(v, 2.5), (x,)) and gradgradcheck(lambda v: Scaled.apply(v, 2.5), (x,))

    def test_several_outputs(self) -> None:
        given: list[Any] = []

        class SumAndDifference(Function):
            @staticmethod
            def forward(ctx: Any, a: Any, b: Any) -> Any:
                return a + b, a - b

            @staticmethod
            def backward(ctx: Any, ds: Any, dd: Any) -> Any:
                given.append((ds.tolist(), dd.tolist()))
                return ds + dd, ds - dd

        a, b = leaf(1.0), leaf(2.0)
        s, d = SumAndDifference.apply(a, b)
        assert s.tolist() == [3.0] and d.tolist() == [-1.0]
        (s * 2 + d * 5).sum().backward()
        assert a.grad.tolist() == [7.0] and b.grad.tolist() == [-3.0]
        SumAndDifference.apply(a, b)[1].sum().backward()
        assert given == [([2.0], [5.0]), ([0.0], [1.0])], "the gradient of an output that was not used is zeros"

    def test_set_materialize_grads(self) -> None:
        given: list[Any] = []

        class Two(Function):
            @staticmethod
            def forward(ctx: Any, a: Any) -> Any:
                ctx.set_materialize_grads(False)
                return a * 2, a * 3

            @staticmethod
            def backward(ctx: Any, d2: Any, d3: Any) -> Any:
                given.append((d2, d3 is None))
                return None if d2 is None else d2 * 2

        a = leaf(1.0)
        Two.apply(a)[0].sum().backward()
        assert given[0][1] and a.grad.tolist() == [2.0]

    def test_mark_non_differentiable(self) -> None:
        class SortedWithOrder(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                largest, index = x.max(0)
                rounded = largest.round()
                ctx.mark_non_differentiable(index, rounded)
                ctx.save_for_backward(x, index)
                return largest, index, rounded

            @staticmethod
            def backward(ctx: Any, dlargest: Any, dindex: Any, drounded: Any) -> Any:
                x, index = ctx.saved_tensors
                dx = fg.zeros_like(x)
                dx[index] = dlargest
                return dx

        x = leaf(1.0, 4.2, 2.0)
        largest, index, rounded = SortedWithOrder.apply(x)
        assert largest.requires_grad and not index.requires_grad and not rounded.requires_grad
        largest.backward()
        assert x.grad.tolist() == [0.0, 1.0, 0.0]

    def test_mark_dirty(self) -> None:
        class DoubleInPlace(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                x.mul_(2)
                ctx.mark_dirty(x)
                return x

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return dy * 2

        x = leaf(1.0, 2.0)
        y = x * 1
        z = DoubleInPlace.apply(y)
        assert z is y and y.tolist() == [2.0, 4.0]
        (y * y).sum().backward()
        assert x.grad.tolist() == [8.0, 16.0]
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            DoubleInPlace.apply(x)

    def test_once_differentiable(self) -> None:
        class Cube(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return x * x * x

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, dy: Any) -> Any:
                (x,) = ctx.saved_tensors
                assert not fg.is_grad_enabled()
                return dy * 3 * x * x

        x = leaf(2.0)
        (first,) = grad((Cube.apply(x) * x).sum(), x, create_graph=True)
        assert first.tolist() == [32.0]
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()

    def test_arguments_that_are_not_tensors(self) -> None:
        class Odd(Function):
            @staticmethod
            def forward(ctx: Any, label: str, x: Any, options: dict[str, int], nothing: None) -> Any:
                ctx.factor = options[label]
                return x * ctx.factor

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return None, dy * ctx.factor, None, None

        x = leaf(1.0)
        Odd.apply("k", x, {"k": 7}, None).sum().backward()
        assert x.grad.tolist() == [7.0]

    def test_none_is_zero(self) -> None:
        class Stop(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return None

        x = leaf(1.0)
        (Stop.apply(x) + x).sum().backward()
        assert x.grad.tolist() == [1.0]

    def test_returning_an_input(self) -> None:
        class Identity(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return dy * 10

        x = leaf(1.0)
        y = Identity.apply(x)
        assert y is not x
        y.sum().backward()
        assert x.grad.tolist() == [10.0]

    def test_saving_an_output(self) -> None:
        class Exp(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                (y,) = ctx.saved_tensors
                return dy * y

        x = leaf(0.5, -1.0)
        assert gradcheck(Exp.apply, (x,)) and gradgradcheck(Exp.apply, (x,))
        y = Exp.apply(x)
        reference = weakref.ref(y)
        del y
        assert reference() is None

    def test_saving_none(self) -> None:
        class Affine(Function):
            @staticmethod
            def forward(ctx: Any, x: Any, bias: Any = None) -> Any:
                ctx.save_for_backward(x, bias)
                return x * 2 if bias is None else x * 2 + bias

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                _, bias = ctx.saved_tensors
                return dy * 2, None if bias is None else dy

        x, b = leaf(1.0), leaf(3.0)
        Affine.apply(x, None).sum().backward()
        Affine.apply(x, b).sum().backward()
        assert x.grad.tolist() == [4.0] and b.grad.tolist() == [1.0]

    def test_a_function_within_a_function(self) -> None:
        class Fourth(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return Square.apply(Square.apply(x))

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                (x,) = ctx.saved_tensors
                with fg.enable_grad():
                    v = x.detach().requires_grad_()
                    (dx,) = grad(Square.apply(Square.apply(v)).sum(), v)
                return dy * dx

        x = leaf(2.0)
        Fourth.apply(x).sum().backward()
        assert x.grad.tolist() == [32.0]

    def test_apply_takes_no_instance(self) -> None:
        with pytest.raises((TypeError, RuntimeError, AttributeError)):
            Function.apply(leaf(1.0))


def returning(result: Any, outputs: int = 1) -> Any:
    class Planted(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2 if outputs == 1 else (x * 2, x * 3)

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            return result(*dy)

    return Planted.apply


class TestErrorsNameTheFunction:
    @pytest.mark.parametrize(
        ("result", "error", "text"),
        [
            (lambda dy: (dy, dy), RuntimeError, r"Planted.* gradient.*1.*got 2"),
            (lambda dy: (), RuntimeError, r"Planted.* gradient.*1.*got 0"),
            (lambda dy: fg.ones(3, dtype=fg.float64), RuntimeError, r"Planted.* invalid gradient.*(3.*2|2.*3)"),
            (lambda dy: 3.0, (RuntimeError, TypeError), r"Planted"),
            (lambda dy: "no", (RuntimeError, TypeError), r"Planted"),
        ],
    )
    def test_backward(self, result: Any, error: type[Exception], text: str) -> None:
        x = leaf(1.0, 2.0)
        with pytest.raises(error, match=text):
            returning(result)(x).sum().backward()
        assert x.grad is None

    @pytest.mark.parametrize("result", [3.0, "no", [1.0], {"a": 1}])
    def test_forward_result(self, result: Any) -> None:
        class Planted(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return result

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return dy

        with pytest.raises(TypeError, match="Planted"):
            Planted.apply(leaf(1.0))

    def test_save_for_backward_takes_tensors(self) -> None:
        class Planted(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(3)
                return x * 2

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                return dy

        with pytest.raises(TypeError, match="save_for_backward"):
            Planted.apply(leaf(1.0))

    def test_missing_backward(self) -> None:
        class Planted(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

        with pytest.raises((RuntimeError, NotImplementedError, AttributeError), match="backward"):
            Planted.apply(leaf(1.0)).sum().backward()

    def test_a_gradient_that_broadcasts_to_the_input_is_reduced(self) -> None:
        x = leaf(1.0, 2.0)
        returning(lambda dy: dy.expand(3, 2))(x).sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]


class LinearInstance(Function):
    """The tutorial's Linear: bias optional, nothing computed that is not asked for."""

    def forward(self, input: Any, weight: Any, bias: Any = None) -> Any:
        self.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        return output if bias is None else output + bias.unsqueeze(0).expand_as(output)

    def backward(self, grad_output: Any) -> Any:
        input, weight, bias = self.saved_tensors
        dx = grad_output.mm(weight) if self.needs_input_grad[0] else None
        dw = grad_output.t().mm(input) if self.needs_input_grad[1] else None
        if bias is None:
            return dx, dw
        return dx, dw, grad_output.sum(0) if self.needs_input_grad[2] else None


class TestInstance:
    def test_linear_with_and_without_bias(self) -> None:
        x, w, b = (fg.randn(*s, dtype=fg.float64).requires_grad_() for s in ((4, 3), (2, 3), (2,)))
        for arguments in ((x, w, b), (x, w)):
            assert gradcheck(lambda *a: LinearInstance()(*a), arguments)
            assert gradgradcheck(lambda *a: LinearInstance()(*a), arguments)
        y = LinearInstance()(x, w.detach(), b)
        y.sum().backward()
        assert w.grad is None and b.grad.tolist() == [4.0, 4.0]

    def test_settings_live_on_the_object(self) -> None:
        class Scale(Function):
            def __init__(self, factor: float) -> None:
                super().__init__()
                self.factor = factor

            def forward(self, x: Any) -> Any:
                return x * self.factor

            def backward(self, dy: Any) -> Any:
                return dy * self.factor

        x = leaf(1.0)
        Scale(3.0)(x).sum().backward()
        assert x.grad.tolist() == [3.0]

    def test_an_object_serves_one_call(self) -> None:
        f = SquareInstance()
        x = leaf(2.0)
        y = f(x)
        with pytest.raises(RuntimeError, match=r"SquareInstance.*new"):
            f(x)
        y.sum().backward()
        assert x.grad.tolist() == [4.0]

    def test_several_outputs(self) -> None:
        class Halves(Function):
            def forward(self, x: Any) -> Any:
                return x * 0.25, x * 0.75

            def backward(self, da: Any, db: Any) -> Any:
                return da * 0.25 + db * 0.75

        x = leaf(4.0)
        a, b = Halves()(x)
        (a + 2 * b).sum().backward()
        assert x.grad.tolist() == [1.75]

    def test_wrong_number_of_gradients(self) -> None:
        class Planted(Function):
            def forward(self, x: Any, y: Any) -> Any:
                return x + y

            def backward(self, dy: Any) -> Any:
                return dy

        with pytest.raises(RuntimeError, match=r"Planted.*2.*got 1"):
            Planted()(leaf(1.0), leaf(2.0)).sum().backward()


class TestVariable:
    def test_makes_a_leaf(self) -> None:
        v = Variable(fg.tensor([1.0, 2.0]), requires_grad=True)
        assert v.requires_grad and v.is_leaf and isinstance(v, fg.Tensor)
        (v * v).sum().backward()
        assert v.grad.tolist() == [2.0, 4.0]

    def test_shares_memory_and_defaults_to_no_gradient(self) -> None:
        t = fg.tensor([1.0])
        v = Variable(t)
        t[0] = 9.0
        assert v.tolist() == [9.0] and not v.requires_grad
