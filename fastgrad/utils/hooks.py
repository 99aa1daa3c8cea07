"""Hooks: the handle that takes one away, and the taps through which a module's backward hooks see gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastgrad._core import Function, Tensor, is_grad_enabled
from fastgrad._core.autograd import RemovableHandle

__all__ = ["BackwardHooks", "GradientTap", "RemovableHandle"]


class GradientTap(Function):
    """The identity on tensors, whose backward pass hands the gradients to a callback and returns what it returns."""

    @staticmethod
    def forward(ctx: Any, callback: Callable, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors as they are; `callback` is kept for the backward pass."""
        ctx.callback = callback
        ctx.set_materialize_grads(False)
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        return None, *ctx.callback(grads)


class BackwardHooks:
    """One call of a module that has full backward hooks: taps on its tensor inputs and outputs."""

    def __init__(self, module: Any, pre_hooks: list[Callable], hooks: list[Callable]) -> None:
        self.module = module
        self.pre_hooks = pre_hooks
        self.hooks = hooks
        self.input_positions: list[int] = []
        self.input_count = 0
        self.grad_output: tuple = ()

    def tap(self, values: tuple, callback: Callable) -> tuple[tuple, list[int]]:
        """The values with a tap on those that need a gradient, and where these are."""
        positions = [k for k, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
        if not positions or not is_grad_enabled():
            return values, []
        tapped = GradientTap.apply(callback, *(values[k] for k in positions))
        changed = list(values)
        for k, tensor in zip(positions, tapped if isinstance(tapped, tuple) else (tapped,), strict=True):
            changed[k] = tensor
        return tuple(changed), positions

    def tap_input(self, args: tuple) -> tuple:
        """The module's arguments, tapped."""
        self.input_count = len(args)
        args, self.input_positions = self.tap(args, self.on_grad_input)
        return args

    def tap_output(self, result: Any) -> Any:
        """The module's result, tapped: a tensor, or a tuple or list in which there are tensors."""
        single = isinstance(result, Tensor)
        if not single and not isinstance(result, (tuple, list)):
            return result
        values = (result,) if single else tuple(result)
        self.output_count = len(values)
        values, self.output_positions = self.tap(values, self.on_grad_output)
        if single:
            return values[0]
        return type(result)(*values) if hasattr(result, "_fields") else type(result)(values)

    def on_grad_output(self, grads: tuple) -> tuple:
        """Run the pre-hooks on the gradients of the result; the hooks too where no argument needs a gradient."""
        spread: list = [None] * self.output_count
        for k, grad in zip(self.output_positions, grads, strict=True):
            spread[k] = grad
        for hook in self.pre_hooks:
            changed = hook(self.module, tuple(spread))
            if changed is not None:
                spread = list(_as_gradients(changed, len(spread), "full_backward_pre_hook"))
        self.grad_output = tuple(spread)
        if not self.input_positions:
            for hook in self.hooks:
                changed = hook(self.module, (None,) * self.input_count, self.grad_output)
                if changed is not None and not all(grad is None for grad in changed):
                    raise RuntimeError(
                        "[full_backward_hook] the hook must return None or (None, ...) for a module whose inputs need "
                        f"no gradient; got {type(changed).__name__}"
                    )
        return tuple(spread[k] for k in self.output_positions)

    def on_grad_input(self, grads: tuple) -> tuple:
        """Run the hooks on the gradients of the arguments."""
        spread: list = [None] * self.input_count
        for k, grad in zip(self.input_positions, grads, strict=True):
            spread[k] = grad
        for hook in self.hooks:
            changed = hook(self.module, tuple(spread), self.grad_output)
            if changed is not None:
                spread = list(_as_gradients(changed, len(spread), "full_backward_hook"))
        self.grad_output = ()  # under create_graph it would close a cycle through the graph
        return tuple(spread[k] for k in self.input_positions)


def _as_gradients(returned: Any, count: int, kind: str) -> tuple:
    gradients = returned if isinstance(returned, tuple) else (returned,)
    if len(gradients) != count:
        raise RuntimeError(f"[{kind}] the hook must return {count} gradients; got {len(gradients)}")
    return gradients
