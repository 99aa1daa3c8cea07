"""Making tensors: from data, filled, ranges, random; dtypes inferred and asked for; attributes and conversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastgrad as fg


class TestFromData:
    @pytest.mark.parametrize(
        ("data", "dtype"),
        [
            (1, "int64"),
            (1.5, "float32"),
            (True, "bool"),
            ([1, 2], "int64"),
            ([1, 2.0], "float32"),
            ([True, False], "bool"),
            ([True, 2], "int64"),
            ([[1.0], [2.0]], "float32"),
            ([], "float32"),
            ([[], []], "float32"),
            ((1, (2)), "int64"),
            (range(3), "int64"),
            (np.float64(1.5), "float64"),
            (np.arange(3, dtype=np.int32), "int32"),
            (np.zeros((2, 0), np.uint8), "uint8"),
            ([np.float32(1), np.float32(2)], "float32"),
        ],
    )
    def test_tensor_infers(self, data: Any, dtype: str) -> None:
        t = fg.tensor(data)
        assert t.dtype == getattr(fg, dtype)
        assert tuple(t.shape) == np.shape(data)
        assert t.tolist() == np.asarray(data).tolist()

    def test_nested_tensors(self) -> None:
        assert fg.tensor([fg.tensor(1.0), fg.tensor(2.0)]).tolist() == [1.0, 2.0]

    def test_it_copies(self) -> None:
        a = np.ones(3, np.float32)
        t, u = fg.tensor(a), fg.as_tensor(a)
        a[0] = 5
        assert t.tolist() == [1.0, 1.0, 1.0] and u.tolist() == [5.0, 1.0, 1.0]
        assert fg.as_tensor(u) is u

    @pytest.mark.parametrize("data", [[[1, 2], [3]], [1, [2]], [[1], 2]])
    def test_ragged(self, data: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            fg.tensor(data)

    @pytest.mark.parametrize("data", ["text", None, {"a": 1}, object(), ["a"], [None], 1 + 2j])
    def test_foreign(self, data: Any) -> None:
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            fg.tensor(data, dtype=fg.float32)

    def test_too_large_for_int64(self) -> None:
        with pytest.raises((OverflowError, RuntimeError, ValueError)):
            fg.tensor(2**70)

    def test_a_list_that_contains_itself(self) -> None:
        data: list[Any] = []
        data.append(data)
        with pytest.raises((ValueError, RecursionError, TypeError, RuntimeError)):
            fg.tensor(data)


class TestFilled:
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
    def test_values(self, shape: tuple[int, ...]) -> None:
        for made, value in [(fg.zeros(shape), 0.0), (fg.ones(shape), 1.0), (fg.full(shape, 2.5), 2.5)]:
            assert made.dtype == fg.float32 and made.numpy().tolist() == np.full(shape, value).tolist()
        assert tuple(fg.empty(shape).shape) == shape

    def test_shapes_by_name_list_and_arguments(self) -> None:
        for t in (fg.zeros(2, 3), fg.zeros((2, 3)), fg.zeros([2, 3]), fg.zeros(size=(2, 3)), fg.zeros(fg.Size((2, 3)))):
            assert t.shape == (2, 3)

    def test_full_infers(self) -> None:
        assert fg.full((2,), 1).dtype == fg.int64 and fg.full((2,), True).dtype == fg.bool
        assert fg.full((2,), 1, dtype=fg.float64).dtype == fg.float64

    def test_like(self) -> None:
        x = fg.ones(2, 3, dtype=fg.float64)
        for made in (
            fg.zeros_like(x),
            fg.ones_like(x),
            fg.full_like(x, 3),
            fg.empty_like(x),
            fg.rand_like(x),
            fg.randn_like(x),
        ):
            assert made.shape == x.shape and made.dtype == x.dtype and not made.requires_grad
        assert fg.zeros_like(x, dtype=fg.int64).dtype == fg.int64
        for made in (
            x.new_zeros(4),
            x.new_ones((4,)),
            x.new_full((4,), 7.0),
            x.new_empty(4),
            x.new_tensor([1, 2, 3, 4]),
        ):
            assert made.dtype == fg.float64 and made.shape == (4,)

    def test_eye(self) -> None:
        np.testing.assert_array_equal(fg.eye(3).numpy(), np.eye(3))
        np.testing.assert_array_equal(fg.eye(2, 3).numpy(), np.eye(2, 3))
        assert fg.eye(0).shape == (0, 0)

    @pytest.mark.parametrize(
        ("arguments", "dtype"),
        [
            ((5,), "int64"),
            ((2, 5), "int64"),
            ((2, 11, 3), "int64"),
            ((5.0,), "float32"),
            ((0, 1, 0.1), "float32"),
            ((5, 0, -2), "int64"),
            ((3, 3), "int64"),
        ],
    )
    def test_arange(self, arguments: tuple[float, ...], dtype: str) -> None:
        t = fg.arange(*arguments)
        assert t.dtype == getattr(fg, dtype)
        np.testing.assert_allclose(t.numpy(), np.arange(*arguments), rtol=1e-6)

    def test_arange_errors(self) -> None:
        for arguments in [(0, 5, 0), (5, 0), (0, 5, -1), (0, float("inf")), (0, float("nan"))]:
            with pytest.raises((RuntimeError, ValueError, OverflowError)):
                fg.arange(*arguments)

    def test_linspace(self) -> None:
        np.testing.assert_allclose(fg.linspace(-1, 2, 7).numpy(), np.linspace(-1, 2, 7), rtol=1e-6, atol=1e-7)
        assert fg.linspace(3, 5, 1).tolist() == [3.0] and fg.linspace(3, 5, 0).shape == (0,)

    def test_typed_constructors(self) -> None:
        assert fg.FloatTensor([1, 2]).dtype == fg.float32 and fg.LongTensor([1, 2]).dtype == fg.int64
        assert fg.DoubleTensor(2, 3).shape == (2, 3)
        assert fg.Tensor([1, 2]).dtype == fg.float32 and fg.Tensor(2, 3).shape == (2, 3)


class TestRandom:
    """Same seed, PyTorch's numbers: the expected ones were recorded from PyTorch 2.13 on a CPU."""

    def test_recorded(self) -> None:
        for expression, expected in [
            ("rand(4)", [0.882269263, 0.915003955, 0.38286376, 0.959305644]),
            ("randn(3)", [0.336690366, 0.128809407, 0.234462366]),
            ("randn(20)[:3]", [1.92691529, 1.48728406, 0.900717199]),
            ("randint(0, 100, (5,))", [42, 67, 76, 14, 26]),
            ("randperm(8)", [6, 3, 0, 7, 2, 1, 4, 5]),
            ("randn(2, dtype=t.float64)", [0.33669035438385886, 0.1288094051365897]),
            ("rand(2, dtype=t.float64)", [0.05815448596142969, 0.06291016742457756]),
            ("empty(3).exponential_(1.5)", [0.0399426781, 0.0433174185, 0.0879445225]),
            ("empty(6).bernoulli_(0.4)", [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
            ("normal(t.zeros(3), t.ones(3))", [0.336690366, 0.128809407, 0.234462366]),
        ]:
            fg.manual_seed(42)
            found = eval("t." + expression, {"t": fg}).tolist()
            assert found == pytest.approx(expected, rel=1e-6), expression
        fg.manual_seed(0)
        assert sorted(fg.randperm(20).tolist()) == list(range(20))

    def test_same_seed_same_numbers(self) -> None:
        draws = []
        for _ in range(2):
            fg.manual_seed(7)
            draws.append(
                [fg.rand(5).tolist(), fg.randn(20).tolist(), fg.randint(0, 9, (4,)).tolist(), fg.randperm(6).tolist()]
            )
        assert draws[0] == draws[1]
        assert fg.rand(5).tolist() != draws[0][0]

    def test_state_round_trip(self) -> None:
        fg.randn(3)
        state = fg.get_rng_state()
        a = fg.randn(40), fg.rand(3)
        fg.set_rng_state(state)
        b = fg.randn(40), fg.rand(3)
        assert [x.tolist() for x in a] == [x.tolist() for x in b]
        assert fg.initial_seed() == 0

    def test_generators_are_independent(self) -> None:
        g, h = fg.Generator().manual_seed(3), fg.Generator().manual_seed(3)
        a = fg.randn(4, generator=g)
        fg.randn(100)
        assert a.tolist() == fg.randn(4, generator=h).tolist() != fg.randn(4, generator=g).tolist()

    def test_moments(self) -> None:
        n = 200_000
        for sample, mean, deviation in [
            (fg.randn(n), 0.0, 1.0),
            (fg.rand(n), 0.5, 12**-0.5),
            (fg.empty(n).uniform_(-2, 4), 1.0, 6 * 12**-0.5),
            (fg.empty(n).normal_(3, 2), 3.0, 2.0),
            (fg.empty(n).exponential_(2.0), 0.5, 0.5),
            (fg.empty(n).bernoulli_(0.3), 0.3, 0.21**0.5),
        ]:
            values = sample.numpy().astype(np.float64)
            assert abs(values.mean() - mean) < 5 * deviation / n**0.5
            assert abs(values.std() - deviation) < 0.02 * deviation

    def test_ranges(self) -> None:
        u = fg.rand(10_000).numpy()
        assert u.min() >= 0 and u.max() < 1
        k = fg.randint(-3, 4, (10_000,))
        assert k.dtype == fg.int64 and set(k.tolist()) == set(range(-3, 4))
        with pytest.raises((RuntimeError, ValueError)):
            fg.randint(3, 3, (2,))
        with pytest.raises((RuntimeError, ValueError)):
            fg.empty(2).uniform_(2.0, 1.0)
        with pytest.raises((RuntimeError, ValueError)):
            fg.empty(2).normal_(0.0, -1.0)
        with pytest.raises((RuntimeError, ValueError)):
            fg.empty(2).bernoulli_(1.5)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_normals_of_both_dtypes(self, dtype: str) -> None:
        assert fg.randn(3, 4, dtype=getattr(fg, dtype)).dtype == getattr(fg, dtype)


class TestAttributes:
    def test_all(self) -> None:
        t = fg.zeros(2, 3, 4, dtype=fg.float64)
        assert (t.ndim, t.dim(), t.numel(), t.nelement(), t.itemsize, t.nbytes, len(t)) == (3, 3, 24, 24, 8, 192, 2)
        assert t.shape == t.size() == fg.Size([2, 3, 4]) and t.size(-1) == t.shape[2] == 4
        assert t.stride() == (12, 4, 1) and t.stride(0) == 12 and t.storage_offset() == 0
        assert t[1].storage_offset() == 12 and t[1].data_ptr() == t.data_ptr() + 96
        assert t.is_contiguous() and not t.transpose(0, 1).is_contiguous()
        assert str(t.device) == "cpu" and t.device == fg.device("cpu") and not t.is_cuda
        assert t.is_floating_point() and not fg.zeros(1, dtype=fg.int64).is_floating_point()
        assert t.element_size() == 8 and isinstance(t.shape, tuple)

    def test_item_and_numbers(self) -> None:
        assert (
            fg.tensor([[2.5]]).item() == 2.5 and isinstance(fg.tensor(3).item(), int) and fg.tensor(True).item() is True
        )
        assert float(fg.tensor(2.5)) == 2.5 and int(fg.tensor(2.9)) == 2 and bool(fg.tensor(0.0)) is False
        assert [10, 20, 30][fg.tensor(1)] == 20
        for wrong in (fg.ones(2), fg.ones(0)):
            with pytest.raises(RuntimeError, match=r"[Tt]ensor with"):
                wrong.item()
        with pytest.raises(RuntimeError, match=r"ambiguous|truth value"):
            bool(fg.ones(2))
        with pytest.raises(TypeError):
            len(fg.tensor(1.0))
        with pytest.raises(TypeError):
            [1, 2][fg.tensor(1.0)]

    def test_iteration(self) -> None:
        assert [row.tolist() for row in fg.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
        with pytest.raises(TypeError):
            iter(fg.tensor(1.0))

    def test_dtype_names(self) -> None:
        assert fg.float is fg.float32 and fg.double is fg.float64 and fg.long is fg.int64 and fg.int is fg.int32
        x = fg.tensor([1.7, -1.7])
        assert x.long().tolist() == [1, -1] and x.int().dtype == fg.int32 and x.double().dtype == fg.float64
        assert x.bool().tolist() == [True, True] and x.to(fg.uint8)[0].item() == 1
        assert x.to(x.dtype) is x and x.float() is x and x.type_as(x.double()).dtype == fg.float64

    def test_hash_is_identity_and_equality_is_elementwise(self) -> None:
        a, b = fg.ones(2), fg.ones(2)
        assert len({a, b, a}) == 2 and (a == b).tolist() == [True, True]
        assert fg.equal(a, b) and not fg.equal(a, fg.ones(3)) and fg.allclose(a, b + 1e-9)

    def test_copies(self) -> None:
        import copy
        import pickle

        x = fg.tensor([1.0, 2.0], requires_grad=True)
        for duplicate in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
            assert duplicate.tolist() == [1.0, 2.0] and duplicate.requires_grad and duplicate.is_leaf
            duplicate.data[0] = 9.0
        assert x.tolist() == [1.0, 2.0]
        y = fg.arange(6).view(2, 3).t()
        assert copy.deepcopy(y).tolist() == y.tolist() == pickle.loads(pickle.dumps(y)).tolist()
