"""Optimizer: parameter groups, per-parameter state, state dicts. Semantics: PyTorch's `torch.optim.Optimizer`.

The built-in optimizers update all parameters of a group in one launch. What the launch needs as lists is derived from
the groups and the state once and kept as a plan; every change to the state drops the plans.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor, enable_grad


class _WatchedDict(dict):
    """A dict that empties `plans`, which were derived from it, whenever it is changed."""

    __slots__ = ("plans",)

    def __init__(self, plans: dict[int, Any], *items: Any) -> None:
        super().__init__(*items)
        self.plans = plans


def _watch(name: str) -> Callable:
    method = getattr(dict, name)

    def change(self: _WatchedDict, *args: Any, **kwargs: Any) -> Any:
        self.plans.clear()
        return method(self, *args, **kwargs)

    return change


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(_WatchedDict, _name, _watch(_name))


class _State(_WatchedDict):
    """Parameter -> its state; a parameter asked for the first time gets an empty one."""

    __slots__ = ()

    def __missing__(self, parameter: Any) -> _WatchedDict:
        self[parameter] = {}
        return self[parameter]

    def __setitem__(self, parameter: Any, state: Any) -> None:
        self.plans.clear()
        dict.__setitem__(self, parameter, _WatchedDict(self.plans, state) if isinstance(state, dict) else state)


class Optimizer:
    """Base class of all optimizers; a subclass defines `step`.

    `params` are tensors, or (name, tensor) pairs, or dicts with "params" and options of their own; `defaults` are the
    options of groups that do not say otherwise.

    >>> import fastgrad as torch
    >>> class SignDescent(torch.optim.Optimizer):
    ...     def __init__(self, params, lr):
    ...         super().__init__(params, {"lr": lr})
    ...     @torch.no_grad()
    ...     def step(self, closure=None):
    ...         for group in self.param_groups:
    ...             for p in group["params"]:
    ...                 p.sub_(p.grad.sign(), alpha=group["lr"])
    >>> w = torch.nn.Parameter(torch.tensor([1., -2.]))
    >>> (w * w).sum().backward()
    >>> SignDescent([w], lr=0.5).step(); w.tolist()
    [0.5, -1.5]
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("[Optimizer] params must be an iterable of Tensors or dicts; got a Tensor")
        self.defaults = defaults
        self._plans: dict[int, Any] = {}
        self._state = _State(self._plans)
        self.param_groups: list[dict[str, Any]] = []
        listed = list(params)
        if not listed:
            raise ValueError("optimizer got an empty parameter list")
        for group in listed if isinstance(listed[0], dict) else [{"params": listed}]:
            self.add_param_group(group)

    @property
    def state(self) -> _State:
        """Parameter -> dict of what the optimizer remembers of it."""
        return self._state

    @state.setter
    def state(self, value: Mapping[Any, Any]) -> None:
        self._plans.clear()
        self._state = _State(self._plans)
        for parameter, state in value.items():
            self._state[parameter] = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, e.g. `{"params": layer.parameters(), "lr": 1e-4}`."""
        if not isinstance(param_group, dict):
            raise TypeError(f"[add_param_group] param_group must be a dict; got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("[add_param_group] params must be in an order, such as a list; got a set")
        listed = [params] if isinstance(params, Tensor) else list(params)
        names = [item[0] for item in listed if isinstance(item, tuple)]
        if names and len(names) != len(listed):
            raise ValueError("[add_param_group] all parameters or none must have names; got both kinds")
        listed = [item[1] for item in listed] if names else listed
        for parameter in listed:
            if not isinstance(parameter, Tensor):
                raise TypeError(f"[add_param_group] only Tensors can be optimized; got {type(parameter).__name__}")
            if not parameter.is_leaf and not parameter.retains_grad:
                raise ValueError("can't optimize a non-leaf Tensor")
        if len({id(parameter) for parameter in listed}) != len(listed):
            warnings.warn(
                "[add_param_group] a parameter group should have a parameter once; got duplicates", stacklevel=3
            )
        if any(bool(names) != ("param_names" in group) for group in self.param_groups):
            raise ValueError("[add_param_group] all groups or none must have names; got both kinds")
        known = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        if not known.isdisjoint(map(id, listed)):
            raise ValueError("some parameters appear in more than one parameter group")
        param_group["params"] = listed
        if names:
            param_group["param_names"] = names
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters: to None, or to zeros with `set_to_none=False`."""
        for group in self.param_groups:
            if set_to_none:
                _core.clear_grads(group["params"])
            else:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad = _core.zeros_like(parameter.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters; `closure`, if given, computes the loss and its gradients again and is returned."""
        raise NotImplementedError(f"[Optimizer] {type(self).__name__} must define step")

    @staticmethod
    def _loss(closure: Callable[[], Any]) -> Any:
        with enable_grad():
            return closure()

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {number: ...}, "param_groups": [...]}`, parameters being numbered in the order of the groups."""
        groups = []
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed = {name: value for name, value in group.items() if name != "params"}
            groups.append({**packed, "params": [numbers[id(parameter)] for parameter in group["params"]]})
        state = {
            numbers.get(id(key), key) if isinstance(key, Tensor) else key: dict(value)
            if isinstance(value, dict)
            else value
            for key, value in self._state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state dict: state and options are copied, the state in the parameters' dtypes."""
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if [len(group["params"]) for group in saved_groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        parameters: dict[Any, Tensor] = {}
        for saved, group in zip(saved_groups, self.param_groups, strict=True):
            parameters.update(zip(saved["params"], group["params"], strict=True))
        state = {
            parameters.get(key, key): _copied(value, parameters[key]) if key in parameters else copy.deepcopy(value)
            for key, value in state_dict["state"].items()
        }
        groups = [
            {
                **copy.deepcopy({name: value for name, value in saved.items() if name != "params"}),
                "params": group["params"],
            }
            for saved, group in zip(saved_groups, self.param_groups, strict=True)
        ]
        self.state = state
        self.param_groups = groups

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_plans", "_state")}
        return {**kept, "state": {key: dict(value) for key, value in self._state.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self._plans = {}
        self.state = state.pop("state")
        self.__dict__.update(state)

    def __repr__(self) -> str:
        lines = []
        for number, group in enumerate(self.param_groups):
            options = [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
            lines += [f"Parameter Group {number}", *options]
        return f"{type(self).__name__} (" + "".join(f"\n{line}" for line in lines) + "\n)"


def _copied(value: Any, parameter: Tensor, name: str = "") -> Any:
    """A copy of loaded state; tensors but `step` take the parameter's dtype and device, as in PyTorch."""
    if isinstance(value, Tensor):
        copied = value.detach().clone()
        return (
            copied if name == "step" or not copied.is_floating_point() else copied.to(parameter.device, parameter.dtype)
        )
    if isinstance(value, dict):
        return {key: _copied(item, parameter, key) for key, item in value.items()}
    return copy.deepcopy(value)


def _checked(op: str, name: str, value: Any, parameter: Tensor) -> Tensor:
    """A state tensor that a launch may write: of the parameter's shape and dtype, contiguous."""
    if (
        not isinstance(value, Tensor)
        or value.shape != parameter.shape
        or value.dtype is not parameter.dtype
        or not value.is_contiguous()
    ):
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RuntimeError(
            f"[{op}] {name} must be a contiguous tensor of the parameter's dtype and shape, {parameter.dtype} "
            f"{tuple(parameter.shape)}; got {got}"
        )
    return value


def _check_options(op: str, options: dict[str, Any]) -> None:
    """Refuse negative rates and what a launch over plain memory can not do."""
    for name in ("lr", "eps", "weight_decay", "momentum"):
        if name in options and not options[name] >= 0:
            raise ValueError(f"[{op}] {name} must be at least 0; got {options[name]}")
    for k, beta in enumerate(options.get("betas", ())):
        if not 0 <= beta < 1:
            raise ValueError(f"[{op}] betas[{k}] must be in [0, 1); got {beta}")
    for name in ("differentiable", "capturable"):
        if options.get(name):
            raise ValueError(f"[{op}] {name} is not supported: the step is one launch that is not recorded; got True")
    if options.get("foreach") and options.get("fused"):
        raise RuntimeError(f"[{op}] fused and foreach exclude each other; got both True")
