"""The graph: a Node for every recorded op, with edges to what made its inputs and the tensors that its rule needs."""

import traceback

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastgrad._core.tensor cimport NOT_A_VIEW, Tensor, alias, operators, shape_signature, shape_text

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject*)
    void PyObject_GC_Track(PyObject*)
    bint PyObject_GC_IsTracked(PyObject*)
    void Py_CLEAR(PyObject*)

cdef extern from "grad_mode.h":
    ctypedef struct fg_grad_mode:
        int recording_off
        int inference
    fg_grad_mode* fg_current_grad_mode() noexcept nogil


# Every second number is left for a view that is made again after an in-place write to its base.
cdef uint64_t next_sequence = 2

anomaly.enabled, anomaly.checks_nan = False, True


@cython.trashcan(True)
@cython.freelist(512)
cdef class Node:
    """An op's record in the graph, what `tensor.grad_fn` shows."""

    def __cinit__(self):
        self.edges = self.inline_edges
        self.kept = self.inline_saved
        self.outputs = &self.inline_output
        self.pending = &self.inline_pending

    def __dealloc__(self):
        cdef int k
        for k in range(self.edge_count):
            Py_XDECREF(self.edges[k].target)
            Py_XDECREF(self.edges[k].gradient)
        if self.edges != self.inline_edges:
            free(self.edges)
        for k in range(self.saved_count):
            Py_XDECREF(self.kept[k].tensor)
        if self.kept != self.inline_saved:
            free(self.kept)
        if self.pending != NULL:
            for k in range(self.output_count):
                Py_XDECREF(self.pending[k])
        if self.pending != &self.inline_pending:
            free(self.pending)
        if self.outputs != &self.inline_output:
            free(self.outputs)
        if self.region != NULL:
            free(self.region)

    cdef str label(self):
        return self.op.name.decode() if self.op != NULL else "Node"

    def name(self) -> str:
        """The op's name, `MulBackward0` for instance."""
        return self.label()

    def __repr__(self):
        return f"<{self.label()} object at {hex(<size_t><PyObject*>self)}>"

    @property
    def next_functions(self):
        """((node, output number), ...) of the inputs; AccumulateGrad stands for a leaf."""
        return tuple([
            (None, 0) if self.edges[k].target == NULL
            else (AccumulateGrad(<Tensor>self.edges[k].target), 0) if self.edges[k].slot < 0
            else (<Node>self.edges[k].target, self.edges[k].slot)
            for k in range(self.edge_count)
        ])

    @property
    def metadata(self):
        """Under `detect_anomaly`, {"traceback_": where the forward ran}."""
        return {} if self.trace is None else {"traceback_": self.trace}

    cdef bint needs(self, int k) noexcept:
        """Does anybody want the gradient of input k?"""
        return self.edges[k].target != NULL and (k >= 64 or self.wanted >> k & 1)

    cdef int give(self, int k, Tensor gradient) except -1:
        """The gradient of input k."""
        cdef Edge* edge = &self.edges[k]
        if edge.target == NULL:
            return 0
        Py_XDECREF(edge.gradient)
        Py_INCREF(gradient)
        edge.gradient = <PyObject*>gradient
        edge.in_region = False
        return 0

    cdef int give_region(self, Tensor d) except -1:
        """The gradient of input 0 is d inside self.region and zero elsewhere."""
        if not grad_enabled():
            self.give(0, d)
            self.edges[0].in_region = True
        else:
            self.give(0, engine_ops.embed_region(d, self.region))
        return 0

    cdef Tensor incoming(self, int k):
        """The gradient of output k, or None."""
        return <Tensor>self.pending[k] if self.pending[k] != NULL else None

    cdef Tensor take(self, int k):
        """The gradient that the rule gave for input k, which leaves the node, or None."""
        cdef Tensor gradient = None
        if self.edges[k].gradient != NULL:
            gradient = <Tensor>self.edges[k].gradient
            self.edges[k].gradient = NULL
            Py_DECREF(gradient)
        return gradient

    cdef int drop(self) except -1:
        """Forget all gradients: the run is done with this node, or was broken off."""
        cdef int k
        for k in range(self.output_count):
            Py_CLEAR(self.pending[k])
        for k in range(self.edge_count):
            Py_CLEAR(self.edges[k].gradient)
        self.forget_unpacked()
        self.run = NULL
        return 0

    cdef Tensor saved(self, int k):
        """What `save` kept under this number."""
        cdef Saved* saved = &self.kept[k]
        cdef Tensor x
        if self.freed:
            raise RuntimeError(
                f"[backward] trying to backward through the graph a second time: the saved tensors of {self.label()} were "
                "freed by the first; specify retain_graph=True if you need to backward through the graph a second "
                "time; got retain_graph=False in the first"
            )
        if saved.tensor == NULL:
            return None
        if saved.is_packed:
            return engine_ops.unpack(self, <object>saved.tensor, saved.is_output)
        x = <Tensor>saved.tensor
        if x.storage.version != saved.version:
            raise RuntimeError(
                "[backward] one of the variables needed for gradient computation has been modified by an inplace "
                f"operation: a tensor of shape {shape_text(&x.array)} saved by {self.label()} is at version "
                f"{x.storage.version}; expected version {saved.version} instead"
            )
        if saved.is_output and grad_enabled():
            x = alias(x)
            x.node, x.output_number, x.requires = self, (<Tensor>saved.tensor).output_number, True
        return x

    cdef int forget_unpacked(self) except -1:
        """The rule has run, and the graph is kept: it keeps what was packed, not what that was unpacked to."""
        cdef int k
        for k in range(self.saved_count):
            if self.kept[k].is_packed and self.kept[k].tensor != NULL:
                engine_ops.forget(<object>self.kept[k].tensor)
        if isinstance(self.context, Node):
            (<Node>self.context).forget_unpacked()
        return 0

    cdef int release(self) except -1:
        """Free what was saved: this graph is not walked again."""
        cdef int k
        if self.saved_count:
            self.freed = True
        for k in range(self.saved_count):
            Py_XDECREF(self.kept[k].tensor)
            self.kept[k].tensor = NULL
        if isinstance(self.context, Node) and (<Node>self.context).run == NULL:
            (<Node>self.context).release()      # the op inside a CopySlices, unless it is to run in its own right too
        return 0


