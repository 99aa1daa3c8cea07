"""saved_tensors_hooks: every op of the table through hooks that keep numbers only, and what hooks may not do."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, place
from hypothesis import given
from hypothesis import strategies as st
from numeric import cotangents_for, gradients, hessian_product

import fastgrad as fg
from fastgrad import nn
from fastgrad.autograd import Function, grad
from fastgrad.autograd.graph import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks


def leaf(*values: float) -> Any:
    return fg.tensor(list(values), dtype=fg.float64, requires_grad=True)


def to_array(x: Any) -> np.ndarray:
    return x.detach().numpy().copy()


def from_array(a: np.ndarray) -> Any:
    """Elsewhere in memory and laid out differently."""
    return fg.from_numpy(place(a, "strided"))


def identity(x: Any) -> Any:
    return x


def hooked(f: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*tensors: Any) -> Any:
        with saved_tensors_hooks(to_array, from_array):
            return f(*tensors)

    return wrapped


@pytest.mark.parametrize("case", [case for case in CASES if case.derivatives], ids=repr)
@given(data=st.data())
def test_derivatives_through_what_was_unpacked(case: Case, data: st.DataObject) -> None:
    sample = data.draw(case.samples)
    positions = sorted(data.draw(st.sets(st.sampled_from(case.floats(sample)), min_size=1)))

    def f(*tensors: Any) -> Any:
        return case.function(fg, *tensors, **sample.options)

    arrays, random = sample.placed(), np.random.default_rng(1)
    w = cotangents_for(f, arrays, positions, random)
    u = [np.asarray(random.normal(size=arrays[k].shape)) for k in positions]
    for derivative in (
        lambda f: gradients(f, arrays, positions, w),
        lambda f: hessian_product(f, arrays, positions, w, u),
    ):
        for through_hooks, plain in zip(derivative(hooked(f)), derivative(f), strict=True):
            np.testing.assert_allclose(through_hooks, plain, rtol=1e-12, atol=1e-12)


class TestPack:
    def test_it_gets_the_inputs_and_outputs_that_are_saved(self) -> None:
        x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
        seen: list[Any] = []
        with saved_tensors_hooks(lambda t: seen.append(t) or len(seen) - 1, lambda k: seen[k]):  # type: ignore[func-returns-value]
            z = x * y
            assert seen[0] is x and seen[1] is y
            w = z.exp()
        assert seen[2].tolist() == w.tolist() and not seen[2].requires_grad
        assert seen[2].data_ptr() == w.data_ptr()
        (dx,) = grad(w.sum(), x)
        np.testing.assert_allclose(dx.numpy(), w.detach().numpy() * [3.0, 4.0])

    def test_it_runs_with_recording_off_and_its_own_ops_are_not_packed(self) -> None:
        x = leaf(1.0)
        calls = []

        def pack(t: Any) -> Any:
            calls.append(fg.is_grad_enabled())
            return t * t

        with saved_tensors_hooks(pack, lambda t: t.sqrt()):
            y = x.exp()
        assert calls == [False] and fg.is_grad_enabled()
        y.backward()
        assert x.grad.tolist() == pytest.approx(y.tolist())

    def test_what_needs_no_gradient_is_not_packed(self) -> None:
        with saved_tensors_hooks(lambda t: pytest.fail("packed"), identity):
            fg.ones(2) * fg.ones(2)
            with fg.no_grad():
                leaf(1.0) * leaf(2.0)

    def test_an_error_leaves_through_the_op(self) -> None:
        def pack(t: Any) -> Any:
            raise KeyError("no room")

        x = leaf(1.0)
        with saved_tensors_hooks(pack, identity), pytest.raises(KeyError, match="no room"):
            x.exp()
        assert fg.is_grad_enabled() and x.exp().requires_grad

    def test_writing_into_the_input(self) -> None:
        with (
            saved_tensors_hooks(lambda t: t.mul_(2), identity),
            pytest.raises(
                RuntimeError, match=r"a pack hook may not change its input in place; got a tensor of shape \(2,\)"
            ),
        ):
            leaf(1.0, 2.0).exp()

    def test_tensors_that_functions_save(self) -> None:
        class Both(Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                y = x.exp()
                ctx.save_for_backward(x, None, y, x + 1)
                return y

            @staticmethod
            def backward(ctx: Any, d: Any) -> Any:
                x, nothing, y, other = ctx.saved_tensors
                again = ctx.saved_tensors
                assert nothing is None and again[1] is None
                assert not other.requires_grad and (x + 1).tolist() == other.tolist()
                return d * y * x

        class Instance(Function):
            def forward(self, x: Any) -> Any:
                y = x.exp()
                self.save_for_backward(x, y)
                return y

            def backward(self, d: Any) -> Any:
                x, y = self.saved_tensors
                return d * y * x

        for function in (Both.apply, lambda x: Instance()(x)):
            packed: list[Any] = []
            unpacked: list[Any] = []

            def pack(t: Any, packed: list[Any] = packed) -> Any:
                packed.append(t)
                return t.tolist()

            def unpack(numbers: Any, unpacked: list[Any] = unpacked) -> Any:
                unpacked.append(numbers)
                return fg.tensor(numbers, dtype=fg.float64)

            x = leaf(0.5, 1.0)
            with saved_tensors_hooks(pack, unpack):
                y = function(x)
            count = len(packed)
            assert packed[0] is x and count in (2, 3)
            (first,) = grad(y.sum(), x, create_graph=True)
            assert len(unpacked) == count, "within one backward each is unpacked once"
            (second,) = grad(first.sum(), x)
            numbers = np.array([0.5, 1.0])
            np.testing.assert_allclose(first.detach().numpy(), np.exp(numbers) * numbers)
            # y is an output, so d(exp(x) * x) is y * x + y whose first y differentiates to exp(x) * x.
            np.testing.assert_allclose(second.numpy(), np.exp(numbers) * numbers * numbers + np.exp(numbers))


class TestUnpack:
    def test_it_runs_when_the_backward_needs_the_tensor_and_once_each_time(self) -> None:
        x, y = leaf(2.0), fg.tensor([3.0], dtype=fg.float64)
        unpacked: list[Any] = []
        with saved_tensors_hooks(to_array, lambda a: unpacked.append(a) or fg.from_numpy(a)):  # type: ignore[func-returns-value]
            z = x * y * x
        assert unpacked == []
        grad(z, x, retain_graph=True)
        first = len(unpacked)
        grad(z, x)
        assert first > 0 and len(unpacked) == 2 * first

    def test_the_place_in_the_graph(self) -> None:
        """A leaf, an inner tensor and an output come back where they were: second derivatives reach all of them."""
        numbers = np.array([0.3, 0.7])
        for hooks in ((to_array, from_array), (identity, identity)):
            x = fg.tensor(numbers, requires_grad=True)
            with saved_tensors_hooks(*hooks):
                inner = x * x
                y = inner.exp() * inner
            (first,) = grad(y.sum(), x, create_graph=True)
            (second,) = grad(first.sum(), x, retain_graph=True)
            by_inner = grad(first.sum(), inner, allow_unused=True)[0]
            e, s = np.exp(numbers**2), numbers**2
            np.testing.assert_allclose(first.detach().numpy(), 2 * numbers * e * (s + 1))
            np.testing.assert_allclose(second.numpy(), 2 * e * (s + 1) + 4 * s * e * (s + 2))
            np.testing.assert_allclose(by_inner.numpy(), 2 * numbers * e * (s + 2))

    def test_backward_accumulates_in_the_leaf(self) -> None:
        x = leaf(3.0)
        with saved_tensors_hooks(to_array, from_array):
            y = x * x
        (first,) = grad(y, x, create_graph=True)
        first.backward()
        assert x.grad.tolist() == [2.0]

    def test_after_an_in_place_change_the_packed_content_counts(self) -> None:
        x = leaf(1.0, 2.0)
        y = x * 2
        with saved_tensors_hooks(to_array, from_array):
            z = y * y
        y.add_(100)
        z.sum().backward()
        assert x.grad.tolist() == [8.0, 16.0]

    def test_in_place_ops_inside(self) -> None:
        for f in (
            lambda t: t.exp_(),
            lambda t: t[:1].mul_(t.detach().clone()[1:] * 2),
            lambda t: t.mul_(t.detach() + 1).sigmoid_(),
        ):
            found = []
            for g in (f, hooked(f)):
                x = leaf(0.5, 2.0)
                y = x * 1
                g(y)
                (first,) = grad((y * y).sum(), x, create_graph=True)
                found.append([*first.tolist(), *grad((first * first).sum(), x)[0].tolist()])
            assert found[0] == pytest.approx(found[1], rel=1e-12)

    @pytest.mark.parametrize(
        ("unpack", "error", "text"),
        [
            (lambda x: x.numpy(), TypeError, "an unpack hook must return a Tensor; got ndarray"),
            (lambda x: None, TypeError, "an unpack hook must return a Tensor; got NoneType"),
            (lambda x: x[:1], RuntimeError, r"shape and dtype that were packed, \(2,\) and .*float64; got \(1,\)"),
            (lambda x: x.unsqueeze(0), RuntimeError, r"got \(1, 2\)"),
            (lambda x: x.float(), RuntimeError, r"float64; got \(2,\) and .*float32"),
        ],
    )
    def test_what_is_no_such_tensor(self, unpack: Any, error: type[Exception], text: str) -> None:
        x = leaf(1.0, 2.0)
        with saved_tensors_hooks(lambda t: t.detach().clone(), unpack):
            y = x.exp()
        with pytest.raises(error, match=text):
            y.sum().backward()
        assert x.grad is None and fg.is_grad_enabled()

    def test_integers_index_memory_and_must_come_back_as_they_were(self) -> None:
        """Also where a later hook writes into what an earlier one returned."""
        returned: list[Any] = []

        def spoil(t: Any) -> Any:
            for earlier in returned:
                if not earlier.is_floating_point():
                    earlier.fill_(1 << 40)
            returned.append(t)
            return t

        logits = fg.randn(3, 4, requires_grad=True)
        weight = fg.ones(4)
        with saved_tensors_hooks(lambda t: t.clone(), spoil):
            loss = nn.functional.cross_entropy(logits, fg.tensor([1, 2, 3]), weight)
        expected = grad(nn.functional.cross_entropy(logits, fg.tensor([1, 2, 3]), weight), logits)[0]
        np.testing.assert_allclose(grad(loss, logits)[0].numpy(), expected.numpy())
        for f in (
            lambda x: x.gather(1, fg.tensor([[3], [0], [1]])),
            lambda x: x.max(1)[0],
            lambda x: nn.functional.cross_entropy(x, fg.tensor([1, 2, 3])),
        ):
            with saved_tensors_hooks(lambda t: t.clone(), lambda t: t if t.is_floating_point() else t + (1 << 40)):
                y = f(logits)
            with pytest.raises(RuntimeError, match="integers must be unpacked as they were packed"):
                y.sum().backward()

    def test_a_hook_that_changes_the_shape_of_what_an_earlier_one_returned(self) -> None:
        rnn = nn.RNN(3, 4)

        def unpack(a: np.ndarray) -> Any:
            if a.shape == (4, 3):
                return rnn.weight_ih_l0
            if a.shape == (4, 4):
                rnn.weight_ih_l0.data = fg.zeros(1, 1)
            return fg.from_numpy(a)

        x = fg.randn(5, 2, 3, requires_grad=True)
        expected = grad(rnn(x)[0].sum(), x)[0].tolist()
        with saved_tensors_hooks(to_array, unpack):
            y, _ = rnn(x)
        assert grad(y.sum(), x)[0].tolist() == expected and rnn.weight_ih_l0.shape == (1, 1)

    def test_a_second_backward_finds_nothing(self) -> None:
        x = leaf(1.0)
        with saved_tensors_hooks(to_array, lambda a: fg.from_numpy(a)):
            y = x.exp()
        y.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            y.backward()


class TestContexts:
    def test_the_innermost_counts_and_the_outer_returns(self) -> None:
        x, names = leaf(2.0), []

        def hooks(name: str) -> Any:
            return saved_tensors_hooks(lambda t: names.append(name) or t, identity)  # type: ignore[func-returns-value]

        outer = hooks("outer")
        with outer:
            x.exp()
            with hooks("inner"):
                x.exp()
            with outer:
                x.exp()
            x.exp()
        x.exp()
        assert names == ["outer", "inner", "outer", "outer"]

    def test_other_threads_have_none(self) -> None:
        x, done = leaf(2.0), []

        def elsewhere() -> None:
            done.append(x.exp())
            with pytest.raises(RuntimeError, match="got a thread without hooks"):
                hooks.__exit__()

        hooks = saved_tensors_hooks(lambda t: pytest.fail("packed"), identity)
        with hooks:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        assert len(done) == 1

    def test_disabling(self) -> None:
        with disable_saved_tensors_hooks("none of that"):
            with (
                disable_saved_tensors_hooks("nor that"),
                pytest.raises(RuntimeError, match=r"^nor that$"),
                save_on_cpu(),
            ):
                pass
            with pytest.raises(RuntimeError, match=r"^none of that$"), save_on_cpu():
                pass
        with save_on_cpu(), pytest.raises(RuntimeError, match=r"^in use$"), disable_saved_tensors_hooks("in use"):
            pass
        with save_on_cpu():
            y = (x := leaf(2.0)).exp()
        y.backward()
        assert x.grad.tolist() == y.tolist()

    def test_pytorchs_example(self) -> None:
        a, b = fg.ones(5, requires_grad=True), fg.ones(5, requires_grad=True) * 2
        seen: list[tuple[str, Any]] = []
        with saved_tensors_hooks(
            lambda t: seen.append(("pack", t.tolist())) or t.detach(),  # type: ignore[func-returns-value]
            lambda t: seen.append(("unpack", t.tolist())) or t,  # type: ignore[func-returns-value]
        ):
            y = a * b
        y.sum().backward()
        assert [kind for kind, _ in seen] == ["pack", "pack", "unpack", "unpack"]
        assert sorted(values[0] for _, values in seen) == [1, 1, 2, 2]


class TestLifetime:
    def test_packed_tensors_are_freed_and_their_substitutes_when_the_graph_goes(self) -> None:
        class Substitute:
            pass

        gc.disable()
        try:
            substitutes: list[weakref.ref[Substitute]] = []

            def pack(t: Any) -> Any:
                substitutes.append(weakref.ref(kept := Substitute()))
                return kept

            x = leaf(1.0, 2.0)
            y = x * 3
            inner = weakref.ref(y)
            with saved_tensors_hooks(pack, lambda kept: fg.tensor([3.0, 6.0], dtype=fg.float64)):
                z = y * y
            del y
            assert inner() is None and all(s() is not None for s in substitutes)
            z.sum().backward()
            assert all(s() is None for s in substitutes) and x.grad.tolist() == [18.0, 36.0]
        finally:
            gc.enable()

    @pytest.mark.parametrize("create_graph", [False, True])
    def test_no_cycle_holds_the_graph(self, create_graph: bool) -> None:
        """Not even where pack returns what it gets, and with what was unpacked at hand."""
        gc.disable()
        try:
            x = leaf(0.5)
            with saved_tensors_hooks(identity, identity):
                y = x.exp().tanh() * x
            references = [weakref.ref(y)]
            in_use = fg.memory_stats()["in_use"]
            (first,) = grad(y, x, create_graph=create_graph, retain_graph=True)
            references.append(weakref.ref(first))
            del y, first
            assert all(r() is None for r in references)
            assert fg.memory_stats()["in_use"] < in_use
        finally:
            gc.enable()

    def test_what_is_unpacked_does_not_outlive_its_node_in_a_graph_that_is_kept(self) -> None:
        x = fg.ones(100_000, requires_grad=True)
        with saved_tensors_hooks(to_array, lambda a: fg.from_numpy(a).clone()):
            y = x
            for _ in range(20):
                y = y * y
        loss = y.sum()
        before = fg.memory_stats()["in_use"]
        fg.reset_peak_memory()
        loss.backward(retain_graph=True)
        assert fg.memory_stats()["peak"] - before < 10 * x.nbytes
        x.grad = None
        assert fg.memory_stats()["in_use"] <= before

    def test_long_chains_neither_overflow_nor_leak(self) -> None:
        x = leaf(1.0)
        gc.collect()
        in_use = fg.memory_stats()["in_use"]
        with saved_tensors_hooks(to_array, from_array):
            y = x
            for _ in range(20_000):
                y = y * y
        del y
        assert fg.memory_stats()["in_use"] == in_use
