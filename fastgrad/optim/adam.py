"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor, adam_step, has_grads
from fastgrad.optim.optimizer import Optimizer, _check_options, _checked


class _Part:
    """Parameters of a group that have a gradient and have made equally many steps, with their state."""

    __slots__ = ("exp_avg_sqs", "exp_avgs", "max_exp_avg_sqs", "params", "step", "step_tensor")

    def __init__(self, step: int) -> None:
        self.step = step
        # One tensor is the "step" of all these parameters, so that a step counts once.
        self.step_tensor = _core.tensor(float(step))
        self.params: list[Tensor] = []
        self.exp_avgs: list[Tensor] = []
        self.exp_avg_sqs: list[Tensor] = []
        self.max_exp_avg_sqs: list[Tensor] | None = None


class _Plan:
    __slots__ = ("amsgrad", "params", "parts", "present")

    def __init__(self, params: list[Tensor], present: bytes, amsgrad: bool, parts: list[_Part]) -> None:
        self.params = params
        self.present = present  # which parameters had a gradient: the others take no part, as in PyTorch
        self.amsgrad = amsgrad
        self.parts = parts


_NO_PLAN = _Plan([], b"", False, [])


class Adam(Optimizer):
    """p <- p - lr m' / (sqrt(v') + eps), m and v the running means of g and g^2, m' = m / (1 - beta1^t), v' alike.

    g is the gradient plus weight_decay p; with `amsgrad` v' is the largest so far. D. P. Kingma, J. Ba, "Adam: A Method
    for Stochastic Optimization", ICLR 2015; S. J. Reddi et al., ICLR 2018. Formulas, arguments and state: PyTorch's
    `optim.Adam`. A step is one launch, so `foreach` and `fused` choose nothing.

    >>> import fastgrad as torch
    >>> w = torch.nn.Parameter(torch.tensor([2.]))
    >>> optimizer = torch.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward(); optimizer.step(); w
    Parameter containing:
    tensor([1.5000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        _check_options(type(self).__name__, defaults)
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None if closure is None else self._loss(closure)
        for group in self.param_groups:
            params = group["params"]
            amsgrad = group["amsgrad"]
            present = has_grads(params)
            plan = self._plans.get(id(params), _NO_PLAN)
            if plan.params is not params or plan.present != present or plan.amsgrad != amsgrad:
                plan = self._make_plan(params, present, amsgrad)
            beta1, beta2 = group["betas"]
            for part in plan.parts:
                adam_step(
                    part.params, part.exp_avgs, part.exp_avg_sqs, part.max_exp_avg_sqs, part.step + 1, group["lr"],
                    beta1, beta2, group["eps"], group["weight_decay"], amsgrad, group["maximize"],
                    group["decoupled_weight_decay"],
                )  # fmt: skip
                part.step += 1
                part.step_tensor.fill_(part.step)
        return loss

    def _make_plan(self, params: list[Tensor], present: bytes, amsgrad: bool) -> _Plan:
        op = type(self).__name__
        parts: dict[int, _Part] = {}
        for parameter, has_grad in zip(params, present, strict=True):
            if not has_grad:
                continue
            state = self._state[parameter]
            # What a plan itself enters is written past the watch: it makes no plan stale.
            if not state:
                empty = {"step": 0.0, "exp_avg": _core.zeros_like(parameter), "exp_avg_sq": _core.zeros_like(parameter)}
                dict.update(state, empty)
            if amsgrad and "max_exp_avg_sq" not in state:
                dict.__setitem__(state, "max_exp_avg_sq", _core.zeros_like(parameter))
            for name in ("step", "exp_avg", "exp_avg_sq"):
                if name not in state:
                    raise KeyError(f"[{op}] the state of every parameter must have {name}; got {sorted(state)}")
            step = int(state["step"])
            part = parts.setdefault(step, _Part(step))
            part.params.append(parameter)
            part.exp_avgs.append(_checked(op, "exp_avg", state["exp_avg"], parameter))
            part.exp_avg_sqs.append(_checked(op, "exp_avg_sq", state["exp_avg_sq"], parameter))
            if amsgrad:
                part.max_exp_avg_sqs = part.max_exp_avg_sqs or []
                part.max_exp_avg_sqs.append(_checked(op, "max_exp_avg_sq", state["max_exp_avg_sq"], parameter))
            dict.__setitem__(state, "step", part.step_tensor)
        plan = self._plans[id(params)] = _Plan(params, present, amsgrad, list(parts.values()))
        return plan


class AdamW(Adam):
    """Adam whose weight decay is not part of the gradient: p <- (1 - lr weight_decay) p before the step.

    I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
