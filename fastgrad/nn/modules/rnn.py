"""Recurrent networks: RNN, LSTM and GRU over whole sequences, and their cells, one step.

Parameter names, shapes, initial values and error types are those of PyTorch's modules of the same names. A layer with
all its directions is one launch forward and one backward. In the recurrent kernels values below the smallest normal
number may count as zero, so gradients that vanish do not slow anything down.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from operator import attrgetter
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor
from fastgrad.nn import init
from fastgrad.nn.modules.module import Module
from fastgrad.nn.parameter import Parameter
from fastgrad.nn.utils.rnn import PackedSequence, checked_batch_sizes

# mode: (the name of its cell in the core, gates)
_CELLS = {"RNN_TANH": ("rnn_tanh", 1), "RNN_RELU": ("rnn_relu", 1), "LSTM": ("lstm", 4), "GRU": ("gru", 3)}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class _Recurrent(Module):
    input_size: int
    hidden_size: int
    _state_names: tuple[str, ...] = ("hx",)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in [-k, k] with k = 1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _states(self, hx: Any) -> tuple[Any, ...]:
        """The states given, by the names `_state_names`."""
        if hx is None or len(self._state_names) == 1:
            return () if hx is None else (hx,)
        if not isinstance(hx, (tuple, list)):
            raise TypeError(f"[{type(self).__name__}] hx must be a tuple (h, c); got {type(hx).__name__}")
        if len(hx) != 2:
            raise RuntimeError(f"[{type(self).__name__}] hx must be a tuple of two states (h, c); got {len(hx)}")
        return tuple(hx)

    def _check_states(self, hx: Any, shapes: Sequence[tuple[int, ...]], dtype: _core.dtype) -> None:
        op = type(self).__name__
        for name, state, shape in zip(self._state_names, self._states(hx), shapes, strict=False):
            if not isinstance(state, Tensor):
                raise TypeError(f"[{op}] {name} must be a Tensor; got {type(state).__name__}")
            if tuple(state.shape) != shape:
                raise RuntimeError(f"[{op}] {name} must have shape {shape}; got {tuple(state.shape)}")
            if state.dtype is not dtype:
                raise RuntimeError(f"[{op}] {name} must have the weights' dtype; got {state.dtype}, weights {dtype}")

    def _sizes_and_options(self, **defaults: Any) -> str:
        """For the repr: the sizes, and those of these attributes that differ from their defaults."""
        changed = [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed])


def _explain(check: Callable[[Any, Any], None], input: Any, hx: Any) -> None:
    """Raise what `check` has against the arguments of a call that failed in the core, which names operands of its own.

    So a call that is in order pays for no check but the core's.
    """
    try:
        check(input, hx)
    except Exception as explanation:
        raise explanation from None


def _pair(hx: Any) -> Any:
    """The states of an LSTM. A state that is a tensor of two, or one without its partner, must not pass for a pair."""
    if hx is None:
        return None, None
    h, c = hx
    if h is None or c is None or isinstance(hx, Tensor):
        raise TypeError("hx must be a pair")
    return hx


def _unsqueezed(state: Tensor | None, dim: int) -> Tensor | None:
    return None if state is None else state.unsqueeze(dim)


class RNNBase(_Recurrent):
    """What RNN, LSTM and GRU have in common: their options, their parameters, the way through the layers.

    `mode` is "RNN_TANH", "RNN_RELU", "LSTM" or "GRU". Raises ValueError for a size or dropout out of range and
    TypeError for an argument of another type.

    >>> import fastgrad as torch
    >>> [name for name, parameter in torch.nn.RNNBase("GRU", 2, 3).named_parameters()]
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """

    _absent = None

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._check_options()
        self.dropout = float(dropout)
        self._cell, gates = _CELLS[mode]
        state_size, rows = proj_size or hidden_size, gates * hidden_size
        present = (True, True, bias, bias, proj_size > 0)
        suffixes = ("", "_reverse") if bidirectional else ("",)
        self._all_weights: list[list[str]] = []
        # For each layer what gathers its weights: a cached list would be stale as soon as one is replaced.
        self._weights_of_layers: list[Any] = []
        for layer in range(num_layers):
            inputs = state_size * len(suffixes) if layer else input_size
            shapes = ((rows, inputs), (rows, state_size), (rows,), (rows,), (proj_size, hidden_size))
            operands: list[str] = []
            for suffix in suffixes:
                names = [f"{name}_l{layer}{suffix}" for name in _WEIGHTS]
                for name, shape, is_there in zip(names, shapes, present, strict=True):
                    if is_there:
                        setattr(self, name, Parameter(_core.empty(shape, device=device, dtype=dtype)))
                    operands.append(name if is_there else "_absent")
                self._all_weights.append([name for name in names if name in operands])
            self._weights_of_layers.append(attrgetter(*operands))
        self.reset_parameters()

    def _check_options(self) -> None:
        op, dropout = type(self).__name__, self.dropout
        if self.mode not in _CELLS:
            raise ValueError(f"[{op}] mode must be one of {', '.join(_CELLS)}; got {self.mode!r}")
        if not isinstance(dropout, (Real, str)):
            raise TypeError(f"[{op}] dropout must be a number; got {type(dropout).__name__}")
        if isinstance(dropout, (bool, str)) or not 0 <= dropout <= 1:
            raise ValueError(f"[{op}] dropout must be a number in [0, 1]; got {dropout!r}")
        if dropout > 0 and self.num_layers == 1:
            warnings.warn(f"[{op}] dropout acts between layers only; got dropout={dropout}, num_layers=1", stacklevel=4)
        for name in ("bias", "batch_first"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"[{op}] {name} must be a bool; got {type(getattr(self, name)).__name__}")
        for name, smallest in (("input_size", 1), ("hidden_size", 1), ("num_layers", 1), ("proj_size", 0)):
            size = getattr(self, name)
            if not isinstance(size, int):
                raise TypeError(f"[{op}] {name} must be an int; got {type(size).__name__}")
            if size < smallest:
                raise ValueError(f"[{op}] {name} must be at least {smallest}; got {size}")
        if self.proj_size and self.mode != "LSTM":
            raise ValueError(f"[{op}] proj_size is an option of LSTM only; got {self.proj_size}, mode {self.mode}")
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"[{op}] proj_size must be smaller than hidden_size; got {self.proj_size}, hidden_size "
                f"{self.hidden_size}"
            )

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """The outputs of the last layer, packed if the input is, and the last states of all layers."""
        try:
            return self._run(input, hx, None)
        except Exception:
            _explain(self._check, input, hx)
            raise

    def _run(self, input: Any, h: Tensor | None, c: Tensor | None) -> Sequence[Any]:
        """The outputs, h_n and, of an LSTM, c_n."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, h, c)
        if input.ndim == 3:
            if not self.batch_first:
                return self._run_layers(input, h, c)
            y, *last = self._run_layers(input.transpose(0, 1), h, c)
            return y.transpose(0, 1), *last
        y, *last = self._run_layers(input.unsqueeze(1), _unsqueezed(h, 1), _unsqueezed(c, 1))
        return y.squeeze(1), *[state.squeeze(1) for state in last]

    def _run_packed(self, input: PackedSequence, h: Tensor | None, c: Tensor | None) -> Sequence[Any]:
        # First, because sorting the rows of a state that has too many would silently drop some.
        self._check(input, h if c is None else (h, c))
        x, batch_sizes, sorted_indices, unsorted_indices = input
        if sorted_indices is not None:
            h = None if h is None else h.index_select(1, sorted_indices)
            c = None if c is None else c.index_select(1, sorted_indices)
        y, *last = self._run_layers(x, h, c, batch_sizes)
        if unsorted_indices is not None:
            last = [state.index_select(1, unsorted_indices) for state in last]
        return PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices), *last

    def _run_layers(self, x: Tensor, h: Tensor | None, c: Tensor | None, batch_sizes: Tensor | None = None) -> Any:
        cell, layers = self._cell, self._weights_of_layers
        if len(layers) == 1:
            return _core.recurrent_layer(cell, x, h, c, layers[0](self), batch_sizes)
        directions = 2 if self.bidirectional else 1
        initial = [[None] * len(layers) if state is None else state.split(directions) for state in (h, c)]
        lasts: list[Sequence[Tensor]] = []
        for weights, h_0, c_0 in list(zip(layers, *initial, strict=True)):
            if lasts and self.dropout and self.training:
                x = _core.dropout(x, self.dropout, True)
            x, *last = _core.recurrent_layer(cell, x, h_0, c_0, weights(self), batch_sizes)
            lasts.append(last)
        return x, *(_core.cat(states) for states in zip(*lasts, strict=True))

    def _check(self, input: Any, hx: Any) -> None:
        """Raise what is wrong with the arguments of a call, if something is."""
        op, packed = type(self).__name__, isinstance(input, PackedSequence)
        x = input.data if packed else input
        if not isinstance(x, Tensor):
            raise TypeError(f"[{op}] input must be a Tensor or a PackedSequence; got {type(x).__name__}")
        if packed and x.ndim != 2:
            raise RuntimeError(f"[{op}] the data of a packed input must be 2-d; got {x.ndim}-d")
        if x.ndim not in (2, 3):
            raise ValueError(f"[{op}] input must be 2-d or 3-d; got {x.ndim}-d")
        dtype = self._weights_of_layers[0](self)[0].dtype
        if x.dtype is not dtype:
            raise ValueError(f"[{op}] input must have the weights' dtype; got {x.dtype}, weights {dtype}")
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"[{op}] input.size(-1) must equal input_size; got {x.shape[-1]}, expected {self.input_size}"
            )
        batch: tuple[int, ...]
        if packed:
            batch = (int(checked_batch_sizes(input, op)[0]),)
        else:
            steps, *rest = (x.transpose(0, 1) if self.batch_first and x.ndim == 3 else x).shape[:-1]
            if steps == 0:
                raise RuntimeError(f"[{op}] the sequence must have at least one step; got input {tuple(x.shape)}")
            batch = tuple(rest)
        states = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        self._check_states(hx, [(states, *batch, size) for size in sizes], dtype)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, one list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    def flatten_parameters(self) -> None:
        """Nothing to do: the kernels pack the weights themselves. Programs written for PyTorch call it."""

    def extra_repr(self) -> str:
        return self._sizes_and_options(
            proj_size=0, num_layers=1, bias=True, batch_first=False, dropout=0, bidirectional=False
        )


