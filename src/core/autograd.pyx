"""The graph of recorded ops and the engine that walks it backwards."""

import functools
import threading
import traceback
import warnings
import weakref

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from fastgrad._core.kernels cimport FG_MAX_NDIM
from fastgrad._core.tensor cimport (
    NOT_A_VIEW, VIEW, VIEW_OF_MANY, VIEW_WITHOUT_GRAD, Tensor, alias, dtype_object, is_contiguous, is_float, itemsize_of, numel,
    operators, same_shape, shape_text, written,
)

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject*)
    void PyObject_GC_Track(PyObject*)
    bint PyObject_GC_IsTracked(PyObject*)
    Py_ssize_t Py_REFCNT(PyObject*)
    unsigned long PyThread_get_thread_ident()

cdef extern from "grad_mode.h":
    ctypedef struct fg_grad_mode:
        int recording_off
        int inference
    fg_grad_mode* fg_current_grad_mode() noexcept nogil


# Recording


# Every second number is left for a view that is made again after an in-place write to its base.
cdef uint64_t next_sequence = 2
cdef bint anomaly_mode = False
cdef bint anomaly_checks_nan = True


cdef bint grad_enabled() noexcept nogil:
    return not fg_current_grad_mode().recording_off


cdef int switch_recording(int off) noexcept nogil:
    """Switch recording off or on in this thread; returns what it was."""
    cdef int was = fg_current_grad_mode().recording_off
    fg_current_grad_mode().recording_off = off
    return was


cdef inline bint requires_grad_of(Tensor x) noexcept:
    return x.requires or (x.view_kind != NOT_A_VIEW and x.base is not None and x.base.requires)


cdef bint recording(Tensor x) noexcept:
    """Must an op on x be recorded?"""
    return requires_grad_of(x) and grad_enabled()


cdef bint recording2(Tensor a, Tensor b) noexcept:
    return (requires_grad_of(a) or requires_grad_of(b)) and grad_enabled()


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
    if anomaly_mode:
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
    Py_INCREF(x)
    saved.tensor = <PyObject*>x
    saved.version = x.storage.version
    saved.is_output = False
    if k >= node.saved_count:
        node.saved_count = k + 1
    return 0


cdef int save_output(Node node, int k, Tensor out) except -1:
    """Keep an output: an alias outside the graph, since the tensor itself would own the node that keeps it."""
    save(node, k, alias(out))
    node.kept[k].is_output = True
    (<Tensor>node.kept[k].tensor).output_number = out.output_number
    return 0


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

    cdef int release(self) except -1:
        """Free what was saved: this graph is not walked again."""
        cdef int k
        if self.saved_count:
            self.freed = True
        for k in range(self.saved_count):
            Py_XDECREF(self.kept[k].tensor)
            self.kept[k].tensor = NULL
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


# The engine


