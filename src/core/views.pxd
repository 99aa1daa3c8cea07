from fastgrad._core.tensor cimport Tensor

cdef Tensor mark_view(Tensor out, Tensor x)
cdef int check_in_place(Tensor x, str op) except -1
cdef Tensor history_stand_in(Tensor x, bint copy)
cdef int rebase(Tensor x, Tensor result) except -1
