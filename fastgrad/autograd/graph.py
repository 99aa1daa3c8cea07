"""What a graph keeps of the tensors that its ops save: hooks between the two. As torch.autograd.graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from fastgrad._core import Tensor
from fastgrad._core.autograd import (
    Node,
    pop_saved_tensors_hooks,
    push_saved_tensors_hooks,
    refuse_saved_tensors_hooks,
)

__all__ = ["Node", "disable_saved_tensors_hooks", "save_on_cpu", "saved_tensors_hooks"]


class saved_tensors_hooks:
    """Inside, the graph keeps `pack_hook(x)` of every tensor x that an op saves, and backward gets `unpack_hook` of it.

    Holds for this thread; of several contexts the innermost counts. `pack_hook` runs with recording off and must not
    change its argument: an input of the op as it is, an output as a detached tensor on the same elements.
    `unpack_hook` runs when the backward needs the tensor and returns one of the same shape, dtype and, for integers,
    content; it takes the place in the graph that x had, so that it can be differentiated again. In-place changes to x
    after packing go unnoticed. Index tensors of `x[index]` are kept with the op and pass through no hook.

    Raises TypeError where `unpack_hook` returns no tensor; RuntimeError where `pack_hook` writes into its argument or
    `unpack_hook` returns another shape or dtype, or other integers. See torch.autograd.graph.saved_tensors_hooks.

    >>> import fastgrad
    >>> x = fastgrad.tensor([0.5, 2.], requires_grad=True)
    >>> with fastgrad.autograd.graph.saved_tensors_hooks(lambda x: x.tolist(), fastgrad.tensor):
    ...     y = x * x
    >>> y.sum().backward(); x.grad
    tensor([1., 4.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        push_saved_tensors_hooks(self.pack_hook, self.unpack_hook)

    def __exit__(self, *exception: object) -> None:
        pop_saved_tensors_hooks()


class save_on_cpu(saved_tensors_hooks):
    """Inside, the tensors that ops save wait for the backward in the CPU's memory, where those that are there stay.

    `pin_memory` and `device_type` are accepted as PyTorch's. See torch.autograd.graph.save_on_cpu.

    >>> import fastgrad
    >>> x = fastgrad.tensor(3., requires_grad=True)
    >>> with fastgrad.autograd.graph.save_on_cpu():
    ...     y = x * x
    >>> y.backward(); x.grad
    tensor(6.)
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda x: (x.device, x.to("cpu")), lambda packed: packed[1].to(packed[0]))


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Inside, this thread raises RuntimeError(error_message) where `saved_tensors_hooks` is entered, or is in use.

    >>> import fastgrad
    >>> with fastgrad.autograd.graph.disable_saved_tensors_hooks("no hooks here"):
    ...     with fastgrad.autograd.graph.save_on_cpu():
    ...         pass
    Traceback (most recent call last):
    RuntimeError: no hooks here
    """
    before = refuse_saved_tensors_hooks(error_message)
    try:
        yield
    finally:
        refuse_saved_tensors_hooks(before)