class RNN(RNNBase):
    """Elman network: h_t = f(x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh) with f = tanh or relu.

    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990). See torch.nn.RNN.

    Shapes: input (T, B, input_size), with `batch_first` (B, T, input_size), (T, input_size) for one sequence, or a
    PackedSequence; `hx` (num_layers * directions, B, hidden_size), for one sequence without B, zeros when not given.
    Returns the last layer's states of every step (T, B, directions * hidden_size), in the input's form, and the last
    states of all layers, shaped as `hx`. With `bidirectional` a second direction runs from each sequence's last step
    to its first. Between layers elements are dropped with probability `dropout` while training.

    Saved for the backward: the inputs (with `batch_first` a copy of them), the initial states and the outputs, which
    may therefore be changed in place only after the backward; nothing else of their length is allocated but gradients.
    float32 or float64. Raises ValueError for a wrong number of dimensions or dtype of the input, RuntimeError for a
    wrong size, an empty sequence or states that do not fit, TypeError for other objects.

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
        *,
        proj_size: int = 0,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[RNN] nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}")
        mode = "RNN_" + nonlinearity.upper()
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory, with a forget gate and, for `proj_size` > 0, a projection of the state.

        i, f, o = sigmoid(x_t W_i*^T + b_i* + h_(t-1) W_h*^T + b_h*),  g = tanh(the same with its own weights)
        c_t = f * c_(t-1) + i * g
        h_t = o * tanh(c_t), with a projection (o * tanh(c_t)) W_hr^T

    The rows of the weights are those of i, f, g, o. S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural
    Computation 9 (1997); F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000);
    H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
    vocabulary speech recognition" (2014). See torch.nn.LSTM.

    Shapes as for RNN; `hx` and the returned last states are tuples (h, c), h (num_layers * directions, B, proj_size or
    hidden_size) and c (num_layers * directions, B, hidden_size). Saved for the backward: the inputs, the initial
    states, the outputs, the four gates and the cell; nothing else but as for RNN. Errors as for RNN.

    >>> import fastgrad as torch
    >>> output, (h_n, c_n) = torch.nn.LSTM(8, 32, bidirectional=True, proj_size=4)(torch.ones(5, 3, 8))
    >>> output.shape, h_n.shape, c_n.shape
    (fastgrad.Size([5, 3, 8]), fastgrad.Size([2, 3, 4]), fastgrad.Size([2, 3, 32]))
    """

    _state_names = ("hx[0]", "hx[1]")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """The outputs of the last layer, packed if the input is, and (h_n, c_n) of all layers."""
        try:
            h, c = _pair(hx)
            output, h_n, c_n = self._run(input, h, c)
        except Exception:
            _explain(self._check, input, hx)
            raise
        return output, (h_n, c_n)


