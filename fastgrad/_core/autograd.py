"""Automatic differentiation under one name, whose parts are compiled modules of one family each."""

from fastgrad._core.engine import backward, grad, has_whole_backward, tensor_backward
from fastgrad._core.grad_mode import (
    GradMode,
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from fastgrad._core.graph import AccumulateGrad, Node
from fastgrad._core.hooks import (
    RemovableHandle,
    register_hook,
    register_post_accumulate_grad_hook,
    retain_grad,
    retains_grad,
)
from fastgrad._core.packing import pop_saved_tensors_hooks, push_saved_tensors_hooks, refuse_saved_tensors_hooks

__all__ = [
    "AccumulateGrad", "GradMode", "Node", "RemovableHandle", "backward", "detect_anomaly", "enable_grad", "grad",
    "has_whole_backward", "inference_mode", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "pop_saved_tensors_hooks", "push_saved_tensors_hooks",
    "refuse_saved_tensors_hooks", "register_hook", "register_post_accumulate_grad_hook", "retain_grad",
    "retains_grad", "set_detect_anomaly", "set_grad_enabled", "tensor_backward",
]  # fmt: skip
