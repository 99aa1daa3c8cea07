"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastgrad._core import Tensor, sgd_step
from fastgrad.optim.optimizer import Optimizer, _check_options, _checked


class _Plan:
    """The momentum buffers of a group, in the order of its parameters; None where there is none yet."""

    __slots__ = ("buffers", "complete", "params")

    def __init__(self, params: list[Tensor], buffers: list[Tensor | None]) -> None:
        self.params = params
        self.buffers = buffers
        self.complete = all(buffer is not None for buffer in buffers)


_NO_PLAN = _Plan([], [])


class SGD(Optimizer):
    """p <- p - lr v, v <- momentum v + (1 - dampening) g, g the gradient plus weight_decay p.

    At the first step v = g. With `nesterov` the step is along g + momentum v; with `maximize` it goes up. Formulas,
    arguments and state: PyTorch's `optim.SGD`. A step is one launch, so `foreach` and `fused` choose nothing.

    >>> import fastgrad as torch
    >>> w = torch.nn.Parameter(torch.tensor([2.]))
    >>> optimizer = torch.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward(); optimizer.step(); w.item()
    1.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        _check_options("SGD", defaults)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"[SGD] nesterov needs a momentum above 0 and no dampening; got momentum={momentum}, "
                f"dampening={dampening}"
            )
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None if closure is None else self._loss(closure)
        for group in self.param_groups:
            params = group["params"]
            momentum = group["momentum"]
            plan = _NO_PLAN
            if momentum:
                plan = self._plans.get(id(params), _NO_PLAN)
                if plan.params is not params or len(params) != len(plan.buffers):
                    plan = self._make_plan(params)
            try:
                sgd_step(
                    params, plan.buffers, group["lr"], momentum, group["dampening"], group["weight_decay"],
                    group["nesterov"], group["maximize"],
                )  # fmt: skip
            except BaseException:
                self._plans.clear()  # it may hold buffers that were made for this step and never filled
                raise
            if not plan.complete:
                self._keep_new_buffers(plan)
        return loss

    def _make_plan(self, params: list[Tensor]) -> _Plan:
        buffers = [self._state[p].get("momentum_buffer") if p in self._state else None for p in params]
        for parameter, buffer in zip(params, buffers, strict=True):
            if buffer is not None:
                _checked("SGD", "momentum_buffer", buffer, parameter)
        plan = self._plans[id(params)] = _Plan(params, buffers)
        return plan

    def _keep_new_buffers(self, plan: _Plan) -> None:
        for parameter, buffer in zip(plan.params, plan.buffers, strict=True):
            if buffer is not None:
                # Written past the watch: the plans of the other groups stay as they are.
                dict.__setitem__(self._state[parameter], "momentum_buffer", buffer)
        self._plans[id(plan.params)] = _Plan(plan.params, plan.buffers)