cdef class Run:
    """One walk backwards over the graph.

    Nodes wait in a heap and leave it by creation number, the latest first. Every consumer of a tensor was created after
    its producer, so when a node leaves the heap, all of its gradient has arrived: in `b = a * 2; c = b + b`, the node of
    b must not run on the first of the two gradients that the addition sends, or a would get the second one too late.
    """

    cdef PyObject** heap
    cdef int size, room
    cdef bint create_graph, keep_graph, accumulates
    cdef unsigned long thread
    cdef set needed           # ids of the nodes and leaves to be gone through; None for all
    cdef dict captures        # (id of node or leaf, slot) -> position in `captured`
    cdef list captured
    cdef dict leaf_sums       # id -> [leaf, sum], for leaves that must see the whole sum: hooks, captures
    cdef list displaced       # [node, pending, run]: nodes taken over from an outer run of this thread

    def __cinit__(self):
        self.accumulates = True
        self.thread = PyThread_get_thread_ident()

    def __dealloc__(self):
        free(self.heap)

    # the heap

    cdef int push(self, Node node) except -1:
        cdef int k, parent
        cdef PyObject** larger
        if self.size == self.room:
            larger = <PyObject**>realloc(self.heap, (2 * self.room + 16) * sizeof(PyObject*))
            if larger == NULL:
                raise MemoryError
            self.heap, self.room = larger, 2 * self.room + 16
        k = self.size
        self.size += 1
        while k > 0:
            parent = (k - 1) // 2
            if (<Node>self.heap[parent]).sequence >= node.sequence:
                break
            self.heap[k] = self.heap[parent]
            k = parent
        Py_INCREF(node)
        self.heap[k] = <PyObject*>node
        return 0

    cdef Node pop(self):
        cdef Node top = <Node>self.heap[0]
        cdef PyObject* last
        cdef int k = 0, child
        Py_DECREF(top)     # the heap's reference; `top` holds its own
        self.size -= 1
        last = self.heap[self.size]
        while True:
            child = 2 * k + 1
            if child >= self.size:
                break
            if child + 1 < self.size and (<Node>self.heap[child + 1]).sequence > (<Node>self.heap[child]).sequence:
                child += 1
            if (<Node>last).sequence >= (<Node>self.heap[child]).sequence:
                break
            self.heap[k] = self.heap[child]
            k = child
        if self.size:
            self.heap[k] = last
        return top

    cdef int claim(self, Node node) except -1:
        """Put the node on the heap, if it is not there."""
        cdef int k
        if node.run == <PyObject*>self:
            return 0
        if node.run != NULL:
            if (<Run>node.run).thread != self.thread:
                raise RuntimeError(
                    f"[backward] two threads may not differentiate the same graph at once; got {node.label()} in both"
                )
            if self.displaced is None:
                self.displaced = []
            self.displaced.append((node, [node.incoming(k) for k in range(node.output_count)], <Run>node.run))
            for k in range(node.output_count):
                Py_XDECREF(node.pending[k])
                node.pending[k] = NULL
        node.run = <PyObject*>self
        self.push(node)
        return 0

    # gradients arriving

    cdef int deliver(self, PyObject* target, int slot, Tensor gradient, Region* region) except -1:
        """Add a gradient to an output of a node or to a leaf. `region`: it is that of this part, zero elsewhere."""
        cdef Node node
        cdef PyObject** place
        if self.needed is not None and <size_t>target not in self.needed:
            return 0
        if slot < 0:
            return self.deliver_to_leaf(<Tensor>target, gradient, region)
        node = <Node>target
        self.claim(node)
        self.add_to(&node.pending[slot], gradient, region, &node.outputs[slot])
        return 0

    cdef Tensor fitted(self, Tensor gradient, int code, int ndim, const int64_t* shape):
        """The gradient summed over broadcast axes and cast, as its tensor's shape and dtype want it."""
        cdef int axis
        cdef bint same = gradient.array.ndim == ndim
        if same:
            for axis in range(ndim):
                if gradient.array.shape[axis] != shape[axis]:
                    same = False
                    break
        if not same:
            gradient = engine_ops.sum_to(gradient, ndim, shape)
        if gradient.array.dtype != code:
            gradient = engine_ops.cast(gradient, code)
        return gradient

    cdef int add_to(self, PyObject** place, Tensor gradient, Region* region, OutputShape* output) except -1:
        cdef Tensor total, whole
        if region != NULL and place[0] != NULL and not self.create_graph and is_exclusive(<Tensor>place[0], 1) and is_contiguous(&region.base):
            whole = <Tensor>place[0]
            accumulate_region(whole, region, gradient)
            return 0
        if region != NULL:
            gradient = embedded(gradient, region)
        gradient = self.fitted(gradient, output.dtype, output.ndim, output.shape)
        if place[0] == NULL:
            total = gradient
        elif not self.create_graph and is_exclusive(<Tensor>place[0], 1):
            engine_ops.accumulate(<Tensor>place[0], gradient)
            return 0
        else:
            total = engine_ops.add(<Tensor>place[0], gradient)
            Py_DECREF(<object>place[0])
        Py_INCREF(total)
        place[0] = <PyObject*>total
        return 0

    cdef int deliver_to_leaf(self, Tensor leaf, Tensor gradient, Region* region) except -1:
        if leaf.hooks is not None or self.captures is not None:
            return self.sum_leaf(leaf, gradient, region)
        if region != NULL:
            if (leaf.gradient is not None and not self.create_graph and is_contiguous(&region.base)
                    and is_contiguous(&leaf.gradient.array)):
                written(leaf.gradient)
                accumulate_region(leaf.gradient, region, gradient)
                return 0
            gradient = embedded(gradient, region)
        return self.accumulate_grad(leaf, self.fitted(gradient, leaf.array.dtype, leaf.array.ndim, leaf.array.shape))

    cdef int accumulate_grad(self, Tensor leaf, Tensor gradient) except -1:
        """leaf.grad += gradient, in place unless the gradient is to be differentiated itself."""
        if leaf.gradient is None:
            # Two references: the caller's variable and our argument.
            if not self.create_graph and not (is_exclusive(gradient, 2) and not gradient.requires):
                gradient = engine_ops.clone(gradient)
            leaf.gradient = gradient
        elif self.create_graph:
            leaf.gradient = engine_ops.add(leaf.gradient, gradient)
        else:
            written(leaf.gradient)
            engine_ops.accumulate(leaf.gradient, gradient)
        return 0

    cdef int sum_leaf(self, Tensor leaf, Tensor gradient, Region* region) except -1:
        cdef Tensor total
        if region != NULL:
            gradient = embedded(gradient, region)
        gradient = self.fitted(gradient, leaf.array.dtype, leaf.array.ndim, leaf.array.shape)
        if self.leaf_sums is None:
            self.leaf_sums = {}
        entry = self.leaf_sums.setdefault(<size_t><PyObject*>leaf, [leaf, None])
        entry[1] = gradient if entry[1] is None else engine_ops.add(entry[1], gradient)
        return 0

    cdef int finish_leaves(self) except -1:
        cdef Tensor leaf, gradient
        if self.leaf_sums is None:
            return 0
        for leaf, gradient in self.leaf_sums.values():
            if leaf.hooks is not None:
                gradient = run_hooks(leaf.hooks.gradient, gradient)
            self.capture(<PyObject*>leaf, -1, gradient)
            if self.accumulates:
                self.accumulate_grad(leaf, gradient)
                if leaf.hooks is not None:
                    for hook in list(leaf.hooks.accumulated.values()):
                        hook(leaf)
        return 0

    cdef int capture(self, PyObject* target, int slot, Tensor gradient) except -1:
        if self.captures is not None:
            position = self.captures.get((<size_t>target, slot))
            if position is not None:
                self.captured[position] = gradient
        return 0

    # the walk

    cdef int execute(self, Node node) except -1:
        cdef int k
        cdef Tensor gradient
        cdef Edge* edge
        for k in range(node.output_count):
            if node.pending[k] == NULL:
                continue
            if node.hooks is not None and k in node.hooks:
                gradient = run_hooks(node.hooks[k], <Tensor>node.pending[k])
                Py_INCREF(gradient)
                Py_DECREF(<object>node.pending[k])
                node.pending[k] = <PyObject*>gradient
                gradient = None
            if node.retained is not None and k in node.retained:
                keep_grad(node.retained[k](), <Tensor>node.pending[k], self.create_graph)
            if self.captures is not None:
                self.capture(<PyObject*>node, k, <Tensor>node.pending[k])
        if self.needed is None:
            node.wanted = <uint64_t>-1
        else:
            node.wanted = 0
            for k in range(min(node.edge_count, 64)):
                edge = &node.edges[k]
                if edge.target != NULL and <size_t>edge.target in self.needed:
                    node.wanted |= <uint64_t>1 << k
        if self.needed is None or node.wanted or node.edge_count > 64:
            if node.pending[0] != NULL:
                node.op.rule(node, <Tensor>node.pending[0])
            else:
                node.op.rule(node, None)
            if anomaly_mode and anomaly_checks_nan:
                check_anomaly(node)
        for k in range(node.output_count):
            Py_XDECREF(node.pending[k])
            node.pending[k] = NULL
        node.run = NULL
        if not self.keep_graph:
            node.release()
        for k in range(node.edge_count):
            edge = &node.edges[k]
            if edge.gradient != NULL:
                gradient = <Tensor>edge.gradient
                Py_DECREF(gradient)
                edge.gradient = NULL
                self.deliver(edge.target, edge.slot, gradient, node.region if edge.in_region else NULL)
                gradient = None
        return 0

    cdef int walk(self) except -1:
        cdef Node node
        cdef int k
        cdef fg_grad_mode* mode = fg_current_grad_mode()
        cdef int was_off = mode.recording_off
        mode.recording_off = not self.create_graph
        try:
            while self.size:
                node = self.pop()
                try:
                    self.execute(node)
                except BaseException:
                    drop_pending(node)
                    raise
            self.finish_leaves()
        finally:
            mode.recording_off = was_off
            while self.size:
                drop_pending(self.pop())
            if self.displaced is not None:
                for node, pending, run in reversed(self.displaced):
                    node.run = <PyObject*>run
                    for k, gradient in enumerate(pending):
                        if gradient is not None:
                            Py_INCREF(gradient)
                            node.pending[k] = <PyObject*>gradient
        return 0