cdef class AccumulateGrad:
    """What `next_functions` shows for a leaf."""

    cdef readonly Tensor variable

    def __init__(self, Tensor variable):
        self.variable = variable

    def name(self) -> str:
        return "fastgrad::autograd::AccumulateGrad"

    def __repr__(self):
        return f"<AccumulateGrad object at {hex(<size_t><PyObject*>self)}>"


# Recording


cdef int start_node(Node node, Op* op, int edge_count) except -1:
    global next_sequence
    node.op = op
    node.sequence = next_sequence
    next_sequence += 2
    node.edge_count = edge_count
    node.edges = node.inline_edges
    if edge_count > 3:
        node.edges = <Edge*>calloc(edge_count, sizeof(Edge))
        if node.edges == NULL:
            node.edge_count = 0
            raise MemoryError
    node.kept = node.inline_saved
    node.outputs = &node.inline_output
    node.pending = &node.inline_pending
    if anomaly.enabled:
        node.trace = "".join(traceback.format_stack())
    return 0


cdef Node new_node(Op* op, int edge_count):
    cdef Node node = Node.__new__(Node)
    PyObject_GC_UnTrack(<PyObject*>node)
    start_node(node, op, edge_count)
    return node


cdef int set_output(Node node, int k, Tensor out) except -1:
    cdef OutputShape* output = &node.outputs[k]
    output.dtype = out.array.dtype
    output.ndim = out.array.ndim
    memcpy(output.shape, out.array.shape, out.array.ndim * sizeof(int64_t))
    out.node = node
    out.output_number = k
    out.requires = True
    return 0


cdef Node record(Op* op, Tensor out, int edge_count):
    """A Node for an op with one output; the caller connects its inputs and saves what the rule needs."""
    cdef Node node = new_node(op, edge_count)
    node.output_count = 1
    set_output(node, 0, out)
    return node


