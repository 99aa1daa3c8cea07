"""The engine's entry points, hooks and modes. tests/test_stubs.py holds this against the compiled module."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from typing_extensions import Self

from fastgrad._core import Tensor

_Callable = TypeVar("_Callable", bound=Callable[..., Any])
_Tensors: TypeAlias = Tensor | Sequence[Tensor]
_Gradients: TypeAlias = Tensor | Sequence[Tensor | None] | None

def backward(
    tensors: _Tensors,
    grad_tensors: _Gradients = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: _Gradients = None,
    inputs: _Tensors | None = None,
) -> None: ...

# A None stands for an input that the outputs do not depend on, which only `allow_unused` permits: hence Any.
def grad(
    outputs: _Tensors,
    inputs: _Tensors,
    grad_outputs: _Gradients = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]: ...

class Node:
    def name(self) -> str: ...
    @property
    def next_functions(self) -> tuple[tuple[Node | AccumulateGrad | None, int], ...]: ...
    @property
    def metadata(self) -> dict[str, Any]: ...

class AccumulateGrad:
    def __init__(self, variable: Tensor) -> None: ...
    def name(self) -> str: ...
    @property
    def variable(self) -> Tensor: ...

class RemovableHandle:
    id: int
    next_id: int
    def __init__(self, hooks: dict[int, Any]) -> None: ...
    def remove(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class _Mode:
    def __call__(self, function: _Callable) -> _Callable: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class no_grad(_Mode):
    @overload
    def __new__(cls, function: None = None) -> Self: ...
    @overload
    def __new__(cls, function: _Callable) -> _Callable: ...  # type: ignore[misc]

class enable_grad(no_grad): ...

class set_grad_enabled(_Mode):
    def __init__(self, mode: bool) -> None: ...

class inference_mode(_Mode):
    @overload
    def __new__(cls, mode: bool = True) -> Self: ...
    @overload
    def __new__(cls, mode: _Callable) -> _Callable: ...  # type: ignore[misc]

def is_grad_enabled() -> bool: ...
def is_inference_mode_enabled() -> bool: ...

class set_detect_anomaly:
    def __init__(self, mode: bool, check_nan: bool = True) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class detect_anomaly(set_detect_anomaly):
    def __init__(self, check_nan: bool = True) -> None: ...