cdef int drop_pending(Node node) except -1:
    cdef int k
    for k in range(node.output_count):
        Py_XDECREF(node.pending[k])
        node.pending[k] = NULL
    for k in range(node.edge_count):
        Py_XDECREF(node.edges[k].gradient)
        node.edges[k].gradient = NULL
    node.run = NULL
    return 0


cdef inline bint is_exclusive(Tensor x, int references) noexcept:
    """Is x contiguous, and are these many references the only ones to it and its storage its alone?"""
    return (
        Py_REFCNT(<PyObject*>x) <= references and Py_REFCNT(<PyObject*>x.storage) == 1 and is_contiguous(&x.array)
        and x.storage.lender == NULL
    )


cdef Tensor region_of(Tensor base, Region* region):
    """The part of a base, whose elements lie as region.base says, that the region describes."""
    cdef Tensor view = alias(base)
    cdef int64_t shift = region.view_offset - region.base_offset
    view.array.ndim = region.view.ndim
    memcpy(view.array.shape, region.view.shape, region.view.ndim * sizeof(int64_t))
    memcpy(view.array.strides, region.view.strides, region.view.ndim * sizeof(int64_t))
    view.array.data = <char*>base.array.data + shift * itemsize_of(base.array.dtype)
    return view


cdef int accumulate_region(Tensor base, Region* region, Tensor gradient) except -1:
    """Add to the part of a base that the region describes; the same element may be in it many times over."""
    cdef Tensor part = region_of(base, region)
    cdef int axis
    for axis in range(part.array.ndim):
        if part.array.strides[axis] == 0:
            part.array.shape[axis] = 1
    if not same_shape(&part.array, &gradient.array):
        gradient = engine_ops.sum_to(gradient, part.array.ndim, part.array.shape)
    return engine_ops.accumulate(part, gradient)


