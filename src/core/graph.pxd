from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad._core.kernels cimport fg_array
from fastgrad._core.tensor cimport NOT_A_VIEW, Tensor

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
    int64_t signature       # of a leaf's shape when it was recorded

cdef struct Saved:
    PyObject* tensor        # owned: a Tensor, or what stands for it under saved_tensors_hooks
    uint64_t version
    bint is_output, is_packed

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

    cdef Tensor take(self, int k)
    cdef int drop(self) except -1
    cdef Tensor saved(self, int k)
    cdef int forget_unpacked(self) except -1
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
    Tensor (*view_region)(Tensor, Region*)
    Tensor (*embed_region)(Tensor, Region*)
    Tensor (*put_region)(Tensor, Tensor, Region*)
    int (*remake_view)(Tensor) except -1
    object (*pack)(Tensor)
    Tensor (*unpack)(Node, object, bint)
    int (*forget)(object) except -1

cdef EngineOps engine_ops


cdef struct AnomalyMode:
    bint enabled, checks_nan

cdef AnomalyMode anomaly

cdef struct SavingMode:
    int hooks_open          # saved_tensors_hooks, of all threads together

cdef SavingMode saving

cdef Node new_node(Op* op, int edge_count)
cdef int start_node(Node node, Op* op, int edge_count) except -1
cdef int add_outputs(Node node, int count) except -1
cdef int set_output(Node node, int k, Tensor out) except -1
cdef Node record(Op* op, Tensor out, int edge_count)
cdef int connect(Node node, int k, Tensor x) except -1
cdef OutputShape input_shape(Node node, int k)
cdef int reserve_saved(Node node, int count) except -1
cdef int save(Node node, int k, Tensor x) except -1
cdef int save_output(Node node, int k, Tensor out) except -1
cdef object node_of(Tensor x)
cdef int track(Tensor x) except -1

cdef bint grad_enabled() noexcept nogil
cdef int switch_recording(int off) noexcept nogil
cdef bint inference_enabled() noexcept nogil
cdef int switch_inference(int on) noexcept nogil


cdef inline bint requires_grad_of(Tensor x) noexcept:
    return x.requires or (x.view_kind != NOT_A_VIEW and x.base is not None and x.base.requires)


cdef inline bint recording(Tensor x) noexcept:
    """Must an op on x be recorded?"""
    return requires_grad_of(x) and grad_enabled()


cdef inline bint recording2(Tensor a, Tensor b) noexcept:
    return (requires_grad_of(a) or requires_grad_of(b)) and grad_enabled()
