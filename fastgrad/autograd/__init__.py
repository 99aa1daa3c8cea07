"""Automatic differentiation: the engine's entry points, one's own Functions, checks of gradients."""

from fastgrad._core.autograd import (
    backward,
    detect_anomaly,
    enable_grad,
    grad,
    inference_mode,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from fastgrad._core.function import Function
from fastgrad.autograd import function, graph
from fastgrad.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from fastgrad.autograd.variable import Variable

__all__ = [
    "Function", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad", "function", "grad",
    "gradcheck", "gradgradcheck", "graph", "inference_mode", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