cdef Tensor embedded(Tensor gradient, Region* region):
    """Zeros of the base's shape with the gradient added where the region lies."""
    cdef Tensor whole = engine_ops.zeros(gradient.array.dtype, 1, &region.span)
    memcpy(whole.array.shape, region.base.shape, region.base.ndim * sizeof(int64_t))
    memcpy(whole.array.strides, region.base.strides, region.base.ndim * sizeof(int64_t))
    whole.array.ndim = region.base.ndim
    whole.array.data = whole.storage.data + region.base_offset * itemsize_of(gradient.array.dtype)
    accumulate_region(whole, region, gradient)
    return whole


cdef Tensor run_hooks(dict hooks, Tensor gradient):
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
            gradient = <Tensor>result
    return gradient


cdef int keep_grad(object x, Tensor gradient, bint create_graph) except -1:
    """retain_grad: `.grad` of a tensor that is no leaf."""
    cdef Tensor t
    if x is not None:
        t = <Tensor>x
        if t.gradient is not None:
            t.gradient = engine_ops.add(t.gradient, gradient)
        else:
            t.gradient = gradient if create_graph else engine_ops.clone(gradient)
    return 0


cdef int check_anomaly(Node node) except -1:
    cdef int k
    for k in range(node.edge_count):
        if node.edges[k].gradient != NULL:
            gradient = <Tensor>node.edges[k].gradient
            if bool((gradient != gradient).any()):
                where = node.trace if node.trace is not None else "(its forward ran outside detect_anomaly)"
                warnings.warn(f"Error detected in {node.label()}. Traceback of forward call that caused the error:\n{where}")
                raise RuntimeError(
                    f"[backward] no gradient may be NaN under detect_anomaly; got nan values from {node.label()} in its output "
                    f"{k}. Its forward call:\n{where}"
                )
    return 0


cdef Tensor implicit_gradient(Tensor root):
    cdef Tensor gradient
    if numel(&root.array) != 1:
        raise RuntimeError(
            f"[backward] grad can be implicitly created only for scalar outputs; got shape {shape_text(&root.array)}"
        )
    if not is_float(root.array.dtype):
        raise RuntimeError(
            f"[backward] grad can be implicitly created only for real scalar outputs; got {dtype_object(root.array.dtype)}"
        )
    gradient = engine_ops.zeros(root.array.dtype, root.array.ndim, root.array.shape)
    if root.array.dtype == 4:
        (<float*>gradient.array.data)[0] = 1
    else:
        (<double*>gradient.array.data)[0] = 1
    return gradient


cdef int start(Run run, int position, Tensor root, object gradient) except -1:
    """Deliver the gradient of one root."""
    cdef Tensor d
    if not requires_grad_of(root):
        raise RuntimeError(
            f"[backward] element {position} of tensors does not require grad and does not have a grad_fn; got a tensor "
            f"of shape {shape_text(&root.array)} made outside the graph"
        )
    if gradient is None:
        d = implicit_gradient(root)
    elif not isinstance(gradient, Tensor):
        raise TypeError(f"[backward] gradients can be either Tensors or None; got {type(gradient).__name__}")
    else:
        d = <Tensor>gradient
        if not same_shape(&d.array, &root.array):
            raise RuntimeError(
                f"[backward] Mismatch in shape: the gradient must have the output's shape; got grad_output[{position}] of "
                f"shape {shape_text(&d.array)} for output[{position}] of shape {shape_text(&root.array)}"
            )
    node = node_of(root)
    if node is None:
        run.deliver(<PyObject*>root, -1, d, NULL)
    else:
        run.deliver(<PyObject*>node, root.output_number, d, NULL)
    return 0


cdef tuple capture_key(Tensor x):
    """What `Run.captures` calls the gradient of x."""
    source = node_of(x)
    if source is None:
        return (<size_t><PyObject*>x, -1)
    return (<size_t><PyObject*>source, x.output_number)


