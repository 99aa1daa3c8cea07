"""Module: members, iteration, hooks, state dicts, copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn


class Affine(nn.Module):
    """y = x * scale + shift, with a buffer that counts the calls."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(fg.full((size,), 2.0))
        self.shift = nn.Parameter(fg.ones(size))
        self.register_buffer("calls", fg.zeros(1))
        self.register_buffer("scratch", fg.zeros(1), persistent=False)

    def forward(self, x: Any) -> Any:
        return x * self.scale + self.shift


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Affine()
        self.second = nn.Sequential(Affine(), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


class TestMembers:
    def test_a_member_is_a_plain_attribute(self) -> None:
        module = Pair()
        assert module.__dict__["first"] is module.first
        assert module.first.__dict__["scale"] is module.first.scale
        assert "__getattr__" not in vars(nn.Module)

    def test_mappings_are_views_of_the_attributes(self) -> None:
        module = Affine()
        parameters = module._parameters
        assert list(parameters) == ["scale", "shift"] and len(parameters) == 2
        assert parameters["scale"] is module.scale and "calls" not in parameters
        replacement = nn.Parameter(fg.zeros(2))
        parameters["scale"] = replacement
        assert module.scale is replacement
        module.scale = nn.Parameter(fg.ones(2))
        assert parameters["scale"] is module.scale
        del parameters["scale"]
        assert not hasattr(module, "scale") and list(module._parameters) == ["shift"]
        with pytest.raises(KeyError, match="calls"):
            parameters["calls"]
        assert list(module._buffers) == ["calls", "scratch"]
        assert list(Pair()._modules) == ["first", "second"]

    def test_a_replaced_parameter_keeps_its_place(self) -> None:
        module = Affine()
        module.scale = nn.Parameter(fg.zeros(2))
        assert [name for name, _ in module.named_parameters()] == ["scale", "shift"]

    def test_none_is_a_parameter_without_value(self) -> None:
        module = Affine()
        module.shift = None
        assert module.shift is None and list(module._parameters) == ["scale", "shift"]
        assert [name for name, _ in module.named_parameters()] == ["scale"]
        module.register_parameter("bias", None)
        assert module.bias is None and "bias" not in module.state_dict()
        module.bias = nn.Parameter(fg.ones(1))
        assert "bias" in module.state_dict()

    def test_deletion(self) -> None:
        module = Pair()
        del module.first
        assert [name for name, _ in module.named_children()] == ["second"]
        with pytest.raises(AttributeError, match="first"):
            del module.first

    def test_a_name_changes_its_kind(self) -> None:
        module = Affine()
        module.extra = 3
        module.extra = nn.Parameter(fg.ones(1))
        assert "extra" in module._parameters
        module.extra = Affine()
        assert "extra" not in module._parameters and "extra" in module._modules
        module.calls = nn.Parameter(fg.ones(1))
        assert "calls" not in module._buffers and "calls" in module._parameters

    def test_buffers(self) -> None:
        module = Affine()
        module.calls = fg.ones(1)
        assert module._buffers["calls"].item() == 1.0
        module.calls = None
        assert list(module.named_buffers()) == [("scratch", module.scratch)]
        module.offset = nn.Buffer(fg.ones(3), persistent=False)
        assert "offset" in module._buffers and "offset" not in module.state_dict()

    @pytest.mark.parametrize(
        ("assign", "error", "text"),
        [
            (lambda m: setattr(m, "scale", fg.ones(2)), TypeError, "as parameter 'scale'"),
            (lambda m: setattr(m, "scale", 3), TypeError, "cannot assign 'int' as parameter 'scale'"),
            (lambda m: setattr(m, "calls", 3), TypeError, "cannot assign 'int' as buffer 'calls'"),
            (lambda m: setattr(m, "child", 3), TypeError, "cannot assign 'int' as child module 'child'"),
            (lambda m: m.register_parameter("scale.x", None), KeyError, 'contain "."'),
            (lambda m: m.register_parameter("", None), KeyError, "be empty string"),
            (lambda m: m.register_parameter(3, None), TypeError, "should be a string"),
            (lambda m: m.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
            (lambda m: m.register_parameter("p", fg.ones(1)), TypeError, "object to parameter 'p'"),
            (lambda m: m.register_buffer("scale", fg.ones(1)), KeyError, "attribute 'scale' already exists"),
            (lambda m: m.register_buffer("b", 1), TypeError, "object to buffer 'b'"),
            (lambda m: m.add_module("m", 1), TypeError, "is not a Module subclass"),
            (lambda m: m.get_submodule("child.none"), AttributeError, "has no attribute `none`"),
            (lambda m: m.get_submodule("scale"), AttributeError, "is not an nn.Module"),
            (lambda m: m.get_parameter("calls"), AttributeError, "is not an nn.Parameter"),
            (lambda m: m.get_buffer("scale"), AttributeError, "is not a buffer"),
            (lambda m: m.train(1), ValueError, "expected to be boolean"),
            (lambda m: m.to(fg.int64), TypeError, "floating-point dtypes only"),
            (lambda m: m.load_state_dict([1]), TypeError, "dict-like"),
            (lambda m: m.missing, AttributeError, "'Affine' object has no attribute 'missing'"),
        ],
    )
    def test_errors(self, assign: Any, error: type[Exception], text: str) -> None:
        module = Affine()
        module.child = nn.ReLU()
        with pytest.raises(error, match=text.replace("(", r"\(")):
            assign(module)
        assert list(module._parameters) == ["scale", "shift"]

    @pytest.mark.parametrize("value", [nn.Parameter(fg.ones(1)), nn.Identity()])
    def test_assignment_before_init(self, value: Any) -> None:
        class Early(nn.Module):
            def __init__(self) -> None:
                self.member = value

        with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
            Early()

    def test_a_non_leaf_is_no_parameter(self) -> None:
        module = Affine()
        computed = nn.Parameter(fg.ones(2)) * 2
        with pytest.raises(TypeError, match="as parameter 'scale'"):
            module.scale = computed

    def test_no_reference_cycle(self) -> None:
        gc.disable()
        try:
            module = Pair()
            dict(module.named_parameters())
            module.first.register_forward_hook(lambda *_: None).remove()
            module(fg.ones(2)).sum().backward()
            watch = weakref.ref(module)
            del module
            assert watch() is None
        finally:
            gc.enable()

    def test_forward_is_required(self) -> None:
        with pytest.raises(NotImplementedError, match='missing the required "forward"'):
            nn.Module()(1)


class TestIteration:
    def test_names(self) -> None:
        module = Pair()
        assert [name for name, _ in module.named_parameters()] == [
            "first.scale", "first.shift", "second.0.scale", "second.0.shift",
        ]  # fmt: skip
        assert [name for name, _ in module.named_parameters(prefix="net", recurse=False)] == []
        assert next(module.named_parameters(prefix="net"))[0] == "net.first.scale"
        assert [name for name, _ in module.named_modules()] == ["", "first", "second", "second.0", "second.1"]
        assert [name for name, _ in module.named_buffers()][:2] == ["first.calls", "first.scratch"]
        assert [type(child).__name__ for child in module.children()] == ["Affine", "Sequential"]
        assert len(list(module.modules())) == 5 and len(list(module.buffers())) == 4

    def test_shared_members_appear_once(self) -> None:
        module = Pair()
        module.third = module.first
        module.second[0].scale = module.first.scale
        assert len(list(module.parameters())) == 3
        assert len(list(module.named_parameters(remove_duplicate=False))) == 6
        assert [name for name, _ in module.named_children()] == ["first", "second"]
        assert len(list(module.named_modules(remove_duplicate=False))) == 6

    def test_paths(self) -> None:
        module = Pair()
        assert module.get_submodule("second.0") is module.second[0]
        assert module.get_submodule("") is module
        assert module.get_parameter("second.0.scale") is module.second[0].scale
        assert module.get_buffer("first.calls") is module.first.calls


class TestTree:
    def test_train_and_eval(self) -> None:
        module = Pair()
        assert module.eval() is module
        assert not any(child.training for child in module.modules())
        assert all(child.training for child in module.train().modules())

    def test_apply_visits_children_first(self) -> None:
        seen: list[str] = []
        Pair().apply(lambda module: seen.append(type(module).__name__))
        assert seen == ["Affine", "Affine", "ReLU", "Sequential", "Pair"]

    def test_to_keeps_the_parameter_objects(self) -> None:
        module = Affine()
        module.register_buffer("count", fg.zeros(1, dtype=fg.int64))
        module(fg.ones(2)).sum().backward()
        parameter = module.scale
        module.double()
        assert module.scale is parameter and parameter.dtype is fg.float64 and parameter.grad.dtype is fg.float64
        assert parameter.requires_grad and parameter.is_leaf
        assert module.calls.dtype is fg.float64 and module.count.dtype is fg.int64
        assert module.to(fg.float32).shift.dtype is fg.float32
        assert module.to(fg.ones(1, dtype=fg.float64)).shift.dtype is fg.float64
        assert module.float().cpu().to("cpu", fg.float64).shift.dtype is fg.float64
        module.zero_grad()
        module(fg.ones(2, dtype=fg.float64)).sum().backward()
        assert parameter.grad.tolist() == [1.0, 1.0]

    def test_zero_grad(self) -> None:
        module = Affine()
        module(fg.ones(2)).sum().backward()
        module.zero_grad(set_to_none=False)
        assert module.scale.grad.tolist() == [0.0, 0.0]
        module.zero_grad()
        assert module.scale.grad is None

    def test_requires_grad(self) -> None:
        module = Pair().requires_grad_(False)
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert not module(fg.ones(2)).requires_grad


class TestCall:
    def test_arguments_reach_forward(self) -> None:
        class Echo(nn.Module):
            def forward(self, *args: Any, **kwargs: Any) -> Any:
                return args, kwargs

        echo = Echo()
        assert echo() == ((), {})
        assert echo(1) == ((1,), {})
        assert echo(1, 2, input=3) == ((1, 2), {"input": 3})
        assert echo(input=3, self_=4) == ((), {"input": 3, "self_": 4})
        echo.register_forward_hook(lambda *_: None)
        assert echo(1, 2, input=3) == ((1, 2), {"input": 3})
        assert echo(input=3) == ((), {"input": 3})

    def test_forward_may_be_replaced_on_an_instance(self) -> None:
        module = Affine()
        module.forward = lambda x: "replaced"
        assert module(fg.ones(2)) == "replaced"

    def test_pre_hooks_change_arguments(self) -> None:
        module = Affine()
        module.register_forward_pre_hook(lambda m, args: args[0] * 10)
        module.register_forward_pre_hook(
            lambda m, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True, prepend=True
        )
        assert module(fg.ones(2)).tolist() == [41.0, 41.0]
        module.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
        with pytest.raises(RuntimeError, match="None or a tuple"):
            module(fg.ones(2))

    def test_hooks_change_the_output(self) -> None:
        module, order = Affine(), []
        first = module.register_forward_hook(lambda m, args, out: order.append("a") or out + 1)
        module.register_forward_hook(lambda m, args, kwargs, out: order.append("b"), with_kwargs=True, prepend=True)
        assert module(fg.ones(2)).tolist() == [4.0, 4.0] and order == ["b", "a"]
        first.remove()
        first.remove()
        assert module(fg.ones(2)).tolist() == [3.0, 3.0]

    def test_a_handle_as_context(self) -> None:
        module, calls = Affine(), []
        with module.register_forward_hook(lambda *_: calls.append(1)):
            module(fg.ones(2))
        module(fg.ones(2))
        assert calls == [1]

    def test_always_called_hooks_see_a_failure(self) -> None:
        module, calls = Affine(), []
        module.register_forward_hook(lambda m, args, out: calls.append(out), always_call=True)
        module.register_forward_hook(lambda m, args, out: calls.append("never"))
        with pytest.raises(RuntimeError):
            module(fg.ones(3))
        assert calls == [None]

    def test_backward_hooks(self) -> None:
        module, seen = Affine(), []

        def hook(m: Any, grad_input: Any, grad_output: Any) -> Any:
            seen.append((grad_input[0].tolist(), grad_output[0].tolist()))
            return (grad_input[0] * 10,)

        module.register_full_backward_hook(hook)
        module.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] + 2,))
        x = fg.ones(2, requires_grad=True)
        module(x).sum().backward()
        assert seen == [([6.0, 6.0], [3.0, 3.0])]
        assert x.grad.tolist() == [60.0, 60.0] and module.scale.grad.tolist() == [3.0, 3.0]

    def test_a_backward_hook_without_input_gradients(self) -> None:
        module, seen = Affine(), []
        module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
        module(fg.ones(2)).sum().backward()
        assert seen == [((None,), [1.0, 1.0])]

    def test_backward_hooks_of_several_outputs(self) -> None:
        class Split(nn.Module):
            def forward(self, a: Any, b: Any) -> Any:
                return a * 2, "text", b * 3

        module, seen = Split(), []
        module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        a, b = fg.ones(1, requires_grad=True), fg.ones(1)
        out = module(a, b)
        assert out[1] == "text"
        (out[0] * 5).sum().backward()
        ((grad_input, grad_output),) = seen
        assert grad_input[0].tolist() == [10.0] and grad_input[1] is None
        assert grad_output[0].tolist() == [5.0] and grad_output[1:] == (None, None)

    def test_backward_hooks_of_a_named_tuple(self) -> None:
        Pair = namedtuple("Pair", "left right")

        class Named(nn.Module):
            def forward(self, x: Any) -> Any:
                return Pair(x * 2, x * 3)

        module, seen = Named(), []
        module.register_full_backward_hook(lambda m, gi, go: seen.append([g.item() for g in go]))
        x = fg.tensor(1.0, requires_grad=True)
        out = module(x)
        (out.left + 4 * out.right).backward()
        assert isinstance(out, Pair) and seen == [[1.0, 4.0]] and x.grad.item() == 14.0

    def test_backward_hooks_leave_no_cycle(self) -> None:
        gc.disable()
        try:
            module = Affine()
            module.register_full_backward_hook(lambda m, gi, go: None)
            x = fg.ones(2, requires_grad=True)
            (dx,) = fg.autograd.grad((module(x) * x).sum(), x, create_graph=True)
            dx.sum().backward()
            watch = weakref.ref(module)
            del module, dx
            assert watch() is None
        finally:
            gc.enable()

    def test_a_wrong_number_of_gradients(self) -> None:
        module = Affine()
        module.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
        with pytest.raises(RuntimeError, match="must return 1 gradients; got 2"):
            module(fg.ones(2, requires_grad=True)).sum().backward()