cdef int add_outputs(Node node, int count) except -1:
    """Room for several outputs, which `set_output` then enters."""
    cdef int k
    node.output_count = count
    if count > 1:
        node.outputs = <OutputShape*>calloc(count, sizeof(OutputShape))
        node.pending = <PyObject**>calloc(count, sizeof(PyObject*))
        if node.outputs == NULL or node.pending == NULL:
            raise MemoryError
    return 0


cdef int connect(Node node, int k, Tensor x) except -1:
    """Make x input k of the node. A tensor that needs no gradient leaves the edge empty."""
    cdef Edge* edge = &node.edges[k]
    if not requires_grad_of(x):
        return 0
    source = node_of(x)
    if source is None:
        source = x
        edge.slot = -1
        edge.signature = shape_signature(&x.array)
    else:
        edge.slot = x.output_number
    Py_INCREF(source)
    edge.target = <PyObject*>source
    return 0


cdef OutputShape input_shape(Node node, int k):
    """Shape and dtype of input k, which must need a gradient."""
    cdef OutputShape shape
    cdef Tensor leaf
    if node.edges[k].slot >= 0:
        return (<Node>node.edges[k].target).outputs[node.edges[k].slot]
    leaf = <Tensor>node.edges[k].target
    shape.dtype, shape.ndim = leaf.array.dtype, leaf.array.ndim
    memcpy(shape.shape, leaf.array.shape, sizeof(shape.shape))
    return shape


cdef int reserve_saved(Node node, int count) except -1:
    """Room for more than three saved tensors; before the first save."""
    if count > 3:
        node.kept = <Saved*>calloc(count, sizeof(Saved))
        if node.kept == NULL:
            node.kept = node.inline_saved
            raise MemoryError
    return 0


cdef int save(Node node, int k, Tensor x) except -1:
    """Keep an input for the rule, which gets it as `node.saved(k)` unless it was changed in place by then."""
    cdef Saved* saved = &node.kept[k]
    kept = engine_ops.pack(x) if saving.hooks_open else x
    Py_INCREF(kept)
    saved.tensor = <PyObject*>kept
    saved.is_packed = kept is not x
    saved.version = x.storage.version
    saved.is_output = False
    if k >= node.saved_count:
        node.saved_count = k + 1
    return 0


cdef int save_output(Node node, int k, Tensor out) except -1:
    """Keep an output: an alias outside the graph, since the tensor itself would own the node that keeps it."""
    cdef Tensor outside = alias(out)
    outside.output_number = out.output_number
    save(node, k, outside)
    node.kept[k].is_output = True
    return 0


cdef object node_of(Tensor x):
    """The Node that made x, or None. The base of a view may have been written to since: then the view is made again."""
    if x.view_kind != NOT_A_VIEW and x.base is not None and x.node_version != x.storage.version and x.base.requires:
        engine_ops.remake_view(x)
    return x.node


cdef int track(Tensor x) except -1:
    """From here on x can be part of a reference cycle."""
    if not PyObject_GC_IsTracked(<PyObject*>x):
        PyObject_GC_Track(<PyObject*>x)
    if x.node is not None and not PyObject_GC_IsTracked(<PyObject*>x.node):
        PyObject_GC_Track(<PyObject*>x.node)
    return 0


# What is switched per thread


cdef bint grad_enabled() noexcept nogil:
    return not fg_current_grad_mode().recording_off


cdef int switch_recording(int off) noexcept nogil:
    """Switch recording off or on in this thread; returns what it was."""
    cdef int was = fg_current_grad_mode().recording_off
    fg_current_grad_mode().recording_off = off
    return was


cdef bint inference_enabled() noexcept nogil:
    return fg_current_grad_mode().inference


cdef int switch_inference(int on) noexcept nogil:
    """Switch inference mode on or off in this thread; returns what it was."""
    cdef int was = fg_current_grad_mode().inference
    fg_current_grad_mode().inference = on
    return was


operators.node = node_of
