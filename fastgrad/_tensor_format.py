"""How tensors print: as PyTorch's do (torch/_tensor_str.py describes the rules)."""

from __future__ import annotations

import math
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor, get_default_dtype, int64

__all__ = ["set_printoptions", "tensor_repr"]

_OPTIONS: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: object = "unchanged",
) -> None:
    """Set how tensors print: digits, the size above which they are summarised, the items kept at each edge, line width.

    See torch.set_printoptions.

    >>> import fastgrad
    >>> fastgrad.set_printoptions(precision=2); print(fastgrad.tensor([1 / 3]))
    tensor([0.33])
    >>> fastgrad.set_printoptions(profile="default")
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"[set_printoptions] profile must be one of {', '.join(_PROFILES)}; got {profile!r}")
        _OPTIONS.update(_PROFILES[profile])
        _OPTIONS["sci_mode"] = None
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _OPTIONS.update({name: value for name, value in given.items() if value is not None})
    if sci_mode != "unchanged":
        _OPTIONS["sci_mode"] = sci_mode


class _Formatter:
    """One width for all numbers of a tensor, and whether they need a fraction or an exponent."""

    def __init__(self, values: list[Any], floating: bool) -> None:
        self.floating, self.whole, self.scientific, self.width = floating, True, False, 1
        if not floating:
            self.width = max((len(str(value)) for value in values), default=1)
            return
        finite_values = [value for value in values if math.isfinite(value) and value != 0]
        if finite_values:
            largest, smallest = max(map(abs, finite_values)), min(map(abs, finite_values))
            self.whole = all(value == math.ceil(value) for value in finite_values)
            self.scientific = largest / smallest > 1e3 or largest > 1e8 or (not self.whole and smallest < 1e-4)
        if _OPTIONS["sci_mode"] is not None:
            self.scientific = _OPTIONS["sci_mode"]
        # As in PyTorch, zeros and what is not finite do not count for the width.
        self.width = max((len(self.text(value)) for value in finite_values), default=1)

    def text(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if not math.isfinite(value):
            return str(value)
        if self.scientific:
            return f"{value:.{_OPTIONS['precision']}e}"
        return f"{value:.0f}." if self.whole else f"{value:.{_OPTIONS['precision']}f}"

    def __call__(self, value: Any) -> str:
        return self.text(value).rjust(self.width)


def _shown(values: list[Any], depth: int, summarise: bool) -> list[Any]:
    """The numbers that will be printed."""
    edge = _OPTIONS["edgeitems"]
    if summarise and len(values) > 2 * edge:
        values = values[:edge] + values[-edge:]
    return values if depth == 1 else [number for row in values for number in _shown(row, depth - 1, summarise)]


def _block(values: list[Any], depth: int, indent: int, form: _Formatter, summarise: bool) -> str:
    edge = _OPTIONS["edgeitems"]
    cut = summarise and len(values) > 2 * edge
    if depth == 1:
        per_line = max(1, (_OPTIONS["linewidth"] - indent) // max(1, form.width + 2))
        words = (
            [form(v) for v in values[:edge]] + [" ..."] + [form(v) for v in values[-edge:]]
            if cut
            else [form(v) for v in values]
        )
        lines = [", ".join(words[k : k + per_line]) for k in range(0, len(words), per_line)] or [""]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows = [
        _block(row, depth - 1, indent + 1, form, summarise)
        for row in (values[:edge] + values[-edge:] if cut else values)
    ]
    if cut:
        rows.insert(edge, "...")
    return "[" + ("," + "\n" * (depth - 1) + " " * (indent + 1)).join(rows) + "]"


def tensor_repr(t: Tensor) -> str:
    """The text of `repr(t)`."""
    prefix = "tensor("
    plain = t.detach()
    suffixes = []
    if t.numel() == 0:
        body = "[]"
        if t.ndim != 1:
            suffixes.append(f"size={tuple(t.shape)}")
        if t.dtype is not get_default_dtype():
            suffixes.append(f"dtype={t.dtype}")
    else:
        summarise = t.numel() > _OPTIONS["threshold"]
        values = _edges(plain).tolist() if summarise else plain.tolist()
        numbers = [values] if t.ndim == 0 else _shown(values, t.ndim, summarise)
        form = _Formatter(numbers, t.dtype.is_floating_point)
        body = form(values) if t.ndim == 0 else _block(values, t.ndim, len(prefix), form, summarise)
        if t.dtype not in (get_default_dtype(), int64, _core.bool):
            suffixes.append(f"dtype={t.dtype}")
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn=<{t.grad_fn.name()}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes)


def _edges(t: Tensor) -> Tensor:
    """A tensor with the edges of t, one item longer than both together where something is cut out."""
    edge = _OPTIONS["edgeitems"]
    for axis in range(t.ndim):
        if t.shape[axis] > 2 * edge + 1:
            t = _core.cat([t.narrow(axis, 0, edge + 1), t.narrow(axis, t.shape[axis] - edge, edge)], axis)
    return t


def _with_suffixes(text: str, suffixes: list[str]) -> str:
    length = len(text) - text.rfind("\n")
    for suffix in suffixes:
        if length + len(suffix) + 3 > _OPTIONS["linewidth"]:
            text += ",\n       " + suffix
            length = 7 + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"
