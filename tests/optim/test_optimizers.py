"""SGD, Adam, AdamW and the Optimizer base: formulas against NumPy, state, state dicts, user subclasses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn, optim

Update = Callable[[Any, Any, dict], Any]


def numpy_sgd(lr: float, momentum: float, dampening: float, decay: float, nesterov: bool, maximize: bool) -> Update:
    def update(p: Any, g: Any, state: dict) -> Any:
        g = (-g if maximize else g) + decay * p
        if momentum:
            v = state["v"] = g if "v" not in state else momentum * state["v"] + (1 - dampening) * g
            g = g + momentum * v if nesterov else v
        return p - lr * g

    return update


def numpy_adam(
    lr: float, betas: tuple[float, float], eps: float, decay: float, amsgrad: bool, maximize: bool, decoupled: bool
) -> Update:
    def update(p: Any, g: Any, state: dict) -> Any:
        g = -g if maximize else g
        t = state["t"] = state.get("t", 0) + 1
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
        v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g * g
        if amsgrad:
            v = state["largest"] = np.maximum(state.get("largest", 0), v)
        return p - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return update


def check(make: Callable[[list], optim.Optimizer], update: Update, steps: int = 4) -> None:
    """Both run on the same gradients, one of which is missing at the second step."""
    random = np.random.default_rng(1)
    start = [random.normal(size=shape) for shape in [(3, 2), (4,), ()]]
    params = [nn.Parameter(fg.tensor(value, dtype=fg.float64)) for value in start]
    optimizer, states = make(params), [{} for _ in params]
    for step in range(steps):
        optimizer.zero_grad()
        for k, parameter in enumerate(params):
            if (step, k) != (1, 1):
                gradient = random.normal(size=start[k].shape)
                parameter.grad = fg.tensor(gradient, dtype=fg.float64)
                start[k] = update(start[k], gradient, states[k])
        assert optimizer.step() is None
        for parameter, expected in zip(params, start, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


class TestFormulas:
    @given(
        st.sampled_from([(0, 0, False), (0.9, 0, False), (0.9, 0.5, False), (0.9, 0, True)]),
        st.sampled_from([0.0, 0.1]), st.booleans(),
    )  # fmt: skip
    def test_sgd(self, momentum: tuple[float, float, bool], decay: float, maximize: bool) -> None:
        check(
            lambda params: optim.SGD(params, 0.1, momentum[0], momentum[1], decay, momentum[2], maximize=maximize),
            numpy_sgd(0.1, momentum[0], momentum[1], decay, momentum[2], maximize),
        )

    @given(st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans(), st.booleans())
    def test_adam(self, decay: float, amsgrad: bool, maximize: bool, decoupled: bool) -> None:
        cls = optim.AdamW if decoupled else optim.Adam
        check(
            lambda params: cls(params, 0.1, (0.8, 0.95), 1e-6, decay, amsgrad, maximize=maximize),
            numpy_adam(0.1, (0.8, 0.95), 1e-6, decay, amsgrad, maximize, decoupled),
        )

    def test_both_precisions_in_one_optimizer(self) -> None:
        params = [nn.Parameter(fg.ones(2, dtype=dtype)) for dtype in (fg.float32, fg.float64)]
        for parameter in params:
            parameter.grad = fg.ones_like(parameter)
        optim.Adam(params, lr=0.5).step()
        assert [p.tolist() for p in params] == [pytest.approx([0.5, 0.5], rel=1e-6)] * 2


FACTORIES = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: optim.Adam(params, lr=0.1),
    "amsgrad": lambda params: optim.AdamW(params, lr=0.1, amsgrad=True),
}


def gradients(params: list, step: int) -> None:
    for number, parameter in enumerate(params):
        parameter.grad = fg.full_like(parameter, float(step + number + 1)) * parameter.detach().cos()


def run(optimizer: optim.Optimizer, params: list, steps: range) -> None:
    for step in steps:
        gradients(params, step)
        optimizer.step()


def values(params: list) -> list:
    return [parameter.tolist() for parameter in params]


@pytest.mark.parametrize("name", FACTORIES)
class TestState:
    def test_a_loaded_optimizer_continues(self, name: str) -> None:
        params = [nn.Parameter(fg.randn(3)), nn.Parameter(fg.randn(2, 2))]
        optimizer = FACTORIES[name](params)
        run(optimizer, params, range(3))
        state = optimizer.state_dict()
        others = [nn.Parameter(p.detach().clone()) for p in params]
        other = FACTORIES[name](others)
        other.load_state_dict(state)
        run(optimizer, params, range(3, 6))
        run(other, others, range(3, 6))
        assert values(others) == values(params)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
    def test_copies_continue(self, name: str, copied: Any) -> None:
        params = [nn.Parameter(fg.randn(3))]
        optimizer = FACTORIES[name](params)
        run(optimizer, params, range(3))
        others, other = copied((params, optimizer))
        assert other.param_groups[0]["params"][0] is others[0]
        run(optimizer, params, range(3, 5))
        run(other, others, range(3, 5))
        assert values(others) == values(params)

    def test_a_changed_state_counts(self, name: str) -> None:
        params = [nn.Parameter(fg.zeros(1)), nn.Parameter(fg.zeros(1))]
        optimizer = FACTORIES[name](params)
        run(optimizer, params, range(2))
        optimizer.state.clear()
        fresh_params = [nn.Parameter(p.detach().clone()) for p in params]
        fresh = FACTORIES[name](fresh_params)
        run(optimizer, params, range(2, 4))
        run(fresh, fresh_params, range(2, 4))
        assert values(params) == values(fresh_params)

    def test_groups(self, name: str) -> None:
        first, second = nn.Parameter(fg.ones(1)), nn.Parameter(fg.ones(1))
        optimizer = FACTORIES[name]([{"params": [first]}])
        gradients([first], 0)
        optimizer.step()
        optimizer.add_param_group({"params": second, "lr": 0.0, **({"weight_decay": 0.0})})
        gradients([first, second], 1)
        before = first.item()
        optimizer.step()
        assert first.item() != before and second.item() == 1.0
        optimizer.param_groups[1]["lr"] = 0.5
        optimizer.step()
        assert second.item() != 1.0

    def test_a_group_that_grows(self, name: str) -> None:
        first, second = nn.Parameter(fg.ones(1)), nn.Parameter(fg.ones(1))
        optimizer = FACTORIES[name]([first])
        run(optimizer, [first], range(2))
        optimizer.param_groups[0]["params"].append(second)
        run(optimizer, [first, second], range(2))
        assert second.item() != 1.0
        optimizer.param_groups[0]["params"] = [second]
        before = first.item()
        run(optimizer, [second], range(1))
        assert first.item() == before

    def test_closure(self, name: str) -> None:
        parameter = nn.Parameter(fg.tensor([2.0]))
        optimizer = FACTORIES[name]([parameter])

        def closure() -> Any:
            optimizer.zero_grad()
            loss = (parameter * parameter).sum()
            loss.backward()
            return loss

        with fg.no_grad():
            assert optimizer.step(closure).item() == 4.0
        assert parameter.item() < 2.0

    def test_zero_grad(self, name: str) -> None:
        params = [nn.Parameter(fg.ones(1)), nn.Parameter(fg.ones(1))]
        optimizer = FACTORIES[name](params)
        params[0].grad = fg.ones(1)
        optimizer.zero_grad(set_to_none=False)
        assert params[0].grad.tolist() == [0.0] and params[1].grad is None
        optimizer.zero_grad()
        assert params[0].grad is None


class TestStateDict:
    def test_layout(self) -> None:
        params = [nn.Parameter(fg.ones(2)), nn.Parameter(fg.ones(1))]
        adam, sgd = optim.Adam(params), optim.SGD(params, momentum=0.5)
        assert adam.state_dict()["state"] == {}
        params[0].grad = fg.ones(2)
        adam.step()
        sgd.step()
        state = adam.state_dict()
        assert list(state["state"]) == [0] and list(state["state"][0]) == ["step", "exp_avg", "exp_avg_sq"]
        assert state["state"][0]["step"].item() == 1.0
        assert state["param_groups"][0]["params"] == [0, 1] and state["param_groups"][0]["betas"] == (0.9, 0.999)
        assert list(sgd.state_dict()["state"][0]) == ["momentum_buffer"]
        assert sgd.state[params[0]]["momentum_buffer"].tolist() == [1.0, 1.0]

    def test_a_parameter_without_gradient_makes_no_step(self) -> None:
        params = [nn.Parameter(fg.ones(1)), nn.Parameter(fg.ones(1))]
        adam = optim.Adam(params)
        for step in range(3):
            params[0].grad = fg.ones(1)
            params[1].grad = fg.ones(1) if step == 1 else None
            adam.step()
        assert [adam.state[p]["step"].item() for p in params] == [3.0, 1.0]

    def test_loading_copies_and_casts(self) -> None:
        source, target = nn.Parameter(fg.ones(2)), nn.Parameter(fg.ones(2, dtype=fg.float64))
        first, second = optim.Adam([source]), optim.Adam([target], lr=5.0)
        run(first, [source], range(1))
        state = first.state_dict()
        second.load_state_dict(state)
        loaded = second.state[target]
        assert loaded["exp_avg"].dtype is fg.float64 and loaded["step"].dtype is fg.float32
        assert second.param_groups[0]["lr"] == 1e-3 and second.param_groups[0]["params"][0] is target
        run(second, [target], range(1))
        assert first.state[source]["step"].item() == 1.0

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda s: s["param_groups"].append(s["param_groups"][0]), "different number of parameter groups"),
            (lambda s: s["param_groups"][0]["params"].append(7), "doesn't match the size"),
        ],
    )
    def test_loading_errors(self, change: Callable, text: str) -> None:
        parameter = nn.Parameter(fg.ones(1))
        optimizer = optim.Adam([parameter])
        run(optimizer, [parameter], range(1))
        state = copy.deepcopy(optimizer.state_dict())
        change(state)
        with pytest.raises(ValueError, match=text):
            optimizer.load_state_dict(state)
        assert optimizer.state[parameter]["step"].item() == 1.0

    def test_state_of_the_wrong_shape(self) -> None:
        parameter = nn.Parameter(fg.ones(2))
        parameter.grad = fg.ones(2)
        adam, sgd = optim.Adam([parameter]), optim.SGD([parameter], momentum=0.9)
        adam.state[parameter] = {"step": fg.tensor(1.0), "exp_avg": fg.ones(1), "exp_avg_sq": fg.ones(2)}
        with pytest.raises(RuntimeError, match=r"exp_avg must be .* \(2,\); got .* \(1,\)"):
            adam.step()
        adam.state[parameter] = {"exp_avg": fg.ones(2)}
        with pytest.raises(KeyError, match="must have step"):
            adam.step()
        sgd.state[parameter]["momentum_buffer"] = 3
        with pytest.raises(RuntimeError, match=r"momentum_buffer must be .* got int"):
            sgd.step()
        assert parameter.tolist() == [1.0, 1.0]


class TestReplacedData:
    """`p.data = ...` may change a parameter's shape after the optimizer has made its plan."""

    @pytest.mark.parametrize("name", ["momentum", "adam", "amsgrad"])
    def test_state_of_the_old_shape(self, name: str) -> None:
        parameter = nn.Parameter(fg.ones(2))
        optimizer = FACTORIES[name]([parameter])
        run(optimizer, [parameter], range(2))
        parameter.data, parameter.grad = fg.ones(3), None
        parameter.grad = fg.ones(3)
        with pytest.raises(RuntimeError, match=r"state of a parameter .* \(2,\) for .* \(3,\)"):
            optimizer.step()
        assert parameter.tolist() == [1.0, 1.0, 1.0]
        optimizer.state.clear()
        optimizer.step()
        assert parameter[0].item() < 1.0

    @pytest.mark.parametrize("name", FACTORIES)
    def test_gradient_of_the_old_shape(self, name: str) -> None:
        parameters = [nn.Parameter(fg.ones(2)), nn.Parameter(fg.ones(2))]
        optimizer = FACTORIES[name](parameters)
        for parameter in parameters:
            parameter.grad = fg.ones(2)
        parameters[1].data = fg.ones(3)
        with pytest.raises(RuntimeError, match="gradients of their dtype and shape"):
            optimizer.step()
        assert parameters[0].tolist() == [1.0, 1.0]
        parameters[1].grad = None
        optimizer.step()
        assert parameters[0].tolist() == pytest.approx([0.9, 0.9], abs=2e-3)


