from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad._core.kernels cimport fg_array
from fastgrad._core.tensor cimport Tensor

cdef class Node

# A gradient rule gives `node.give(k, gradient)` for each input k that `node.needs(k)`; d is the gradient of output 0
# (None where an op of several outputs got none). It may return gradients that are broadcast or of another float dtype:
# the engine sums and casts them to the input's shape and dtype.
ctypedef int (*Rule)(Node node, Tensor d) except -1

cdef struct Op:
    const char* name
    Rule rule

# How a view lies in its base: geometries in elements of the base's storage, whose span covers both.
cdef struct Region:
    fg_array view
    int64_t view_offset
    fg_array base
    int64_t base_offset
    int64_t span

cdef struct Edge:
    PyObject* target        # owned: a Node, or a leaf Tensor; NULL where no gradient is needed
    int32_t slot            # which output of that Node; -1 for a leaf
    bint in_region          # `gradient` is that of node.region only
    PyObject* gradient      # owned: what the rule gave

cdef struct Saved:
    PyObject* tensor        # owned
    uint64_t version
    bint is_output

cdef struct OutputShape:
    int32_t dtype
    int32_t ndim
    int64_t[12] shape


cdef class Node:
    cdef Op* op
    cdef uint64_t sequence          # creation number
    cdef uint64_t wanted            # bit k: the run needs the gradient of input k
    cdef int edge_count, saved_count, output_count
    cdef bint freed
    cdef Edge* edges
    cdef Saved* kept
    cdef OutputShape* outputs
    cdef PyObject** pending         # owned: gradients of the outputs, summed so far
    cdef Edge[3] inline_edges
    cdef Saved[3] inline_saved
    cdef OutputShape inline_output
    cdef PyObject* inline_pending
    cdef PyObject* run              # borrowed: the Run that `pending` belongs to
    cdef int64_t[6] integers        # what a rule wants to know, without Python objects
    cdef double[2] numbers
    cdef Region* region             # of a view that is a part of its base; owned
    cdef object context             # anything else that a rule wants to know
    cdef object hooks               # {output number: {id: hook}}
    cdef object retained            # {output number: weak reference to the tensor that keeps its gradient}
    cdef object trace               # under detect_anomaly: where the forward ran

    cdef Tensor saved(self, int k)
    cdef Tensor incoming(self, int k)
    cdef bint needs(self, int k) noexcept
    cdef int give(self, int k, Tensor gradient) except -1
    cdef int give_region(self, Tensor d) except -1
    cdef int release(self) except -1
    cdef str label(self)


# What the engine needs of the ops, which are modules above it and enter themselves at import.
cdef struct EngineOps:
    Tensor (*add)(Tensor, Tensor)
    int (*accumulate)(Tensor, Tensor) except -1          # in place, not recorded
    Tensor (*sum_to)(Tensor, int, const int64_t*)
    Tensor (*cast)(Tensor, int)
    Tensor (*clone)(Tensor)                               # contiguous
    Tensor (*zeros)(int, int, const int64_t*)
    int (*copy)(Tensor, Tensor) except -1                # in place, not recorded
    Tensor (*view_region)(Tensor, Region*)
    Tensor (*embed_region)(Tensor, Region*)
    Tensor (*put_region)(Tensor, Tensor, Region*)

cdef EngineOps engine_ops

cdef bint grad_enabled() noexcept nogil
cdef int switch_recording(int off) noexcept nogil
cdef bint recording(Tensor x) noexcept
cdef bint recording2(Tensor a, Tensor b) noexcept
cdef Node record(Op* op, Tensor out, int edge_count)
cdef Node new_node(Op* op, int edge_count)
cdef int add_outputs(Node node, int count) except -1
cdef int start_node(Node node, Op* op, int edge_count) except -1
cdef int set_output(Node node, int k, Tensor out) except -1
cdef int connect(Node node, int k, Tensor x) except -1
cdef int save(Node node, int k, Tensor x) except -1
cdef int save_output(Node node, int k, Tensor out) except -1
cdef int reserve_saved(Node node, int count) except -1
cdef Tensor mark_view(Tensor out, Tensor x)
cdef int check_in_place(Tensor x, str op) except -1
cdef Tensor history_stand_in(Tensor x, bint copy)
cdef int rebase(Tensor x, Tensor result) except -1
cdef object node_of(Tensor x)
cdef OutputShape input_shape(Node node, int k)
cdef Region* region_between(Tensor view, Tensor base) except NULL
cdef Tensor region_of(Tensor base, Region* region)
cdef Tensor embedded(Tensor gradient, Region* region)
cdef int track(Tensor x) except -1
cdef int differentiate_composite(Node node, object composite, list inputs, Tensor d) except -1
