from libc.stdint cimport uint64_t


cdef class Storage:
    cdef char* data
    cdef readonly Py_ssize_t nbytes
    cdef readonly uint64_t version      # raised by every in-place write
    cdef int size_class                 # of the allocator; -1 for a lender's memory
    cdef Py_buffer* lender              # whose memory this is, if it is not ours


cdef Storage new_storage(Py_ssize_t nbytes)
cdef Storage borrow_storage(object exporter, int flags)
