"""Neural networks: modules, parameters, functions, initial values. The names are those of PyTorch's `torch.nn`."""

from fastgrad.nn import functional, init, modules, utils
from fastgrad.nn.modules import *  # noqa: F403
from fastgrad.nn.modules import __all__ as _modules
from fastgrad.nn.parameter import Buffer, Parameter

__all__ = ["Buffer", "Parameter", "functional", "init", "modules", "utils", *_modules]
