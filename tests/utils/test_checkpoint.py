"""checkpoint: the derivatives and random numbers of a plain call, less memory, and what the function may not do."""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case
from hypothesis import given
from hypothesis import strategies as st
from numeric import cotangents_for, gradients, hessian_product

import fastgrad as fg
from fastgrad import nn
from fastgrad.autograd import Function, grad, gradcheck, gradgradcheck
from fastgrad.autograd.graph import save_on_cpu, saved_tensors_hooks
from fastgrad.utils.checkpoint import (
    CheckpointError,
    checkpoint,
    checkpoint_sequential,
    noop_context_fn,
    set_checkpoint_debug_enabled,
    set_checkpoint_early_stop,
)


def leaf(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True)


def non_reentrant(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False, **options)


def plain(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args)


WAYS = pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])


@pytest.mark.parametrize("case", [case for case in CASES if case.derivatives], ids=repr)
@given(data=st.data())
def test_derivatives_are_those_of_a_plain_call(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    positions = sorted(data.draw(st.sets(st.sampled_from(case.floats(sample)), min_size=1)))
    arrays, random = sample.placed(), np.random.default_rng(1)

    def f(*tensors: Any) -> Any:
        return case.function(fg, *tensors, **sample.options)

    w = cotangents_for(f, arrays, positions, random)
    u = [np.asarray(random.normal(size=arrays[k].shape)) for k in positions]
    for derivative in (
        lambda f: gradients(f, arrays, positions, w),
        lambda f: hessian_product(f, arrays, positions, w, u),
    ):
        for ours, expected in zip(derivative(lambda *t: non_reentrant(f, *t)), derivative(f), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-13, atol=1e-13)


class Counter:
    """A chain of ops that notes how often it was started and how often it ran to its end."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    def __call__(self, x: Any) -> Any:
        self.started += 1
        x = (x * 1.5).tanh().exp()
        x = x + 1  # saves nothing
        self.ended += 1
        return x


class TestWhenTheFunctionRuns:
    def test_once_forward_and_once_backward_until_all_is_there(self) -> None:
        f, x = Counter(), leaf(0.3)
        y = non_reentrant(f, x)
        assert (f.started, f.ended) == (1, 1)
        y.backward()
        assert (f.started, f.ended) == (2, 1)
        with pytest.raises(RuntimeError, match="a second time"):
            y.backward()

    @pytest.mark.parametrize("stop", [{"early_stop": False}, {}])
    def test_without_the_early_stop_to_the_end(self, stop: dict[str, Any]) -> None:
        f, x = Counter(), leaf(0.3)
        with contextlib.nullcontext() if stop else set_checkpoint_early_stop(False):
            y = non_reentrant(f, x, **stop)
        y.backward()
        assert (f.started, f.ended) == (2, 2)
        with set_checkpoint_early_stop(True):
            y = non_reentrant(f, x, early_stop=False)
        y.backward()
        assert (f.started, f.ended) == (4, 3)

    def test_again_for_every_walk_of_a_graph_that_is_kept(self) -> None:
        f, x = Counter(), leaf(0.3)
        y = non_reentrant(f, x)
        for count in (2, 3, 4):
            assert grad(y, x, retain_graph=True)[0].tolist() == grad(Counter()(x), x)[0].tolist()
            assert f.started == count

    def test_never_where_nothing_is_saved_or_recorded(self) -> None:
        f = Counter()
        non_reentrant(lambda x: x + 1, x := leaf(0.3)).backward()
        with fg.no_grad():
            assert not non_reentrant(f, x).requires_grad
        assert not non_reentrant(f, x.detach()).requires_grad
        assert (f.started, f.ended) == (2, 2)

    def test_a_function_that_catches_exceptions_is_stopped_all_the_same(self) -> None:
        def careful(x: Any) -> Any:
            try:
                return x.exp()
            except Exception:
                return pytest.fail("the stop was caught")

        non_reentrant(careful, x := leaf(0.0)).backward()
        assert x.grad.tolist() == [1.0]

    def test_an_error_of_the_second_run_arrives(self) -> None:
        runs: list[int] = []

        def f(x: Any) -> Any:
            runs.append(1)
            if len(runs) == 2:
                raise KeyError("gone")
            return x.exp()

        y = non_reentrant(f, x := leaf(1.0))
        with pytest.raises(KeyError, match="gone"):
            y.backward()
        assert x.grad is None and fg.is_grad_enabled()
        y = non_reentrant(fg.exp, x)
        y.backward()
        assert x.grad.tolist() == y.tolist()

    def test_a_function_of_ones_own_that_reads_twice_what_it_saved(self) -> None:
        class Twice(Function):
            def forward(self, x: Any) -> Any:
                self.save_for_backward(x)
                return x * x

            def backward(self, d: Any) -> Any:
                return d * (self.saved_tensors[0] + self.saved_tensors[0])

        runs: list[int] = []

        def f(x: Any) -> Any:
            runs.append(1)
            return Twice()(Twice()(x))

        for retain in (False, True):
            x = leaf(3.0)
            runs.clear()
            non_reentrant(f, x).backward(retain_graph=retain)
            assert x.grad.tolist() == [4 * 27.0] and len(runs) == 2

    def test_in_another_thread(self) -> None:
        x = leaf(0.3)
        y = non_reentrant(Counter(), x)
        thread = threading.Thread(target=y.backward)
        thread.start()
        thread.join()
        assert x.grad.tolist() == grad(Counter()(x), x)[0].tolist()


class TestArguments:
    def test_keywords_nested_structures_closures_and_inputs_without_gradient(self) -> None:
        a, b, c, w = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0), leaf(0.1, 0.2)
        constant = fg.tensor([2.0, 3.0], dtype=fg.float64)

        def f(data: Any, n: int, k: Any, *, scale: Any, text: str = "") -> Any:
            assert n == 3 and text == "t"
            return {"y": [(data["a"] * data["more"][0]).exp() * w * k, scale * scale]}

        def run(call: Any) -> Any:
            y = call({"a": a, "more": (b,)}, 3, constant, scale=c, text="t")["y"]
            loss = (y[0] * y[0]).sum() + y[1].sum()
            first = grad(loss, (a, b, c, w), create_graph=True)
            second = grad(sum((g * g).sum() for g in first), (a, b, c, w))
            return [t.tolist() for t in (*first, *second)]

        assert run(lambda *args, **kw: non_reentrant(f, *args, **kw)) == run(f)

    def test_only_some_inputs_are_asked_for(self) -> None:
        x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
        z = non_reentrant(lambda x, y: (x * y).exp() * y, x, y).sum()
        (dx,) = grad(z, x, retain_graph=True)
        z.backward(inputs=[y])
        assert x.grad is None
        z = ((x * y).exp() * y).sum()
        assert dx.tolist() == grad(z, x, retain_graph=True)[0].tolist()
        assert y.grad.tolist() == grad(z, y)[0].tolist()

    def test_outputs_that_are_unused_or_need_no_gradient(self) -> None:
        x = leaf(1.0, 2.0)

        def f(x: Any) -> Any:
            return x.exp(), x.tanh(), x.detach() * 2, (x > 1), None

        _, second, third, fourth, nothing = non_reentrant(f, x)
        assert nothing is None and not third.requires_grad and fourth.tolist() == [False, True]
        second.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh([1.0, 2.0]) ** 2)

    def test_an_argument_that_was_written_to_is_found(self) -> None:
        x = leaf(1.0, 2.0)
        y = x * 1
        z = non_reentrant(lambda t: t.exp(), y)
        y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()

    def test_gradcheck(self) -> None:
        x, w = leaf(0.3, -0.4, 0.5), leaf(1.0, 2.0, -1.0)
        assert gradcheck(lambda *t: non_reentrant(lambda x, w: (x * w).tanh() * x, *t), (x, w))
        assert gradgradcheck(lambda *t: non_reentrant(lambda x, w: (x * w).tanh() * x, *t), (x, w))

    def test_a_gradient_inside_the_function(self) -> None:
        def f(x: Any) -> Any:
            (d,) = grad((x * x * x).sum(), x, create_graph=True)
            return d * x.exp()

        x = leaf(0.5, 1.5)
        for early_stop in (True, False):
            first = [grad(run(f, x * 1).sum(), x)[0].tolist() for run in (plain, non_reentrant)]
            assert first[0] == first[1]
            first = [grad(run(f, x, early_stop=early_stop).sum(), x)[0].tolist() for run in (plain, non_reentrant)]
            assert first[0] == first[1]

    @pytest.mark.parametrize("early_stop", [True, False])
    def test_a_backward_inside_the_function(self, early_stop: bool) -> None:
        def f(x: Any) -> Any:
            y = x.detach().requires_grad_()
            (y.exp() * y).sum().backward()
            return x.exp() * y.grad

        x = leaf(0.5, 1.5)
        found = [grad(run(f, x, early_stop=early_stop).sum(), x)[0].tolist() for run in (plain, non_reentrant)]
        assert found[0] == found[1]


class TestRandomNumbers:
    @WAYS
    def test_dropout_has_the_same_mask(self, reentrant: bool) -> None:
        x = fg.ones(1000, requires_grad=True)

        def f(x: Any) -> Any:
            return nn.functional.dropout(x.exp(), 0.5)

        fg.manual_seed(3)
        y = checkpoint(f, x, use_reentrant=reentrant)
        drawn = fg.rand(1).item()
        y.sum().backward()
        after = fg.rand(1).item()
        assert x.grad.tolist() == y.tolist()
        fg.manual_seed(3)
        assert f(x).tolist() == y.tolist() and fg.rand(1).item() == drawn and fg.rand(1).item() == after

    @WAYS
    def test_not_where_that_is_unwanted(self, reentrant: bool) -> None:
        x = fg.ones(1000, requires_grad=True)
        y = checkpoint(
            lambda x: nn.functional.dropout(x.exp(), 0.5), x, use_reentrant=reentrant, preserve_rng_state=False
        )
        y.sum().backward()
        assert x.grad.tolist() != y.tolist()

    def test_the_state_is_restored_after_an_error(self) -> None:
        runs: list[int] = []

        def f(x: Any) -> Any:
            runs.append(1)
            fg.rand(7)
            if len(runs) == 2:
                raise KeyError
            return x.exp()

        y = non_reentrant(f, leaf(1.0))
        state = fg.get_rng_state()
        with pytest.raises(KeyError):
            y.backward()
        assert fg.equal(state, fg.get_rng_state())


class TestTheRunsMustAgree:
    @pytest.mark.parametrize(
        ("again", "text"),
        [
            (lambda x: (x * 2).exp().tanh().exp(), None),  # stopped after the last tensor
            (lambda x: x * 2, r"as many tensors when it is run again as it did at first; got 0, at first 2"),
            (lambda x: x[:1].exp().tanh(), r"got \(\(1,\), .*float64.*\) for tensor 0, at first \(\(2,\), .*float64"),
            (lambda x: x.float().exp().tanh(), r"float32.*for tensor 0, at first .*float64"),
        ],
    )
    def test_number_shape_and_dtype(self, again: Any, text: str | None) -> None:
        x, runs = leaf(1.0, 2.0), iter([lambda x: x.exp().tanh(), again, again])
        y = non_reentrant(lambda x: next(runs)(x), x)
        with contextlib.nullcontext() if text is None else pytest.raises(CheckpointError, match=text):
            y.sum().backward()
        assert (x.grad is None) == (text is not None)

    def test_more_tensors_are_found_without_the_early_stop(self) -> None:
        runs = iter([lambda x: x.exp(), lambda x: x.exp().tanh()])
        y = non_reentrant(lambda x: next(runs)(x), leaf(1.0), early_stop=False)
        with pytest.raises(CheckpointError, match="got 2, at first 1"):
            y.backward()

    def test_the_check_can_be_left_out(self) -> None:
        """What cannot work is still refused, by the graph."""
        runs = iter([lambda x: x.exp(), lambda x: x.float().exp()])
        y = non_reentrant(lambda x: next(runs)(x), leaf(1.0), determinism_check="none")
        with pytest.raises(RuntimeError, match="an unpack hook must return a tensor of the shape and dtype") as error:
            y.backward()
        assert not isinstance(error.value, CheckpointError)

    def test_other_integers_do_not_reach_the_kernels(self) -> None:
        index = iter([fg.tensor([1]), fg.tensor([1 << 40])])

        def f(x: Any) -> Any:
            return nn.functional.cross_entropy(x, next(index), ignore_index=1 << 40)

        y = non_reentrant(f, fg.zeros(1, 3, requires_grad=True))
        with pytest.raises(RuntimeError, match="integers must be unpacked as they were packed"):
            y.backward()

    @pytest.mark.parametrize("globally", [False, True])
    def test_debug_shows_where(self, globally: bool) -> None:
        def saves_at_first(x: Any) -> Any:
            return x.exp().tanh()

        def saves_again(x: Any) -> Any:
            return x.exp()

        runs = iter([saves_at_first, saves_again] * 2)
        y = non_reentrant(lambda x: next(runs)(x), leaf(1.0))
        with pytest.raises(CheckpointError, match=r"debug=True shows where$"):
            y.backward()
        with set_checkpoint_debug_enabled(True if globally else None):
            y = non_reentrant(lambda x: next(runs)(x), leaf(1.0), debug=not globally)
        with pytest.raises(CheckpointError) as error:
            y.backward()
        text = str(error.value)
        assert "return x.exp().tanh()" in text and "and when run again here:\nnowhere" in text


class TestNested:
    def test_derivatives(self) -> None:
        def inner(x: Any) -> Any:
            return (x * x).tanh()

        def middle(run: Any) -> Any:
            return lambda x: run(inner, run(inner, x) + 1).exp()

        def outer(run: Any) -> Any:
            return lambda x: run(middle(run), run(middle(run), x)) * x

        found = []
        for run in (plain, non_reentrant):
            x = leaf(0.2, 0.4)
            (first,) = grad(run(outer(run), x).sum(), x, create_graph=True)
            found.append([*first.tolist(), *grad((first * first).sum(), x)[0].tolist()])
        assert found[0] == found[1]

    def test_inner_inputs_are_not_kept_by_the_outer(self) -> None:
        """A checkpoint in a checkpoint needs no more than a level's inputs at a time."""
        x = fg.full((10_000,), 0.5, requires_grad=True)
        size = x.nbytes

        def chain(x: Any) -> Any:
            for _ in range(8):
                x = x.tanh()
            return x

        def chains(x: Any) -> Any:
            for _ in range(8):
                x = non_reentrant(chain, x)
            return x

        before = fg.memory_stats()["in_use"]
        y = non_reentrant(chains, non_reentrant(chains, x))
        assert fg.memory_stats()["in_use"] - before < 3.5 * size
        fg.reset_peak_memory()
        y.sum().backward()
        assert fg.memory_stats()["peak"] - before < 26 * size
        plain_x = x.detach().requires_grad_()
        z = plain_x
        for _ in range(128):
            z = z.tanh()
        z.sum().backward()
        assert plain_x.grad.tolist() == x.grad.tolist()

    @pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
    def test_recurrent_layers_of_all_shapes(self, layer: Any) -> None:
        """Layers, directions and a projection, to the second derivative, in a checkpoint in a checkpoint."""
        options = {"proj_size": 2} if layer is nn.LSTM else {}
        rnn = layer(3, 4, num_layers=2, bidirectional=True, dtype=fg.float64, **options)
        x = fg.randn(5, 2, 3, dtype=fg.float64, requires_grad=True)
        inputs = [x, *rnn.parameters()]
        found = []
        for run in (plain, non_reentrant):
            y, state = run(lambda x, run=run: run(rnn, x), x)
            loss = (y * y).sum() + sum(s.sum() for s in (state if layer is nn.LSTM else (state,)))
            plainly = grad(loss, inputs, retain_graph=True)
            first = grad(loss, inputs, create_graph=True)
            second = grad(sum((g * g).sum() for g in first), inputs)
            found.append([t.detach().numpy() for t in (*plainly, *first, *second)])
        for ours, expected in zip(*found, strict=True):
            np.testing.assert_allclose(expected, ours, rtol=1e-10, atol=1e-12)

    def test_inside_other_hooks(self) -> None:
        x, packed = leaf(0.5), []
        with saved_tensors_hooks(lambda t: packed.append(t.tolist()) or t.detach().clone(), lambda t: t):  # type: ignore[func-returns-value]
            y = non_reentrant(lambda x: x.exp().tanh(), x * 2)
        assert packed == [[1.0]]  # the argument; what is saved inside belongs to the checkpoint
        with save_on_cpu():
            z = non_reentrant(lambda x: x.exp().tanh(), x * 2)
        assert grad(y, x)[0].tolist() == grad(z, x)[0].tolist() == grad((x * 2).exp().tanh(), x)[0].tolist()

    def test_hooks_inside(self) -> None:
        def f(x: Any) -> Any:
            y = x.exp()
            with saved_tensors_hooks(lambda t: t.tolist(), lambda n: fg.tensor(n, dtype=fg.float64)):
                y = y.tanh()
            return y * x

        x = leaf(0.5, 0.7)
        assert grad(non_reentrant(f, x).sum(), x)[0].tolist() == grad(f(x).sum(), x)[0].tolist()


class TestContexts:
    def test_one_for_the_first_run_and_one_for_the_later(self) -> None:
        entered: list[str] = []

        @contextlib.contextmanager
        def note(name: str) -> Iterator[None]:
            entered.append(name)
            yield
            entered.append(f"end of {name}")

        x = leaf(0.5)
        y = non_reentrant(lambda x: x.exp(), x, context_fn=lambda: (note("first"), note("again")))
        assert entered == ["first", "end of first"]
        y.backward()
        assert x.grad.tolist() == y.tolist() and entered[2:] == ["again"]  # which the early stop leaves

    def test_a_context_that_swallows(self) -> None:
        with pytest.raises(RuntimeError, match="may not suppress exceptions"):
            non_reentrant(
                lambda x: x.exp() / fg.ones(7, 7, dtype=fg.float64).exp()[9],
                leaf(1.0),
                context_fn=lambda: (contextlib.suppress(IndexError), contextlib.nullcontext()),
            )


class TestReentrant:
    def test_gradients_of_arguments_and_of_what_is_closed_over(self) -> None:
        found = []
        for run in (plain, lambda f, *args: checkpoint(f, *args, use_reentrant=True)):
            x, k, w = leaf(1.0, 2.0), fg.tensor([3.0, 4.0], dtype=fg.float64), leaf(0.1, 0.2)

            def f(x: Any, n: int, k: Any, w: Any = w) -> Any:
                return (x * w * n).exp(), (x + k).detach(), x * k

            first, second, third = run(f, x * 2, 3, k)
            (first.sum() + third.sum()).backward()
            assert k.grad is None
            found.append([first.tolist(), second.tolist(), third.tolist(), x.grad.tolist(), w.grad.tolist()])
        assert found[0] == found[1]

    def test_only_a_whole_backward(self) -> None:
        x = leaf(1.0, 2.0)
        y = checkpoint(fg.exp, x, use_reentrant=True).sum()
        for differentiate in (lambda: grad(y, x, retain_graph=True), lambda: y.backward(inputs=[x], retain_graph=True)):
            with pytest.raises(RuntimeError, match=r"backward\(\) without inputs alone.*set use_reentrant=False"):
                differentiate()
        y.backward()
        assert x.grad.tolist() == x.exp().tolist()

    def test_no_second_derivative_instead_of_a_wrong_one(self) -> None:
        x = leaf(1.0)
        checkpoint(lambda x: x * x * x, x, use_reentrant=True).backward(create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            x.grad.backward()

    def test_warnings(self) -> None:
        with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
            assert not checkpoint(fg.exp, fg.ones(2), use_reentrant=True).requires_grad
        x = leaf(1.0)
        with pytest.warns(UserWarning, match="the use_reentrant parameter should be passed explicitly") as caught:
            y = checkpoint(fg.exp, x)
        assert caught[0].filename == __file__ and "CheckpointFunction" in y.grad_fn.name()
        with pytest.warns(UserWarning, match=r"\[checkpoint_sequential\] the use_reentrant parameter") as caught:
            checkpoint_sequential([fg.exp, fg.exp], 2, x)
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            non_reentrant(fg.exp, fg.ones(2))

    def test_a_function_that_gives_no_gradient_again(self) -> None:
        y = checkpoint(lambda x: x.detach() * 2, leaf(1.0), use_reentrant=True)
        with pytest.raises(
            RuntimeError, match="an output must require grad when the function is run again; got none among 1"
        ):
            y.backward()

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"scale": 1, "shift": 2}, "takes no keyword arguments; got scale, shift"),
            ({"context_fn": lambda: noop_context_fn()}, "context_fn and debug need use_reentrant=False"),
            ({"debug": True}, "context_fn and debug need use_reentrant=False"),
        ],
    )
    def test_arguments_it_does_not_take(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(ValueError, match=text):
            checkpoint(fg.exp, leaf(1.0), use_reentrant=True, **options)


def test_an_unknown_determinism_check() -> None:
    with pytest.raises(ValueError, match=r"one of \['default', 'none'\]; got 'strict'"):
        non_reentrant(fg.exp, leaf(1.0), determinism_check="strict")


class TestSequential:
    @WAYS
    @pytest.mark.parametrize("segments", [1, 2, 3, 7])
    def test_gradients(self, reentrant: bool, segments: int) -> None:
        model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(7)])
        x = fg.randn(2, 3, requires_grad=True)
        model(x).sum().backward()
        expected = [x.grad.tolist(), *[p.grad.tolist() for p in model.parameters()]]
        x.grad = None
        model.zero_grad()
        checkpoint_sequential(model, segments, x, use_reentrant=reentrant).sum().backward()
        assert [x.grad.tolist(), *[p.grad.tolist() for p in model.parameters()]] == expected

    @pytest.mark.parametrize("segments", [0, -1, 4])
    def test_segments(self, segments: int) -> None:
        with pytest.raises(ValueError, match=f"got {segments} for 3 functions"):
            checkpoint_sequential([fg.exp] * 3, segments, leaf(1.0), use_reentrant=False)


