from fastgrad._core.graph cimport Node, Op
from fastgrad._core.tensor cimport Tensor

cdef enum Wants:
    NOTHING
    INPUT
    OUTPUT

cdef struct Unary:
    Op op
    int kernel
    Wants wants          # what the gradient rule wants to see again
    bint to_float        # an integer input gives a float
    const char* name

cdef Unary SQUARE, LOG, FLOOR, TRUNC

cdef Tensor unary(Unary* row, Tensor x)
cdef int neg_rule(Node node, Tensor d) except -1
