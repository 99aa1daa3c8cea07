"""Embedding."""

from __future__ import annotations

from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor
from fastgrad.nn import functional as F
from fastgrad.nn import init
from fastgrad.nn.modules.module import Module
from fastgrad.nn.parameter import Parameter


class Embedding(Module):
    """A table of `num_embeddings` vectors, looked up by index: input (*) of int64 or int32, output (*, embedding_dim).

    The row `padding_idx` starts as zeros and receives no gradient.

    >>> import fastgrad as torch
    >>> torch.nn.Embedding(10, 3)(torch.tensor([[1, 2], [4, 5]])).shape
    fastgrad.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
        _weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = F._wrap_padding_idx(padding_idx, num_embeddings)
        if _weight is None:
            self.weight = Parameter(_core.empty((num_embeddings, embedding_dim), device=device, dtype=dtype))
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                raise AssertionError(
                    f"[Embedding] the weight must have shape ({num_embeddings}, {embedding_dim}); got "
                    f"{tuple(_weight.shape)}"
                )
            self.weight = Parameter(_weight)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An Embedding on the given (num_embeddings, embedding_dim) table, not trained unless `freeze=False`."""
        if embeddings.ndim != 2:
            raise AssertionError(f"[Embedding] embeddings must be 2-dimensional; got shape {tuple(embeddings.shape)}")
        rows, columns = embeddings.shape
        embedding = cls(rows, columns, padding_idx, _weight=embeddings)
        embedding.weight.requires_grad_(not freeze)
        return embedding

    def reset_parameters(self) -> None:
        """Draw the table from N(0, 1), with zeros in the row `padding_idx`."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with _core.no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
