"""The peers that are installed, each set to one thread."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import fastgrad

fastgrad.set_num_threads(1)


def optional(name: str) -> Any:
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None


torch: Any = optional("torch")
if torch is not None:
    torch.set_num_threads(1)
jax: Any = optional("jax")
onnxruntime: Any = optional("onnxruntime") if importlib.util.find_spec("onnx") is not None else None

# fastgrad runs PyTorch programs: both take the same text with the module exchanged.
FRAMEWORKS: dict[str, Any] = {"fastgrad": fastgrad, **({} if torch is None else {"PyTorch": torch})}


def versions() -> dict[str, str]:
    import numpy

    modules = {"fastgrad": fastgrad, "PyTorch": torch, "NumPy": numpy, "JAX": jax, "ONNX Runtime": onnxruntime}
    return {name: module.__version__ for name, module in modules.items() if module is not None}
