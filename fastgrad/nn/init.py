"""Initial values of parameters. Every function fills its tensor in place, unrecorded, and returns it.

The random ones draw as PyTorch's `nn.init` does: the same seed gives the same numbers.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor, no_grad

_GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1.0),
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which the standard deviation of a layer's weights should grow for the nonlinearity behind it.

    >>> import fastgrad as torch
    >>> torch.nn.init.calculate_gain("leaky_relu", 0.0) == 2 ** 0.5
    True
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"[calculate_gain] the negative slope must be a number; got {slope!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"[calculate_gain] unsupported nonlinearity; got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Normal, restricted to [a, b] by drawing again what falls outside.

    When [a, b] holds less than 0.3 of the normal's mass, the proposals are uniform in [a, b] and accepted with the
    probability density relative to its peak there.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "[trunc_normal_] mean is more than 2 std from [a, b]; the distribution may be incorrect", stacklevel=2
        )

    def cumulative(x: float) -> float:
        return (1 + math.erf((x - mean) / std / math.sqrt(2))) / 2

    with no_grad():
        if cumulative(b) - cumulative(a) > 0.3:
            low, high = (_core.tensor(end, dtype=tensor.dtype).item() for end in (a, b))
            result = tensor.normal_(mean, std, generator=generator)
            while bool((outside := (result < low) | (result > high)).any()):
                result = _core.where(outside, _core.empty_like(result).normal_(mean, std, generator=generator), result)
        else:
            log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
            result, rejected = tensor, _core.ones_like(tensor, dtype=_core.bool)
            while True:
                proposal = _core.empty_like(tensor).uniform_(a, b, generator=generator)
                result = _core.where(rejected, proposal, result)
                log_density = -0.5 * ((proposal - mean) / std).square() - log_peak
                rejected = rejected & (_core.empty_like(tensor).uniform_(generator=generator).log() > log_density)
                if not bool(rejected.any()):
                    break
        return tensor if result is tensor else tensor.copy_(result)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, as far as it fits a 2-d tensor."""
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] the tensor must have 2 dimensions; got shape {tuple(tensor.shape)}")
    with no_grad():
        tensor.zero_()
        for k in range(min(tensor.shape)):
            tensor[k, k] = 1
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution weight (out, in, 1 to 3 kernel axes) that passes as many channels on as it can, per group."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"[dirac_] the tensor must have 3, 4 or 5 dimensions; got shape {tuple(tensor.shape)}")
    if tensor.shape[0] % groups != 0:
        raise ValueError(f"[dirac_] tensor.size(0) must be divisible by groups; got {tensor.shape[0]}, groups {groups}")
    outputs = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    with no_grad():
        tensor.zero_()
        for group in range(groups):
            for channel in range(min(outputs, tensor.shape[1])):
                index = (group * outputs + channel, channel, *centre)
                tensor[index] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            f"[fan] fan in and fan out need a tensor of 2 or more dimensions; got shape {tuple(tensor.shape)}"
        )
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def _fan(tensor: Tensor, mode: str) -> int:
    if not isinstance(mode, str) or mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"[kaiming] mode must be fan_in or fan_out; got {mode!r}")
    return _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [-a, a], a = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, AISTATS 2010."""
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)). Glorot and Bengio, AISTATS 2010."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform in [-c, c], c = gain sqrt(3 / fan). He et al., ICCV 2015."""
    if 0 in tensor.shape:
        warnings.warn(
            f"[kaiming_uniform_] there is nothing to initialize; got shape {tuple(tensor.shape)}", stacklevel=2
        )
        return tensor
    bound = math.sqrt(3.0) * (calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan). He et al., ICCV 2015."""
    if 0 in tensor.shape:
        warnings.warn(
            f"[kaiming_normal_] there is nothing to initialize; got shape {tuple(tensor.shape)}", stacklevel=2
        )
        return tensor
    return normal_(tensor, 0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """A (semi-)orthogonal matrix times `gain`; trailing axes count as one. Saxe et al., arXiv:1312.6120.

    It is the Q of the QR decomposition of a normal matrix, with signs such that it is uniformly distributed
    (Mezzadri, arXiv:math-ph/0609050).
    """
    import numpy

    if tensor.ndim < 2:
        raise ValueError(f"[orthogonal_] the tensor must have 2 or more dimensions; got shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    drawn = normal_(_core.empty((rows, columns), dtype=tensor.dtype), 0, 1, generator).numpy()
    q, r = numpy.linalg.qr(drawn.T if rows < columns else drawn)
    q = q * numpy.sign(numpy.diag(r))
    with no_grad():
        return tensor.copy_(_core.tensor(gain * (q.T if rows < columns else q)).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal with standard deviation `std`, then the fraction `sparsity` of every column zero. Martens, ICML 2010."""
    if tensor.ndim != 2:
        raise ValueError(f"[sparse_] the tensor must have 2 dimensions; got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[_core.randperm(rows)[:zeros], column] = 0
    return tensor