cdef int restrict(Run run, list roots, list inputs) except -1:
    """Limit the run to the nodes from which an input can be reached, and capture the inputs' gradients."""
    cdef Node node
    cdef int k
    cdef list stack = [], reached = []
    cdef set seen = set()
    run.captures, run.captured, run.needed = {}, [None] * len(inputs), set()
    for position, x in enumerate(inputs):
        key = capture_key(<Tensor>x)
        run.captures[key] = position
        run.needed.add(key[0])
    for root in roots:
        source = node_of(<Tensor>root)
        if source is not None:
            stack.append(source)
    while stack:
        node = <Node>stack.pop()
        if <size_t><PyObject*>node in seen:
            continue
        seen.add(<size_t><PyObject*>node)
        reached.append((node.sequence, node))
        for k in range(node.edge_count):
            if node.edges[k].target != NULL and node.edges[k].slot >= 0:
                stack.append(<Node>node.edges[k].target)
    reached.sort(key=_sequence_of)
    for _, node in reached:
        for k in range(node.edge_count):
            if node.edges[k].target != NULL and <size_t>node.edges[k].target in run.needed:
                run.needed.add(<size_t><PyObject*>node)
                break
    return 0


def _sequence_of(pair):
    return pair[0]


def tensor_backward(Tensor self, gradient=None, retain_graph=None, bint create_graph=False, inputs=None) -> None:
    """Add the gradient of this tensor with respect to the graph's leaves to their `.grad`.

    Args:
        gradient: the gradient of something else with respect to this tensor, of its shape; 1 for a scalar.
        retain_graph: keep what the graph saved, for another backward; `create_graph` if not given.
        create_graph: record the backward pass itself, for derivatives of higher order.
        inputs: only these get their `.grad`.

    Raises RuntimeError where PyTorch does: no graph, a non-scalar without a gradient, a wrong shape, a graph walked a
    second time, a saved tensor that was changed in place. See torch.Tensor.backward.

    >>> import fastgrad
    >>> x = fastgrad.tensor([1., 2.], requires_grad=True)
    >>> (x * x).sum().backward(); x.grad
    tensor([2., 4.])
    """
    cdef Run run
    if inputs is not None:
        backward(self, gradient, retain_graph, create_graph, inputs=inputs)
        return
    run = Run.__new__(Run)
    run.create_graph = create_graph
    run.keep_graph = create_graph if retain_graph is None else retain_graph
    start(run, 0, self, gradient)
    run.walk()


def backward(tensors, grad_tensors=None, retain_graph=None, bint create_graph=False, grad_variables=None, inputs=None) -> None:
    """The gradients of several tensors at once; see `Tensor.backward` and torch.autograd.backward."""
    cdef Run run = Run.__new__(Run)
    cdef list roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    cdef list gradients
    if grad_tensors is None:
        grad_tensors = grad_variables
    gradients = [grad_tensors] if grad_tensors is None or isinstance(grad_tensors, Tensor) else list(grad_tensors)
    if grad_tensors is None:
        gradients = [None] * len(roots)
    if len(gradients) != len(roots):
        raise RuntimeError(f"[backward] one gradient per tensor; got {len(roots)} tensors and {len(gradients)} gradients")
    run.create_graph = create_graph
    run.keep_graph = create_graph if retain_graph is None else retain_graph
    if inputs is not None:
        inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if not inputs:
            raise RuntimeError("[backward] inputs must not be empty; got an empty sequence")
        restrict(run, roots, inputs)
        run.accumulates = False
    for position, root in enumerate(roots):
        if not isinstance(root, Tensor):
            raise TypeError(f"[backward] tensors must be Tensors; got {type(root).__name__}")
        start(run, position, <Tensor>root, gradients[position])
    run.walk()
    if inputs is not None:
        for x, gradient in zip(inputs, run.captured):
            if gradient is not None:
                run.accumulate_grad(<Tensor>x, <Tensor>gradient)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, bint create_graph=False, only_inputs=True,
         allow_unused=None, bint is_grads_batched=False, bint materialize_grads=False) -> tuple:
    """The gradients of the outputs' sum with respect to the inputs, without touching any `.grad`.

    Arguments as torch.autograd.grad; returns one tensor per input, None for an input that the outputs do not depend on
    if `allow_unused` (zeros with `materialize_grads`).

    >>> import fastgrad
    >>> x = fastgrad.tensor(3., requires_grad=True)
    >>> first, = fastgrad.autograd.grad(x ** 3, x, create_graph=True)
    >>> fastgrad.autograd.grad(first, x)
    (tensor(18.),)
    """
    cdef Run run = Run.__new__(Run)
    cdef list roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    cdef list wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    cdef list gradients
    if is_grads_batched:
        raise ValueError("[grad] gradients come one at a time; got is_grads_batched=True")
    if grad_outputs is None:
        gradients = [None] * len(roots)
    else:
        gradients = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    if len(gradients) != len(roots):
        raise RuntimeError(f"[grad] one gradient per output; got {len(roots)} outputs and {len(gradients)} gradients")
    if allow_unused is None:
        allow_unused = materialize_grads
    elif materialize_grads and not allow_unused:
        raise ValueError("[grad] materialize_grads needs allow_unused; got allow_unused=False with materialize_grads=True")
    for position, x in enumerate(wanted):
        if not isinstance(x, Tensor):
            raise TypeError(f"[grad] inputs must be Tensors; got {type(x).__name__}")
        if not requires_grad_of(<Tensor>x):
            raise RuntimeError(
                f"[grad] One of the differentiated Tensors does not require grad; got input {position} of shape "
                f"{shape_text(&(<Tensor>x).array)}"
            )
    if not wanted:
        raise RuntimeError("[grad] inputs cannot be empty; got an empty sequence")
    run.create_graph = create_graph
    run.keep_graph = create_graph if retain_graph is None else retain_graph
    run.accumulates = False
    restrict(run, roots, wanted)
    for position, root in enumerate(roots):
        if not isinstance(root, Tensor):
            raise TypeError(f"[grad] outputs must be Tensors; got {type(root).__name__}")
        start(run, position, <Tensor>root, gradients[position])
    run.walk()
    found = []
    for position, x in enumerate(wanted):
        gradient = run.captured[run.captures[capture_key(<Tensor>x)]]
        if gradient is None and not allow_unused:
            raise RuntimeError(
                "[grad] One of the differentiated Tensors appears to not have been used in the graph; set "
                f"allow_unused=True if this is the desired behavior; got input {position}"
            )
        if gradient is None and materialize_grads:
            gradient = engine_ops.zeros((<Tensor>x).array.dtype, (<Tensor>x).array.ndim, (<Tensor>x).array.shape)
        found.append(gradient)
    return tuple(found)


