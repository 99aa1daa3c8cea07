"""Functions of neural networks. The fused ones are the core's own functions; the others are composed of its ops.

Names, arguments and values, also at kinks, are those of PyTorch's `nn.functional`.
"""

from __future__ import annotations

import math
import warnings

from fastgrad import _core
from fastgrad._core import Tensor, cross_entropy, dropout, linear, log_softmax, relu, sigmoid, softmax, tanh

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "hardtanh",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


# activations


def _into(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """`result`, or `input` with `result` written into it."""
    return input.copy_(result) if inplace else result


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x; the gradient at 0 is negative_slope.

    >>> import fastgrad as torch
    >>> torch.nn.functional.leaky_relu(torch.tensor([-1., 2.]), 0.5)
    tensor([-0.5000,  2.0000])
    """
    return _into(input, _core.where(input > 0, input, input * negative_slope), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1); the gradient at 0 is alpha."""
    x = input.clone() if inplace else input  # the backward pass needs what is overwritten
    # The clamp keeps exp finite where its branch is not taken: 0 * inf in the backward pass would be NaN.
    return _into(input, _core.where(x <= 0, alpha * _core.expm1(x.clamp(max=0)), x), inplace)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    x = input.clone() if inplace else input  # the backward pass needs what is overwritten
    return _into(input, x * sigmoid(x), inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x) with the normal distribution function Phi, or its approximation by tanh (Hendrycks and Gimpel 2016)."""
    if approximate == "none":
        return 0.5 * input * (1 + _core.erf(input * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * input * (1 + tanh(math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)))
    raise RuntimeError(f"[gelu] approximate must be none or tanh; got {approximate!r}")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    scaled = input * beta
    linear_part = scaled > threshold
    # As in elu; filled and not clamped, so that the gradient at NaN is NaN.
    return _core.where(linear_part, input, _core.log1p(_core.exp(scaled.masked_fill(linear_part, 0))) / beta)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x)))."""
    # Beyond 40, log(1 + exp(x)) and x are the same number in float64 too.
    return -softplus(-input, threshold=40.0)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; unlike clamp's, the gradient at the two ends is 0."""
    if min_val > max_val:
        raise ValueError(f"[hardtanh] min_val must not exceed max_val; got {min_val}, {max_val}")
    limited = input.detach().clamp(min_val, max_val)
    return _into(input, _core.where((input <= min_val) | (input >= max_val), limited, input), inplace)


def _softmax_dim(name: str, dim: int | None, ndim: int) -> int:
    """The axis that PyTorch once chose when none was given."""
    if dim is None:
        dim = 0 if ndim in (0, 1, 3) else 1
        warnings.warn(f"[{name}] dim should be given; {dim} was chosen for a {ndim}-d input", stacklevel=4)
    return dim


# sparse


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 of shape (*, num_classes), 1 at each index of `tensor` (*) and 0 elsewhere; -1 takes the largest index + 1.

    >>> import fastgrad as torch
    >>> torch.nn.functional.one_hot(torch.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.dtype is not _core.int64:
        raise RuntimeError(f"[one_hot] the indices must be int64; got {tensor.dtype}")
    if tensor.numel() == 0 and num_classes <= 0:
        raise RuntimeError(f"[one_hot] num_classes must be positive when there is no index; got {num_classes}")
    if tensor.numel():
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0 or (num_classes != -1 and high >= num_classes):
            raise RuntimeError(
                f"[one_hot] an index must be in [0, num_classes); got {low} to {high}, num_classes {num_classes}"
            )
        num_classes = high + 1 if num_classes == -1 else num_classes
    return (tensor.unsqueeze(-1) == _core.arange(num_classes)).to(_core.int64)


def _wrap_padding_idx(padding_idx: int | None, count: int) -> int | None:
    if padding_idx is None:
        return None
    if not -count <= padding_idx < count:
        raise AssertionError(f"[embedding] padding_idx must be within num_embeddings; got {padding_idx} of {count}")
    return padding_idx % count


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` (num_embeddings, embedding_dim) at the indices `input` (*): (*, embedding_dim).

    The row `padding_idx` receives no gradient.
    """
    rows = _core.embedding(input, weight)
    if padding_idx is None or not rows.requires_grad:
        return rows
    padding_idx = _wrap_padding_idx(padding_idx, weight.shape[0])
    return _core.where((input == padding_idx).unsqueeze(-1), rows.detach(), rows)


# losses


def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """PyTorch's `reduction`, of which `size_average` and `reduce` are the older spelling."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _warn_of_broadcast(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"[{name}] input and target should have one shape, or they are broadcast; got {tuple(input.shape)} and "
            f"{tuple(target.shape)}",
            stacklevel=3,
        )


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """(input - target)^2, reduced by "mean", "sum" or "none"."""
    reduction = _reduction(size_average, reduce, reduction)
    _warn_of_broadcast("mse_loss", input, target)
    return _reduce((input - target).square(), reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """|input - target|, reduced by "mean", "sum" or "none"; the gradient at 0 is 0."""
    reduction = _reduction(size_average, reduce, reduction)
    _warn_of_broadcast("l1_loss", input, target)
    return _reduce((input - target).abs(), reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight[target] input[target] of log-probabilities (C,), (N, C) or (N, C, ...) and targets (), (N,) or (N, ...).

    Targets equal to `ignore_index` count nothing; "mean" divides by the summed weight of the others.
    """
    reduction = _reduction(size_average, reduce, reduction)
    dim = 0 if input.ndim == 1 else 1
    if input.ndim < 1 or tuple(target.shape) != tuple(input.shape[:dim]) + tuple(input.shape[dim + 1 :]):
        raise ValueError(
            "[nll_loss] target must have input's shape without the class axis; got "
            f"input {tuple(input.shape)}, target {tuple(target.shape)}"
        )
    classes = input.shape[dim]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(f"[nll_loss] weight must have shape ({classes},); got {tuple(weight.shape)}")
    ignored = target == ignore_index
    index = target.masked_fill(ignored, 0)
    if target.numel():
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= max(classes, 1):
            raise IndexError(f"[nll_loss] a target must be in [0, {classes}); got {low if low < 0 else high}")
    picked = input.gather(dim, index.unsqueeze(dim)).squeeze(dim)
    weights = _core.ones_like(picked) if weight is None else weight[index]
    weights = weights.masked_fill(ignored, 0)
    loss = (-weights * picked).masked_fill(ignored, 0)
    return loss.sum() / weights.sum() if reduction == "mean" else _reduce(loss, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(pos_weight y log s(x) + (1 - y) log(1 - s(x))) weight, s the sigmoid, x the logits `input`, y the `target`."""
    reduction = _reduction(size_average, reduce, reduction)
    if target.shape != input.shape:
        raise ValueError(
            "[binary_cross_entropy_with_logits] target must have input's shape; got "
            f"{tuple(target.shape)} and {tuple(input.shape)}"
        )
    # log(1 - s(x)) = log s(x) - x leaves one logarithm.
    scale = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * input - scale * logsigmoid(input)
    return _reduce(loss if weight is None else loss * weight, reduction)