class TestState:
    def test_state_dict(self) -> None:
        module = Pair()
        state = module.state_dict()
        assert isinstance(state, OrderedDict)
        assert list(state)[:3] == ["first.scale", "first.shift", "first.calls"] and "first.scratch" not in state
        assert (
            not state["first.scale"].requires_grad and state["first.scale"].data_ptr() == module.first.scale.data_ptr()
        )
        assert module.state_dict(keep_vars=True)["first.scale"] is module.first.scale
        assert list(Affine().state_dict(prefix="net.")) == ["net.scale", "net.shift", "net.calls"]

    def test_round_trip(self) -> None:
        source, target = Pair(), Pair()
        with fg.no_grad():
            for parameter in source.parameters():
                parameter.normal_()
        assert str(target.load_state_dict(source.state_dict())) == "<All keys matched successfully>"
        for a, b in zip(source.parameters(), target.parameters(), strict=True):
            assert a.tolist() == b.tolist() and a is not b and b.requires_grad

    def test_a_failed_load_changes_nothing(self) -> None:
        module = Pair()
        before = {name: value.tolist() for name, value in module.state_dict().items()}
        state = {name: value + 1 for name, value in module.state_dict().items()}
        state["second.0.shift"] = fg.ones(3)
        del state["second.0.calls"]
        state["other"] = fg.ones(1)
        state["first.calls"] = "text"
        with pytest.raises(RuntimeError) as error:
            module.load_state_dict(state)
        text = str(error.value)
        assert text.startswith("Error(s) in loading state_dict for Pair:\n\t")
        assert 'Missing key(s) in state_dict: "second.0.calls". ' in text
        assert 'Unexpected key(s) in state_dict: "other". ' in text
        assert "size mismatch for second.0.shift: copying a param with shape" in text
        assert 'While copying the parameter named "first.calls"' in text
        assert {name: value.tolist() for name, value in module.state_dict().items()} == before
        with pytest.raises(RuntimeError, match="size mismatch"):
            module.load_state_dict(state, strict=False)
        assert {name: value.tolist() for name, value in module.state_dict().items()} == before

    def test_not_strict(self) -> None:
        module = Affine()
        result = module.load_state_dict({"scale": fg.zeros(2), "other": fg.ones(1)}, strict=False)
        assert result.missing_keys == ["shift", "calls"] and result.unexpected_keys == ["other"]
        assert module.scale.tolist() == [0.0, 0.0] and module.shift.tolist() == [1.0, 1.0]

    def test_assign(self) -> None:
        module = Affine()
        tensor = fg.zeros(2)
        state = {"scale": tensor, "shift": nn.Parameter(fg.zeros(2), requires_grad=False), "calls": fg.ones(1)}
        module.load_state_dict(state, assign=True)
        assert module.scale.data_ptr() == tensor.data_ptr() and isinstance(module.scale, nn.Parameter)
        assert module.shift.requires_grad and module.calls is state["calls"]

    def test_a_one_element_vector_loads_into_a_scalar(self) -> None:
        module = nn.Module()
        module.gain = nn.Parameter(fg.tensor(1.0))
        module.load_state_dict({"gain": fg.tensor([3.0])})
        assert module.gain.item() == 3.0

    def test_state_hooks(self) -> None:
        module, calls = Pair(), []
        module.first.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append(("pre", prefix)))
        module.register_state_dict_post_hook(lambda m, state, prefix, metadata: state.pop("first.calls"))
        state = module.state_dict()
        assert calls == [("pre", "first.")] and "first.calls" not in state

        def rename(m: Any, state: Any, prefix: str, *_: Any) -> None:
            state[prefix + "scale"] = state.pop(prefix + "old", None)

        def forgive(m: Any, keys: Any) -> None:
            assert m.first.scale.tolist() == [7.0, 7.0]
            keys.missing_keys.remove("first.calls")

        state["first.old"] = state.pop("first.scale") * 0 + 7
        module.first.register_load_state_dict_pre_hook(rename)
        module.register_load_state_dict_post_hook(forgive)
        module.load_state_dict(state)
        assert module.first.scale.tolist() == [7.0, 7.0]

    def test_a_post_hook_that_forgives_nothing(self) -> None:
        module, seen = Affine(), []
        module.register_load_state_dict_post_hook(lambda m, keys: seen.append(m.scale.tolist()))
        with pytest.raises(RuntimeError, match="Missing"):
            module.load_state_dict({"scale": fg.zeros(2)})
        assert seen == [[0.0, 0.0]] and module.scale.tolist() == [2.0, 2.0]

    def test_a_forgiven_key(self) -> None:
        module = Affine()
        module.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
        module.load_state_dict({"scale": fg.zeros(2)})
        assert module.scale.tolist() == [0.0, 0.0]
        module.register_load_state_dict_post_hook(lambda m, keys: keys)
        with pytest.raises(AssertionError, match="in place"):
            module.load_state_dict({"scale": fg.ones(2)})

    def test_extra_state(self) -> None:
        class Versioned(Affine):
            def get_extra_state(self) -> Any:
                return {"version": 3}

            def set_extra_state(self, state: Any) -> None:
                self.loaded = state

        module = Versioned()
        state = module.state_dict()
        assert state["_extra_state"] == {"version": 3}
        module.load_state_dict(state)
        assert module.loaded == {"version": 3}
        with pytest.raises(RuntimeError, match="_extra_state"):
            Affine().load_state_dict(state)

    def test_old_style_loading_of_a_subclass(self) -> None:
        class Renamed(Affine):
            def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
                state_dict[prefix + "scale"] = state_dict.pop(prefix + "gamma")
                super()._load_from_state_dict(state_dict, prefix, *args)

        module = nn.Sequential(Renamed())
        state = {"0.gamma": fg.zeros(2), "0.shift": fg.zeros(2), "0.calls": fg.zeros(1)}
        with pytest.raises(RuntimeError, match="shift"):
            module.load_state_dict({"0.gamma": fg.zeros(2), "0.calls": fg.zeros(1)})
        assert module[0].scale.tolist() == [2.0, 2.0]
        module.load_state_dict(state)
        assert module[0].scale.tolist() == [0.0, 0.0]

    @given(st.sets(st.sampled_from(["first.scale", "first.shift", "second.0.scale", "second.0.calls"])))
    def test_missing_keys_are_exactly_those_left_out(self, left_out: set[str]) -> None:
        module = Pair()
        state = {name: value for name, value in module.state_dict().items() if name not in left_out}
        result = module.load_state_dict(state, strict=False)
        assert set(result.missing_keys) == left_out and result.unexpected_keys == []


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_are_equal_and_apart(self, copied: Any) -> None:
        module = Pair()
        module.second[0].scale = module.first.scale
        other = copied(module)
        assert list(other.state_dict()) == list(module.state_dict())
        assert other.second[0].scale is other.first.scale and isinstance(other.first.scale, nn.Parameter)
        assert other.first.scale.requires_grad
        with fg.no_grad():
            other.first.scale.zero_()
        assert module.first.scale.tolist() == [2.0, 2.0]
        assert list(other.first._buffers) == ["calls", "scratch"] and list(other._modules) == ["first", "second"]

    def test_a_shallow_copy_shares_members_and_not_their_names(self) -> None:
        module = Affine()
        other = copy.copy(module)
        assert other.scale is module.scale
        other.extra = nn.Parameter(fg.ones(1))
        del other.shift
        assert [name for name, _ in module.named_parameters()] == ["scale", "shift"]
        assert [name for name, _ in other.named_parameters()] == ["scale", "extra"]

    def test_a_copied_parameter(self) -> None:
        parameter = nn.Parameter(fg.ones(2), requires_grad=False)
        parameter.note = "kept"
        for other in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
            assert isinstance(other, nn.Parameter) and not other.requires_grad and other.note == "kept"
            assert other.data_ptr() != parameter.data_ptr()