class TestBase:
    def test_names_and_repr(self) -> None:
        net = nn.Linear(2, 1)
        optimizer = optim.SGD(net.named_parameters(), lr=0.5)
        assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
        assert repr(optim.SGD(net.parameters(), lr=0.5)).startswith("SGD (\nParameter Group 0\n    dampening: 0\n")

    @pytest.mark.parametrize(
        ("make", "error", "text"),
        [
            (lambda p: optim.SGD([], 0.1), ValueError, "empty parameter list"),
            (lambda p: optim.SGD(p, 0.1), TypeError, "got a Tensor"),
            (lambda p: optim.SGD([3], 0.1), TypeError, "only Tensors"),
            (lambda p: optim.SGD([p * 2], 0.1), ValueError, "non-leaf"),
            (lambda p: optim.SGD([{"params": {p}}], 0.1), TypeError, "got a set"),
            (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}], 0.1), ValueError, "more than one parameter group"),
            (lambda p: optim.SGD([p]).add_param_group([p]), TypeError, "must be a dict"),
            (lambda p: optim.SGD([("a", p), nn.Parameter(fg.ones(1))]), ValueError, "all parameters or none"),
            (
                lambda p: optim.SGD([p]).add_param_group({"params": [("a", fg.ones(1))]}),
                ValueError,
                "all groups or none",
            ),
            (lambda p: optim.SGD([p], -1.0), ValueError, "lr must be at least 0; got -1.0"),
            (lambda p: optim.SGD([p], float("nan")), ValueError, "lr must be at least 0"),
            (lambda p: optim.SGD([p], momentum=-1), ValueError, "momentum must be"),
            (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs"),
            (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ValueError, r"betas\[0\] must be"),
            (lambda p: optim.Adam([p], eps=-1.0), ValueError, "eps must be"),
            (lambda p: optim.Adam([p], capturable=True), ValueError, "capturable is not supported"),
            (lambda p: optim.SGD([p], differentiable=True), ValueError, "differentiable is not supported"),
            (lambda p: optim.SGD([p], foreach=True, fused=True), RuntimeError, "exclude each other"),
            (lambda p: optim.Optimizer([p], {}).step(), NotImplementedError, "must define step"),
        ],
    )
    def test_errors(self, make: Callable, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            make(nn.Parameter(fg.ones(1)))

    def test_duplicates_warn(self) -> None:
        parameter = nn.Parameter(fg.ones(1))
        with pytest.warns(UserWarning, match="duplicates"):
            optim.SGD([parameter, parameter])

    def test_a_subclass_with_state_of_its_own(self) -> None:
        class Counting(optim.Optimizer):
            def __init__(self, params: Any, lr: float) -> None:
                super().__init__(params, {"lr": lr})

            @fg.no_grad()
            def step(self, closure: Any = None) -> None:
                for group in self.param_groups:
                    for p in group["params"]:
                        state = self.state[p]
                        state["calls"] = state.get("calls", 0) + 1
                        state.setdefault("sum", fg.zeros_like(p)).add_(p.grad)
                        p.add_(state["sum"], alpha=-group["lr"])

        parameter = nn.Parameter(fg.ones(1))
        optimizer = Counting([parameter], 0.5)
        for _ in range(2):
            parameter.grad = fg.ones(1)
            optimizer.step()
        assert parameter.item() == -0.5 and optimizer.state_dict()["state"][0]["calls"] == 2
        other = Counting([nn.Parameter(fg.ones(1))], 0.1)
        other.load_state_dict(optimizer.state_dict())
        assert other.state[other.param_groups[0]["params"][0]]["sum"].item() == 2.0