class TestMemory:
    @WAYS
    @pytest.mark.parametrize("retain_graph", [False, True])
    def test_a_chain_needs_the_square_root(self, reentrant: bool, retain_graph: bool) -> None:
        x = fg.full((10_000,), 0.5, requires_grad=True)

        def chain(x: Any) -> Any:
            for _ in range(16):
                x = x.tanh()
            return x

        def peak(run: Any) -> float:
            before = fg.memory_stats()["in_use"]
            fg.reset_peak_memory()
            y = x
            for _ in range(16):
                y = run(chain, y)
            y.sum().backward(retain_graph=retain_graph)
            x.grad = None
            return (fg.memory_stats()["peak"] - before) / x.nbytes

        assert peak(plain) > 256
        assert peak(lambda f, x: checkpoint(f, x, use_reentrant=reentrant)) < 45

    def test_no_cycle_holds_the_call(self) -> None:
        gc.disable()
        try:
            x = leaf(1.0)

            def f(x: Any) -> Any:
                return x.exp().tanh()

            function = weakref.ref(f)
            y = non_reentrant(f, x * 2)
            loss = y.sum()
            del f
            assert function() is not None
            loss.backward()
            assert function() is None
            y = non_reentrant(lambda x: x.exp(), x * 2)
            output = weakref.ref(y)
            grad(y, x, create_graph=True)
            del y
            assert output() is None
        finally:
            gc.enable()

    @pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
    def test_a_recurrent_layer_in_pieces(self, layer: Any) -> None:
        """The state goes through the pieces; gradients are equal, and one piece at a time is held."""
        steps, piece, batch, hidden = 400, 20, 4, 32
        rnn = layer(8, hidden)
        x, target = fg.randn(steps, batch, 8), fg.randn(steps, batch, hidden)

        def part(x: Any, target: Any, state: Any) -> Any:
            y, state = rnn(x, state)
            return ((y - target) ** 2).sum(), state

        def train(run: Any, piece: int) -> tuple[float, list[Any]]:
            rnn.zero_grad()
            before = fg.memory_stats()["in_use"]
            fg.reset_peak_memory()
            state, loss = None, fg.zeros(())
            for start in range(0, steps, piece):
                term, state = run(part, x[start : start + piece], target[start : start + piece], state)
                loss = loss + term
            h = state[0] if layer is nn.LSTM else state
            (loss + (h * h).sum()).backward()
            peak = fg.memory_stats()["peak"] - before
            return peak, [loss.item(), *[p.grad.numpy().copy() for p in rnn.parameters()]]

        whole, expected = train(plain, steps)
        pieces, gradients_in_pieces = train(plain, piece)
        checkpointed, found = train(non_reentrant, piece)
        for a, b, c in zip(found, gradients_in_pieces, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c, rtol=2e-4, atol=1e-4 * np.abs(c).max())
        assert checkpointed < 0.3 * min(whole, pieces)


@pytest.mark.torch
@pytest.mark.parametrize("early_stop", [True, False])
def test_the_runs_are_those_of_pytorch(early_stop: bool) -> None:
    """How often each level of nested checkpoints runs, and the gradients."""
    torch = pytest.importorskip("torch")
    found = []
    for t in (fg, torch):
        runs = {"inner": 0, "outer": 0}

        def call(f: Any, x: Any, t: Any = t) -> Any:
            return t.utils.checkpoint.checkpoint(f, x, use_reentrant=False, early_stop=early_stop)

        def inner(x: Any, runs: Any = runs) -> Any:
            runs["inner"] += 1
            return (x * x).tanh()

        def outer(x: Any, runs: Any = runs, call: Any = call, inner: Any = inner) -> Any:
            runs["outer"] += 1
            return call(inner, call(inner, x).exp()) + 1

        x = t.tensor([0.3, 0.5], dtype=t.float64, requires_grad=True)
        y = call(outer, call(outer, x))
        (first,) = t.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = t.autograd.grad((first * first).sum(), x)
        found.append((runs, [*first.tolist(), *second.tolist()]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)
