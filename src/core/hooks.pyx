"""What is called with gradients as they pass: hooks on tensors, and `.grad` kept for tensors that are no leaves."""

import itertools
import weakref
from collections import OrderedDict

from fastgrad._core.graph cimport Node, engine_ops, node_of, requires_grad_of, track
from fastgrad._core.tensor cimport Tensor, dtype_object, same_shape, shape_text


class RemovableHandle:
    """What the registration of a hook returns: `remove()` takes the hook away, as does the end of a `with` block."""

    numbers = itertools.count()

    def __init__(self, hooks):
        self.id = next(RemovableHandle.numbers)
        self.hooks = weakref.ref(hooks)

    def remove(self) -> None:
        """Take the hook away; again, it does nothing."""
        hooks = self.hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


class LeafHooks:
    """The hooks of a leaf: on its summed gradient, and after that was added to `.grad`."""

    __slots__ = ("accumulated", "gradient")

    def __init__(self):
        self.gradient, self.accumulated = OrderedDict(), OrderedDict()


def register_hook(Tensor self, hook):
    """Call `hook(gradient)` with the gradient of this tensor in every backward; what it returns, if not None, replaces it.

    >>> import fastgrad
    >>> x = fastgrad.tensor([1., -2.], requires_grad=True)
    >>> y = x * 3
    >>> handle = y.register_hook(lambda gradient: gradient.clamp(-1, 1))
    >>> (y * 10).sum().backward(); x.grad
    tensor([3., 3.])
    """
    cdef Node node
    if not requires_grad_of(self):
        raise RuntimeError(
            "[register_hook] cannot register a hook on a tensor that doesn't require gradient; got requires_grad=False"
        )
    track(self)
    if node_of(self) is None:
        if self.hooks is None:
            self.hooks = LeafHooks()
        hooks = self.hooks.gradient
    else:
        node = <Node>self.node
        if node.hooks is None:
            node.hooks = {}
        hooks = node.hooks.setdefault(self.output_number, OrderedDict())
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def register_post_accumulate_grad_hook(Tensor self, hook):
    """Call `hook(tensor)` each time after a backward has added to this leaf's `.grad`."""
    if not requires_grad_of(self) or node_of(self) is not None:
        raise RuntimeError(
            "[register_post_accumulate_grad_hook] post accumulate grad hooks are for leaf tensors that require grad; got "
            f"requires_grad={requires_grad_of(self)}, is_leaf={node_of(self) is None}"
        )
    track(self)
    if self.hooks is None:
        self.hooks = LeafHooks()
    handle = RemovableHandle(self.hooks.accumulated)
    self.hooks.accumulated[handle.id] = hook
    return handle


def retain_grad(Tensor self) -> None:
    """Let this non-leaf tensor have a `.grad` after backward too."""
    cdef Node node
    if not requires_grad_of(self):
        raise RuntimeError("[retain_grad] can't retain_grad on a tensor that has requires_grad=False; got such a tensor")
    if node_of(self) is None:
        return
    node = <Node>self.node
    if node.retained is None:
        node.retained = {}
    node.retained[self.output_number] = weakref.ref(self)


def retains_grad(Tensor self) -> bool:
    """Was `retain_grad` called on this non-leaf?"""
    node = node_of(self)
    return node is not None and (<Node>node).retained is not None and self.output_number in (<Node>node).retained


cdef Tensor run_hooks(object hooks, Tensor gradient):
    """The gradient as the hooks leave it."""
    for hook in list(hooks.values()):
        result = hook(gradient)
        if result is not None:
            if not isinstance(result, Tensor):
                raise TypeError(f"[hook] a tensor hook must return a Tensor or None; got {type(result).__name__}")
            if not same_shape(&(<Tensor>result).array, &gradient.array):
                raise RuntimeError(
                    f"[hook] a hook must not change the shape of the gradient {shape_text(&gradient.array)}; got "
                    f"{shape_text(&(<Tensor>result).array)}"
                )
            if (<Tensor>result).array.dtype != gradient.array.dtype:
                raise RuntimeError(
                    f"[hook] a hook must not change the dtype of the gradient {dtype_object(gradient.array.dtype)}; got "
                    f"{dtype_object((<Tensor>result).array.dtype)}"
                )
            gradient = <Tensor>result
    return gradient


cdef int keep_grad(object x, Tensor gradient) except -1:
    """retain_grad: `.grad` of a tensor that is no leaf."""
    cdef Tensor t
    if x is not None:
        t = <Tensor>x
        if t.gradient is not None:
            t.gradient = engine_ops.add(t.gradient, gradient)
        else:
            t.gradient = engine_ops.clone(gradient)
    return 0