cdef int differentiate_composite(Node node, object composite, list inputs, Tensor d) except -1:
    """The gradients of a fused op under create_graph: those of its composite, which are differentiable again.

    `inputs` are the op's inputs in the order of its edges, None where one is absent. The composite sees a view of each,
    so that a tensor that stands in two places gets a gradient for each place.
    """
    cdef int k
    stand_ins = [None if x is None else x.view_as(x) for x in inputs]
    wanted = [k for k in range(node.edge_count) if node.needs(k)]
    gradients = grad(composite(*stand_ins), [stand_ins[k] for k in wanted], d, create_graph=True, materialize_grads=True)
    for k, gradient in zip(wanted, gradients):
        node.give(k, gradient)
    return 0


# Views and in-place writes


cdef Op AS_STRIDED
AS_STRIDED.name = b"AsStridedBackward0"
AS_STRIDED.rule = as_strided_rule

cdef Op COPY_SLICES
COPY_SLICES.name = b"CopySlices"
COPY_SLICES.rule = copy_slices_rule


cdef Tensor mark_view(Tensor out, Tensor x):
    """Note that `out` shares x's elements, so that in-place writes to either reach the graph of both."""
    if x.untracked:
        return out
    if not grad_enabled():
        if requires_grad_of(x):
            out.view_kind = VIEW_WITHOUT_GRAD
        return out
    out.base = x if x.base is None else x.base
    out.view_kind = VIEW if x.view_kind == NOT_A_VIEW else x.view_kind
    out.node_version = out.storage.version
    return out


cdef object node_of(Tensor x):
    """The Node that made x, or None. The base of a view may have been written to since: then the view is made again."""
    cdef Node node
    if x.view_kind != NOT_A_VIEW and x.base is not None and x.node_version != x.storage.version and x.base.requires:
        node = record(&AS_STRIDED, x, 1)
        base_node = node_of(x.base)
        node.sequence = 1 if base_node is None else (<Node>base_node).sequence + 1
        connect(node, 0, x.base)
        node.region = region_between(x, x.base)
        x.node_version = x.storage.version
    return x.node


cdef Region* region_between(Tensor view, Tensor base) except NULL:
    """How the view lies in its base, in elements from the lowest address that either touches."""
    cdef Region* region = <Region*>calloc(1, sizeof(Region))
    cdef int64_t itemsize = itemsize_of(base.array.dtype)
    cdef char* lowest
    cdef int64_t last
    if region == NULL:
        raise MemoryError
    lowest = <char*>base.array.data if <char*>base.array.data < <char*>view.array.data else <char*>view.array.data
    memcpy(&region.view, &view.array, sizeof(fg_array))
    memcpy(&region.base, &base.array, sizeof(fg_array))
    region.view_offset = (<char*>view.array.data - lowest) // itemsize
    region.base_offset = (<char*>base.array.data - lowest) // itemsize
    last = region.view_offset + extent(&view.array)
    region.span = max(last, region.base_offset + extent(&base.array))
    return region


cdef int64_t extent(const fg_array* array) noexcept:
    """One past the largest offset of an element."""
    cdef int64_t last = 1
    cdef int axis
    for axis in range(array.ndim):
        if array.shape[axis] == 0:
            return 0
        last += (array.shape[axis] - 1) * array.strides[axis]
    return last


cdef int as_strided_rule(Node node, Tensor d) except -1:
    return node.give_region(d)