class TestParameter:
    def test_shares_its_data(self) -> None:
        data = fg.zeros(2)
        parameter = nn.Parameter(data)
        data[0] = 5.0
        assert parameter.tolist() == [5.0, 0.0] and parameter.is_leaf and parameter.requires_grad
        assert isinstance(parameter, fg.Tensor) and not isinstance(data, nn.Parameter)
        assert not isinstance(parameter + 1, nn.Parameter)
        assert nn.Parameter().numel() == 0

    def test_repr(self) -> None:
        assert repr(nn.Parameter(fg.ones(1))) == "Parameter containing:\ntensor([1.], requires_grad=True)"

    def test_errors(self) -> None:
        with pytest.raises(TypeError, match="must be a Tensor; got list"):
            nn.Parameter([1.0])  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="floating"):
            nn.Parameter(fg.ones(1, dtype=fg.int64))


class TestRepr:
    def test_nested(self) -> None:
        assert repr(Pair()) == (
            "Pair(\n  (first): Affine()\n  (second): Sequential(\n    (0): Affine()\n    (1): ReLU()\n  )\n)"
        )

    def test_extra_lines(self) -> None:
        class Noted(nn.Module):
            def extra_repr(self) -> str:
                return "one\ntwo"

        module = Noted()
        assert repr(module) == "Noted(\n  one\n  two\n)"
        module.child = nn.Identity()
        assert repr(module) == "Noted(\n  one\n  two\n  (child): Identity()\n)"