class GRU(RNNBase):
    """Gated recurrent units.

        r = sigmoid(x_t W_ir^T + b_ir + h_(t-1) W_hr^T + b_hr),  z = sigmoid(the same with its own weights)
        n = tanh(x_t W_in^T + b_in + r * (h_(t-1) W_hn^T + b_hn))
        h_t = (1 - z) * n + z * h_(t-1)

    The rows of the weights are those of r, z, n. K. Cho et al., "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation", EMNLP 2014; as in torch.nn.GRU the reset gate acts behind the
    product with the state.

    Shapes as for RNN. Saved for the backward: the inputs, the initial states, the outputs, the three gates and the
    candidate's recurrent part h_(t-1) W_hn^T + b_hn; nothing else but as for RNN. Errors as for RNN.

    >>> import fastgrad as torch
    >>> output, h_n = torch.nn.GRU(8, 32, batch_first=True)(torch.ones(3, 5, 8))
    >>> output.shape, h_n.shape
    (fastgrad.Size([3, 5, 32]), fastgrad.Size([1, 3, 32]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        proj_size: int = 0,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip


class RNNCellBase(_Recurrent):
    """What the cells have in common: their parameters, those of `num_chunks` gates in one matrix, and their call.

    >>> import fastgrad as torch
    >>> torch.nn.RNNCellBase(2, 3, bias=False, num_chunks=4).weight_hh.shape
    fastgrad.Size([12, 3])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"[{type(self).__name__}] {name} must be an int; got {type(size).__name__}")
            if size < 0:
                raise RuntimeError(f"[{type(self).__name__}] {name} must not be negative; got {size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(_core.empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(_core.empty((rows, hidden_size), device=device, dtype=dtype))
        self.bias_ih: Parameter | None
        self.bias_hh: Parameter | None
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(_core.empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _run(self, cell: str, input: Any, h: Any, c: Any) -> Any:
        """h' or, of an LSTM, (h', c')."""
        if input.ndim == 2:
            return _core.recurrent_cell(cell, input, h, c, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        after = _core.recurrent_cell(
            cell, input.unsqueeze(0), _unsqueezed(h, 0), _unsqueezed(c, 0),
            self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh,
        )  # fmt: skip
        return tuple(state.squeeze(0) for state in after) if cell == "lstm" else after.squeeze(0)

    def _check(self, input: Any, hx: Any) -> None:
        """Raise what is wrong with the arguments of a call, if something is."""
        op = type(self).__name__
        for name, tensor in zip(("input", *self._state_names), (input, *self._states(hx)), strict=False):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"[{op}] {name} must be a Tensor; got {type(tensor).__name__}")
            if tensor.ndim not in (1, 2):
                raise ValueError(f"[{op}] {name} must be 1-d or 2-d; got {tensor.ndim}-d")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"[{op}] input.size(-1) must equal input_size; got {input.shape[-1]}, expected {self.input_size}"
            )
        dtype = self.weight_ih.dtype
        if input.dtype is not dtype:
            raise RuntimeError(f"[{op}] input must have the weights' dtype; got {input.dtype}, weights {dtype}")
        self._check_states(hx, [(*input.shape[:-1], self.hidden_size)] * 2, dtype)

    def extra_repr(self) -> str:
        return self._sizes_and_options(bias=True)


class RNNCell(RNNCellBase):
    """h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh) with f = tanh or relu: one step of `RNN`. See torch.nn.RNNCell.

    Input (B, input_size) or (input_size,); state and result (B, hidden_size) or (hidden_size,), a state that is not
    given is zero. Raises ValueError for another number of dimensions, RuntimeError for sizes or dtypes that do not fit,
    TypeError for other objects. Saved for the backward: the input, the state and the result.

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
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"[RNNCell] nonlinearity must be 'tanh' or 'relu'; got {self.nonlinearity!r}")
        try:
            return self._run("rnn_relu" if self.nonlinearity == "relu" else "rnn_tanh", input, hx, None)
        except Exception:
            _explain(self._check, input, hx)
            raise

    def extra_repr(self) -> str:
        return self._sizes_and_options(bias=True, nonlinearity="tanh")


class LSTMCell(RNNCellBase):
    """One step of `LSTM`, without projection: (h', c') from the input and (h, c). See torch.nn.LSTMCell.

    Shapes and errors as for `RNNCell`, `hx` and the result being tuples (h, c). Saved for the backward: the input, the
    states, the four gates and the results.

    >>> import fastgrad as torch
    >>> h, c = torch.nn.LSTMCell(3, 4)(torch.ones(2, 3), (torch.zeros(2, 4), torch.zeros(2, 4)))
    >>> h.shape, c.shape
    (fastgrad.Size([2, 4]), fastgrad.Size([2, 4]))
    """

    _state_names = ("hx[0]", "hx[1]")

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The state and the cell after one step."""
        try:
            h, c = _pair(hx)
            return self._run("lstm", input, h, c)
        except Exception:
            _explain(self._check, input, hx)
            raise


class GRUCell(RNNCellBase):
    """One step of `GRU`: h' from the input and h. See torch.nn.GRUCell.

    Shapes and errors as for `RNNCell`. Saved for the backward: the input, the state, the three gates and the
    candidate's recurrent part.

    >>> import fastgrad as torch
    >>> torch.nn.GRUCell(3, 4)(torch.ones(3)).shape
    fastgrad.Size([4])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state after one step."""
        try:
            return self._run("gru", input, hx, None)
        except Exception:
            _explain(self._check, input, hx)
            raise