cdef int check_in_place(Tensor x, str op) except -1:
    """Before an in-place write: may it be done, and recorded? Raises the version."""
    cdef int axis
    for axis in range(x.array.ndim):
        if x.array.strides[axis] == 0 and x.array.shape[axis] > 1 and numel(&x.array):
            raise RuntimeError(
                f"[{op}] unsupported operation: more than one element of the written-to tensor refers to a single memory "
                f"location, clone() the tensor first; got shape {shape_text(&x.array)} with strides {x.stride()}"
            )
    if grad_enabled():
        if x.view_kind == VIEW_WITHOUT_GRAD:
            raise RuntimeError(
                f"[{op}] a view was created in no_grad mode and is being modified inplace with grad mode enabled; got a "
                f"view of shape {shape_text(&x.array)}"
            )
        if requires_grad_of(x):
            if x.base is None and x.node is None:
                raise RuntimeError(
                    f"[{op}] a leaf Variable that requires grad is being used in an in-place operation; got a leaf of "
                    f"shape {shape_text(&x.array)}"
                )
            if x.base is not None and x.base.requires and node_of(x.base) is None:
                raise RuntimeError(
                    f"[{op}] a view of a leaf Variable that requires grad is being used in an in-place operation; got a "
                    f"view of shape {shape_text(&x.array)}"
                )
        if x.view_kind == VIEW_OF_MANY:
            raise RuntimeError(
                f"[{op}] this view is the output of a function that returns multiple views and may not be modified inplace; "
                f"got a view of shape {shape_text(&x.array)}"
            )
    return written(x)


cdef Tensor history_stand_in(Tensor x, bint copy):
    """x as it is before an in-place op: the same place in the graph, the same elements or a copy of them.

    The op is recorded on the stand-in; `rebase` then gives its result's place in the graph to x.
    """
    cdef Tensor stand_in
    cdef fg_grad_mode* mode = fg_current_grad_mode()
    cdef int was_off = mode.recording_off
    node = node_of(x)
    if copy:
        mode.recording_off = 1
        try:
            stand_in = engine_ops.clone(x)
        finally:
            mode.recording_off = was_off
    else:
        stand_in = alias(x)
    stand_in.node = node
    stand_in.output_number = x.output_number
    stand_in.requires = requires_grad_of(x)
    return stand_in


cdef int rebase(Tensor x, Tensor result) except -1:
    """Let x, whose elements were overwritten by those of `result`, take its place in the graph."""
    cdef Node node, part
    cdef Tensor base = x.base
    cdef int k
    if result.node is None:
        return 0
    part = <Node>result.node
    if base is None:
        if x.node is not None and (<Node>x.node).retained is not None:
            kept = (<Node>x.node).retained.pop(x.output_number, None)
            if kept is not None:
                part.retained = {result.output_number: kept}
        x.node, x.output_number, x.requires = part, result.output_number, True
        return 0
    node = new_node(&COPY_SLICES, part.edge_count if part.edge_count else 1)
    node.output_count = 1
    connect(node, 0, base)
    for k in range(1, part.edge_count):
        node.edges[k].target = part.edges[k].target
        node.edges[k].slot = part.edges[k].slot
        if node.edges[k].target != NULL:
            Py_INCREF(<object>node.edges[k].target)
    node.region = region_between(x, base)
    node.context = part
    set_output(node, 0, base)
    x.node_version = <uint64_t>-1      # made again from the base's new node
    node_of(x)
    return 0


cdef int copy_slices_rule(Node node, Tensor d) except -1:
    """The gradient of base after `view.op_(...)`: inside the view it goes through the op, outside it is unchanged.

    node.context is the op's own Node, whose input 0 is the view before the op.
    """
    cdef Node part = <Node>node.context
    cdef Tensor inside, mine
    cdef PyObject* given
    cdef int k
    cdef PyObject* target0 = part.edges[0].target if part.edge_count else NULL
    inside = engine_ops.clone(engine_ops.view_region(d, node.region))
    part.wanted = node.wanted
    # The op was recorded on a view that may not have required a gradient; its base may.
    if part.edge_count:
        part.edges[0].target = node.edges[0].target
    try:
        part.op.rule(part, inside)
    finally:
        if part.edge_count:
            part.edges[0].target = target0
    for k in range(1, part.edge_count):
        given = part.edges[k].gradient
        part.edges[k].gradient = NULL
        if given != NULL:
            node.give(k, <Tensor>given)
            Py_DECREF(<object>given)
    if node.needs(0):
        mine = None
        if part.edge_count and part.edges[0].gradient != NULL:
            mine = <Tensor>part.edges[0].gradient
            part.edges[0].gradient = NULL
            Py_DECREF(mine)
            mine = engine_ops.sum_to(mine, node.region.view.ndim, node.region.view.shape)
        node.give(0, engine_ops.put_region(d, mine, node.region))
    return 0


# Hooks


