"""Storage: one block of memory, from the caching allocator or lent by another object through the buffer protocol."""

cimport cython
from cpython.buffer cimport PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport calloc, free

cdef extern from "allocator.h":
    void* fg_allocate(size_t size, int* size_class)
    void fg_deallocate(void* memory, int size_class)
    void fg_release_idle()
    size_t fg_bytes_in_use, fg_bytes_peak, fg_bytes_idle


@cython.final
@cython.no_gc
@cython.freelist(512)
cdef class Storage:
    """A block of `nbytes` bytes, 64-byte aligned when it is ours. Made by the functions below only."""

    def __init__(self):
        raise TypeError("[Storage] a Storage is made by a tensor; got a direct call")

    def __dealloc__(self):
        if self.lender != NULL:
            PyBuffer_Release(self.lender)
            free(self.lender)
        elif self.data != NULL:
            fg_deallocate(self.data, self.size_class)


cdef Storage new_storage(Py_ssize_t nbytes):
    cdef Storage storage = Storage.__new__(Storage)
    storage.data = <char*>fg_allocate(nbytes, &storage.size_class)
    if storage.data == NULL:
        raise RuntimeError(f"[empty] not enough memory: you tried to allocate {nbytes} bytes")
    storage.nbytes = nbytes
    return storage


cdef Storage borrow_storage(object exporter, int flags):
    """The exporter's memory, kept alive and locked against resizing until the last tensor on it is gone."""
    cdef Storage storage = Storage.__new__(Storage)
    cdef Py_buffer* buffer = <Py_buffer*>calloc(1, sizeof(Py_buffer))
    if buffer == NULL:
        raise MemoryError
    try:
        PyObject_GetBuffer(exporter, buffer, flags)
    except BaseException:
        free(buffer)
        raise
    storage.lender = buffer
    storage.size_class = -1
    storage.data = <char*>buffer.buf
    storage.nbytes = extent(buffer)
    return storage


cdef Py_ssize_t extent(const Py_buffer* buffer) noexcept:
    """The bytes from the first element to the end of the last; strides are not negative."""
    cdef Py_ssize_t last = buffer.itemsize
    cdef int axis
    for axis in range(buffer.ndim):
        if buffer.shape[axis] == 0:
            return 0
        last += (buffer.shape[axis] - 1) * buffer.strides[axis]
    return last


def memory_stats() -> dict:
    """Bytes of the caching allocator: `in_use` by tensors, their `peak`, and `idle` in the free lists.

    >>> import fastgrad
    >>> sorted(fastgrad.memory_stats())
    ['idle', 'in_use', 'peak']
    """
    return {"in_use": fg_bytes_in_use, "peak": fg_bytes_peak, "idle": fg_bytes_idle}


def reset_peak_memory() -> None:
    """Let `memory_stats()["peak"]` start again from what is in use."""
    global fg_bytes_peak
    fg_bytes_peak = fg_bytes_in_use


def empty_cache() -> None:
    """Give the idle blocks of the caching allocator back to the operating system."""
    fg_release_idle()
