"""`saved_tensors_hooks`: a pair of functions between the recorded ops and the tensors that these save."""

import threading

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint64_t

from fastgrad._core.graph cimport Node, Op, connect, engine_ops, node_of, record, requires_grad_of, saving, switch_recording
from fastgrad._core.tensor cimport Tensor, alias, dtype_object, is_contiguous, is_float, itemsize_of, numel, shape_text, shape_tuple


cdef Op UNPACK
UNPACK.name, UNPACK.rule = b"UnpackBackward0", unpack_rule


class OfThread(threading.local):
    """The hooks of one thread, the innermost last, and why it may not have any."""

    def __init__(self):
        self.hooks, self.refusal = [], None


cdef object of_thread = OfThread()


def push_saved_tensors_hooks(pack, unpack) -> None:
    """From here on this thread's ops keep `pack(x)` of each tensor x that they save, and get `unpack` of it back."""
    if of_thread.refusal is not None:
        raise RuntimeError(of_thread.refusal)
    of_thread.hooks.append((pack, unpack))
    saving.hooks_open += 1


def pop_saved_tensors_hooks() -> None:
    """Undo this thread's last `push_saved_tensors_hooks`."""
    if not of_thread.hooks:
        raise RuntimeError("[saved_tensors_hooks] hooks are left in the thread that entered them; got a thread without hooks")
    of_thread.hooks.pop()
    saving.hooks_open -= 1


def refuse_saved_tensors_hooks(message):
    """Make every push in this thread raise RuntimeError(message), as hooks in use do here; None allows them again.

    Returns what held before.
    """
    if message is not None and of_thread.hooks:
        raise RuntimeError(message)
    before, of_thread.refusal = of_thread.refusal, message
    return before


@cython.final
cdef class Packed:
    """What a Node keeps in place of a saved tensor."""

    cdef object content             # what the pack hook returned
    cdef object unpack
    cdef object source              # the Node that the tensor came from, or the leaf itself; None outside the graph
    cdef int output_number
    cdef object shape
    cdef int code
    cdef bint contiguous
    cdef object digest              # of integers
    cdef Tensor unpacked            # while the node runs, whose rule may point into it


cdef object pack(Tensor x):
    """What to keep in place of x: x itself where this thread has no hooks."""
    cdef Packed packed
    cdef uint64_t version = x.storage.version
    cdef int was_off
    if not of_thread.hooks:
        return x
    packed = Packed()
    pack_hook, packed.unpack = of_thread.hooks[len(of_thread.hooks) - 1]
    packed.source = node_of(x)
    if packed.source is None and requires_grad_of(x):
        packed.source = x
    packed.output_number = x.output_number
    packed.shape, packed.code, packed.contiguous = shape_tuple(&x.array), x.array.dtype, is_contiguous(&x.array)
    was_off = switch_recording(1)
    try:
        if not is_float(x.array.dtype):
            packed.digest = digest(engine_ops.clone(x))
        packed.content = pack_hook(x)
    finally:
        switch_recording(was_off)
    if x.storage.version != version:
        raise RuntimeError(
            f"[saved_tensors_hooks] a pack hook may not change its input in place; got a tensor of shape {shape_text(&x.array)} "
            f"at version {x.storage.version} instead of {version}"
        )
    return packed


cdef Tensor unpack(Node node, object kept, bint is_output):
    """The tensor that was packed, in its place in the graph: double backward goes on from there."""
    cdef Packed packed = <Packed>kept
    cdef Tensor x = packed.unpacked
    if x is not None:
        return x
    x = alias(checked(packed, packed.unpack(packed.content)))     # its shape is nobody else's to change
    source = node if is_output else packed.source
    if isinstance(source, Node):
        x.node, x.output_number, x.requires = source, packed.output_number, True
    elif source is not None:
        connect(record(&UNPACK, x, 1), 0, <Tensor>source)
    if node.run != NULL:
        packed.unpacked = x
    return x


cdef Tensor checked(Packed packed, object returned):
    """What the unpack hook returned, laid out so that the op's rule may rely on it as on the tensor it saved."""
    cdef Tensor x
    if not isinstance(returned, Tensor):
        raise TypeError(f"[saved_tensors_hooks] an unpack hook must return a Tensor; got {type(returned).__name__}")
    x = <Tensor>returned
    if x.array.dtype != packed.code or shape_tuple(&x.array) != packed.shape:
        raise RuntimeError(
            f"[saved_tensors_hooks] an unpack hook must return a tensor of the shape and dtype that were packed, "
            f"{tuple(packed.shape)} and {dtype_object(packed.code)}; got {shape_text(&x.array)} and {x.dtype}"
        )
    if packed.digest is not None:
        # Kernels index memory with integers that the op's forward checked.
        x = engine_ops.clone(alias(x))
        if digest(x) != packed.digest:
            raise RuntimeError(
                f"[saved_tensors_hooks] integers must be unpacked as they were packed; got others in a tensor of shape "
                f"{shape_text(&x.array)}"
            )
    elif packed.contiguous and not is_contiguous(&x.array):
        x = engine_ops.clone(alias(x))
    return x


cdef object digest(Tensor x):
    """A fingerprint of the elements of a contiguous tensor that cannot be forged."""
    from hashlib import blake2b     # not at import, which it would make slower

    cdef Py_ssize_t size = numel(&x.array) * itemsize_of(x.array.dtype)
    return blake2b(PyMemoryView_FromMemory(<char*>x.array.data, size, PyBUF_READ)).digest()


cdef int forget(object kept) except -1:
    """The node has run: what was unpacked for it is not needed any longer."""
    (<Packed>kept).unpacked = None
    return 0


cdef int unpack_rule(Node node, Tensor d) except -1:
    return node.give(0, d)


engine_ops.pack, engine_ops.unpack, engine_ops.forget = pack, unpack, forget
