"""Dropout."""

from __future__ import annotations

from fastgrad._core import Tensor, dropout
from fastgrad.nn.modules.module import Module


class Dropout(Module):
    """While training, zeroes each element with probability `p` and scales the others by 1/(1-p); else the identity.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"[Dropout] p must be between 0 and 1; got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, True, self.inplace) if self.training else input

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
