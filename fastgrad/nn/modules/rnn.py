"""Elman recurrent networks: RNNCell, one step, and RNN, whole sequences through stacked layers.

J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990). Parameter names, shapes, initial values and
errors are those of PyTorch's `nn.RNNCell` and `nn.RNN`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor, recurrent_cell, recurrent_layer
from fastgrad.nn import init
from fastgrad.nn.modules.module import Module
from fastgrad.nn.parameter import Parameter


class _RNNBase(Module):
    hidden_size: int

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in [-k, k] with k = 1/sqrt(hidden_size)."""
        stdv = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -stdv, stdv)


class RNNCell(_RNNBase):
    """h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh) with f = tanh or relu.

    Input (B, input_size) or (input_size,), hidden and output (B, hidden_size) or (hidden_size,).

    >>> import fastgrad as torch
    >>> cell = torch.nn.RNNCell(3, 4, nonlinearity="relu")
    >>> cell(torch.ones(2, 3), torch.zeros(2, 4)).shape
    fastgrad.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.nonlinearity = nonlinearity
        self.weight_ih = Parameter(_core.empty((hidden_size, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(_core.empty((hidden_size, hidden_size), device=device, dtype=dtype))
        self.bias_ih: Parameter | None
        self.bias_hh: Parameter | None
        for name in ("bias_ih", "bias_hh"):
            empty = Parameter(_core.empty(hidden_size, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, empty)
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if input.ndim == 2 and (hx is None or hx.ndim == 2):
            cell = "rnn_" + self.nonlinearity
            return recurrent_cell(cell, input, hx, None, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        for name, tensor in (("input", input), ("hidden", hx)):
            if tensor is not None and tensor.ndim not in (1, 2):
                raise ValueError(f"[RNNCell] {name} must be 1-d or 2-d; got {tensor.ndim}-d")
        if hx is not None and hx.ndim != input.ndim:
            raise RuntimeError(f"[RNNCell] hidden must be {input.ndim}-d as input is; got {hx.ndim}-d")
        return self.forward(input.unsqueeze(0), None if hx is None else hx.unsqueeze(0)).squeeze(0)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        if self.bias is not True:
            parts.append(f"bias={self.bias}")
        if self.nonlinearity != "tanh":
            parts.append(f"nonlinearity={self.nonlinearity}")
        return ", ".join(parts)


class RNN(_RNNBase):
    """h_t = f(x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh) over whole sequences, f = tanh or relu.

    Input (T, B, input_size), with `batch_first` (B, T, input_size), or (T, input_size) for one sequence; `hx`
    (num_layers * directions, B, hidden_size), zeros when not given. Returns the outputs of the last layer at every
    step and the last states of all layers. Between layers elements are dropped with probability `dropout` while
    training. One layer in one direction is one launch forward and one backward.

    >>> import fastgrad as torch
    >>> output, h_n = torch.nn.RNN(8, 32, num_layers=2, nonlinearity="relu")(torch.ones(5, 3, 8))
    >>> output.shape, h_n.shape
    (fastgrad.Size([5, 3, 32]), fastgrad.Size([2, 3, 32]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[RNN] nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}")
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise ValueError(f"[RNN] dropout must be a number in [0, 1]; got {dropout!r}")
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"[RNN] {name} must be a bool; got {type(flag).__name__}")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"[RNN] {name} must be an int; got {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"[RNN] {name} must be greater than zero; got {size}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"[RNN] dropout acts between layers only; got dropout={dropout}, num_layers=1", stacklevel=2)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.nonlinearity = nonlinearity
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self._weight_names: list[tuple[str, ...]] = []
        directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            for direction in range(directions):
                suffix = f"_l{layer}{'_reverse' if direction else ''}"
                inputs = input_size if layer == 0 else hidden_size * directions
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (hidden_size, inputs), "weight_hh": (hidden_size, hidden_size),
                    "bias_ih": (hidden_size,), "bias_hh": (hidden_size,),
                }  # fmt: skip
                for name in list(shapes)[: 4 if bias else 2]:
                    setattr(self, name + suffix, Parameter(_core.empty(shapes[name], device=device, dtype=dtype)))
                self._weight_names.append(tuple(name + suffix for name in shapes))
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batched = input.ndim == 3
        self._check(input, hx)
        if batched:
            x = input.transpose(0, 1) if self.batch_first else input
        else:
            x = input.unsqueeze(1)
            hx = None if hx is None else hx.unsqueeze(1)
        directions = 2 if self.bidirectional else 1
        last_states = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = _core.dropout(x, self.dropout, True)
            first = layer * directions
            weights: list[Any] = []
            for names in self._weight_names[first : first + directions]:
                weights += [*(getattr(self, name, None) for name in names), None]
            h_0 = None if hx is None else hx[first : first + directions]
            x, h_n = recurrent_layer("rnn_" + self.nonlinearity, x, h_0, None, weights)
            last_states.append(h_n)
        h_n = last_states[0] if len(last_states) == 1 else _core.cat(last_states)
        if not batched:
            return x.squeeze(1), h_n.squeeze(1)
        return (x.transpose(0, 1) if self.batch_first else x), h_n

    def _check(self, input: Tensor, hx: Tensor | None) -> None:
        ndim = input.ndim
        if ndim not in (2, 3):
            raise ValueError(f"[RNN] input must be 2-d or 3-d; got {ndim}-d")
        shape = input.shape
        if shape[-1] != self.input_size:
            raise RuntimeError(
                f"[RNN] input.size(-1) must equal input_size; got {shape[-1]}, expected {self.input_size}"
            )
        if shape[1 if self.batch_first and ndim == 3 else 0] == 0:
            raise RuntimeError(f"[RNN] the sequence must have at least one step; got input {tuple(shape)}")
        dtype = self._parameters["weight_ih_l0"].dtype
        if input.dtype is not dtype:
            raise ValueError(f"[RNN] input must have the weights' dtype; got {input.dtype}, weights {dtype}")
        if hx is not None:
            if hx.ndim != ndim:
                raise RuntimeError(f"[RNN] for {ndim}-d input hx must be {ndim}-d too; got {hx.ndim}-d")
            states = self.num_layers * (2 if self.bidirectional else 1)
            batch = () if ndim == 2 else (shape[0 if self.batch_first else 1],)
            expected = (states, *batch, self.hidden_size)
            if tuple(hx.shape) != expected:
                raise RuntimeError(f"[RNN] hx must have shape {expected}; got {tuple(hx.shape)}")

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of every layer and direction."""
        return [[getattr(self, name) for name in names[: 4 if self.bias else 2]] for names in self._weight_names]

    def flatten_parameters(self) -> None:
        """Nothing to do: the kernels pack the weights themselves. Programs written for PyTorch call it."""

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        parts += [
            f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default
        ]
        return ", ".join(parts)
