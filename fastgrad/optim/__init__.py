"""Optimizers. The names are those of PyTorch's `torch.optim`."""

from fastgrad.optim import lr_scheduler
from fastgrad.optim.adam import Adam, AdamW
from fastgrad.optim.optimizer import Optimizer
from fastgrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