class RemovableHandle:
    """What `register_hook` returns: `remove()` takes the hook away; usable as a context manager."""

    next_id = 0

    def __init__(self, hooks: dict):
        self.hooks_ref = weakref.ref(hooks) if not isinstance(hooks, dict) else (lambda: hooks)
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1

    def remove(self) -> None:
        hooks = self.hooks_ref()
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
        self.gradient, self.accumulated = {}, {}


cdef int track(Tensor x) except -1:
    """From here on x can be part of a reference cycle."""
    if not PyObject_GC_IsTracked(<PyObject*>x):
        PyObject_GC_Track(<PyObject*>x)
    if x.node is not None and not PyObject_GC_IsTracked(<PyObject*>x.node):
        PyObject_GC_Track(<PyObject*>x.node)
    return 0


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
        hooks = node.hooks.setdefault(self.output_number, {})
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


# Modes


cdef class GradMode:
    """A context manager that also decorates functions and generator functions."""

    cdef int recording_off, inference, was_off, was_inference

    cdef GradMode fresh(self):
        """Another one for one call, so that a decorated function may call itself."""
        cdef GradMode made = GradMode.__new__(GradMode)
        made.recording_off, made.inference = self.recording_off, self.inference
        return made

    def __enter__(self):
        cdef fg_grad_mode* mode = fg_current_grad_mode()
        self.was_off, self.was_inference = mode.recording_off, mode.inference
        mode.recording_off = self.recording_off
        if self.inference >= 0:
            mode.inference = self.inference
        return self

    def __exit__(self, kind, value, trace):
        cdef fg_grad_mode* mode = fg_current_grad_mode()
        mode.recording_off, mode.inference = self.was_off, self.was_inference

    def __call__(self, function):
        import inspect
        if inspect.isgeneratorfunction(function):
            return self.wrapped_generator(function)

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self.fresh():
                return function(*args, **kwargs)
        return wrapped

    def wrapped_generator(self, function):
        """The mode holds while the generator runs, not between its items."""
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            generator = function(*args, **kwargs)
            sent = None
            try:
                while True:
                    with self.fresh():
                        try:
                            item = generator.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield item
            finally:
                generator.close()
        return wrapped


cdef class no_grad(GradMode):
    """Record nothing inside: a context manager and a decorator, for this thread only. As torch.no_grad.

    >>> import fastgrad
    >>> x = fastgrad.ones(1, requires_grad=True)
    >>> with fastgrad.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __cinit__(self):
        self.recording_off, self.inference = 1, -1


cdef class enable_grad(GradMode):
    """Record again inside, within a `no_grad`. As torch.enable_grad."""

    def __cinit__(self):
        self.recording_off, self.inference = 0, -1


cdef class set_grad_enabled(GradMode):
    """Switch recording on or off, at once and, as a context manager, until its end. As torch.set_grad_enabled."""

    def __init__(self, mode):
        cdef fg_grad_mode* now = fg_current_grad_mode()
        self.recording_off, self.inference = not mode, -1
        self.was_off, self.was_inference = now.recording_off, now.inference
        now.recording_off = self.recording_off

    def __enter__(self):
        fg_current_grad_mode().recording_off = self.recording_off
        return self

    def __call__(self, function):
        fg_current_grad_mode().recording_off = self.was_off
        return GradMode.__call__(self, function)


cdef class inference_mode(GradMode):
    """`no_grad` under PyTorch's other name: nothing is recorded inside. Tensors made inside are ordinary ones."""

    def __init__(self, mode=True):
        self.recording_off, self.inference = bool(mode), bool(mode)

    def __enter__(self):
        if not self.recording_off:
            self.recording_off = fg_current_grad_mode().recording_off
        return GradMode.__enter__(self)


def is_grad_enabled() -> bool:
    """Are ops recorded in this thread?"""
    return grad_enabled()


def is_inference_mode_enabled() -> bool:
    """Is this thread inside `inference_mode`?"""
    return bool(fg_current_grad_mode().inference)


class set_detect_anomaly:
    """Switch anomaly detection on or off, at once and, as a context manager, until its end."""

    def __init__(self, bint mode, bint check_nan=True):
        global anomaly_mode, anomaly_checks_nan
        self.previous = (anomaly_mode, anomaly_checks_nan)
        anomaly_mode, anomaly_checks_nan = mode, check_nan

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        global anomaly_mode, anomaly_checks_nan
        anomaly_mode, anomaly_checks_nan = self.previous


class detect_anomaly(set_detect_anomaly):
    """Inside, a backward that makes a NaN raises an error that shows where the op's forward ran. As torch.autograd's.

    >>> import fastgrad
    >>> with fastgrad.autograd.detect_anomaly():
    ...     x = fastgrad.zeros(1, requires_grad=True)
    ...     y = (x / x).sum()
    """

    def __init__(self, check_nan=True):
        super().__init__(True, check_nan)


operators.node = node_of
