"""The engine: it walks the graph backwards, from the roots of a backward to the leaves."""

import threading
import warnings
from operator import itemgetter

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc

from fastgrad._core.graph cimport (
    Edge, Node, OutputShape, Region, anomaly, engine_ops, node_of, requires_grad_of, switch_recording,
)
from fastgrad._core.hooks cimport keep_grad, run_hooks
from fastgrad._core.regions cimport accumulate_region, embedded
from fastgrad._core.tensor cimport (
    Tensor, dtype_object, is_contiguous, is_float, numel, repeats_elements, same_shape, shape_signature, shape_text, written,
)

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)
    unsigned long PyThread_get_thread_ident()


# Below this many elements no kernel releases the GIL.
cdef enum: LARGE = 1 << 12

cdef object accumulating = threading.RLock()


cdef class Run:
    """One walk backwards over the graph.

    Nodes wait in a heap and leave it by creation number, the latest first. Every consumer of a tensor was created after
    its producer, so when a node leaves the heap, all of its gradient has arrived: in `b = a * 2; c = b + b`, the node of
    b must not run on the first of the two gradients that the addition sends, or a would get the second one too late.
    """

    cdef PyObject** heap
    cdef int size, room
    cdef bint create_graph, keep_graph
    cdef unsigned long thread
    cdef set needed           # ids of the nodes and leaves to be gone through; None for all
    cdef list inputs          # whose `.grad` the run is limited to; None for all leaves
    cdef dict captures        # (id of node or leaf, slot) -> position in `captured`
    cdef list captured
    cdef dict leaf_sums       # id -> [leaf, sum], for leaves that must see the whole sum: hooks, captures
    cdef list displaced       # [node, pending, run]: nodes taken over from an outer run of this thread

    def __cinit__(self):
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
        self.push(node)
        node.run = <PyObject*>self
        return 0

    # gradients arriving

    cdef int start(self, Py_ssize_t position, Tensor root, object gradient) except -1:
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
        if node is not None:
            check_output(<Node>node, root)
        if node is None:
            self.deliver(<PyObject*>root, -1, d, NULL)
        else:
            self.deliver(<PyObject*>node, root.output_number, d, NULL)
        return 0

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
        if (region != NULL and place[0] != NULL and not self.create_graph and is_exclusive(<Tensor>place[0], 1)
                and is_contiguous(&region.base)):
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
        return self.accumulate_grad(leaf, gradient, region)

    cdef int accumulate_grad(self, Tensor leaf, Tensor gradient, Region* region) except -1:
        """leaf.grad += gradient, by one thread at a time: kernels on large tensors let other threads run."""
        if numel(&leaf.array) < LARGE:
            return self.add_to_grad(leaf, gradient, region)
        with accumulating:
            return self.add_to_grad(leaf, gradient, region)

    cdef int add_to_grad(self, Tensor leaf, Tensor gradient, Region* region) except -1:
        """In place unless the gradient is to be differentiated itself."""
        cdef Tensor total = leaf.gradient
        cdef Tensor whole = gradient
        if region != NULL:
            if (total is not None and not self.create_graph and is_contiguous(&region.base) and is_contiguous(&total.array)
                    and same_shape(&total.array, &region.base) and total.array.dtype == gradient.array.dtype):
                written(total)
                accumulate_region(total, region, gradient)
                return 0
            whole = embedded(gradient, region)
        whole = self.fitted(whole, leaf.array.dtype, leaf.array.ndim, leaf.array.shape)
        if total is None:
            # Two references: the variable of our caller's caller and our own.
            if not is_exclusive(whole, 2) or (whole.requires and not self.create_graph):
                whole = engine_ops.clone(whole)
            leaf.gradient = whole
            return 0
        if not same_shape(&total.array, &whole.array) or total.array.dtype != whole.array.dtype:
            raise RuntimeError(
                f"[backward] a gradient is added to a .grad of its own shape and dtype; got {shape_text(&whole.array)}, {whole.dtype} "
                f"for a .grad of shape {shape_text(&total.array)}, {total.dtype}"
            )
        if not self.create_graph and repeats_elements(&total.array):
            raise RuntimeError(
                "[backward] unsupported operation: more than one element of .grad refers to a single memory location; got shape "
                f"{shape_text(&total.array)} with strides {total.stride()}"
            )
        if self.create_graph:
            leaf.gradient = engine_ops.add(total, whole)
        else:
            written(total)
            engine_ops.accumulate(total, whole)
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

    cdef int finish(self) except -1:
        """Deliver the sums of the leaves, and the captured gradients if they belong into `.grad`."""
        cdef Tensor leaf, gradient
        cdef Py_ssize_t position
        if self.leaf_sums is not None:
            for entry in self.leaf_sums.values():
                leaf, gradient = entry
                entry[1] = None
                if leaf.hooks is not None:
                    gradient = run_hooks(leaf.hooks.gradient, gradient)
                if self.captures is None:
                    self.accumulate_hooked(leaf, gradient)
                else:
                    self.capture(<PyObject*>leaf, -1, gradient)
        if self.inputs is not None:
            for position in range(len(self.inputs)):
                gradient = self.captured[position]
                self.captured[position] = None
                if gradient is not None:
                    self.accumulate_hooked(<Tensor>self.inputs[position], gradient)
        return 0

    cdef int accumulate_hooked(self, Tensor x, Tensor gradient) except -1:
        self.accumulate_grad(x, gradient, NULL)
        if x.hooks is not None:
            for hook in list(x.hooks.accumulated.values()):
                hook(x)
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
                keep_grad(node.retained[k](), <Tensor>node.pending[k])
            if self.captures is not None:
                self.capture(<PyObject*>node, k, <Tensor>node.pending[k])
        for k in range(node.edge_count):
            edge = &node.edges[k]
            if edge.target != NULL and edge.slot < 0 and edge.signature != shape_signature(&(<Tensor>edge.target).array):
                raise RuntimeError(
                    f"[backward] a leaf must keep its shape between forward and backward; got {node.label()} of a leaf that has "
                    f"shape {shape_text(&(<Tensor>edge.target).array)}"
                )
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
            if anomaly.enabled and anomaly.checks_nan:
                check_anomaly(node)
        for k in range(node.output_count):
            Py_XDECREF(node.pending[k])
            node.pending[k] = NULL
        if not self.keep_graph:
            node.release()
        else:
            node.forget_unpacked()
        for k in range(node.edge_count):
            edge = &node.edges[k]
            if edge.gradient != NULL:
                gradient = <Tensor>edge.gradient
                Py_DECREF(gradient)
                edge.gradient = NULL
                self.deliver(edge.target, edge.slot, gradient, node.region if edge.in_region else NULL)
                gradient = None
        node.run = NULL
        return 0

    cdef int walk(self, list roots, list gradients) except -1:
        cdef Node node, running = None
        cdef Py_ssize_t position
        cdef int k
        cdef int was_off = switch_recording(not self.create_graph)
        try:
            for position in range(len(roots)):
                self.start(position, <Tensor>roots[position], gradients[position])
            while self.size:
                running = self.pop()
                self.execute(running)
            running = None
            self.finish()
        finally:
            switch_recording(was_off)
            if running is not None:
                running.drop()      # it raised
            while self.size:
                self.pop().drop()
            if self.displaced is not None:
                for node, pending, run in reversed(self.displaced):
                    node.run = <PyObject*>run
                    for k, gradient in enumerate(pending):
                        if gradient is not None:
                            Py_INCREF(gradient)
                            node.pending[k] = <PyObject*>gradient
        return 0


cdef inline bint is_exclusive(Tensor x, int references) noexcept:
    """Is x contiguous, and are these many references the only ones to it and its storage its alone?"""
    return (
        Py_REFCNT(<PyObject*>x) <= references and Py_REFCNT(<PyObject*>x.storage) == 1 and is_contiguous(&x.array)
        and x.storage.lender == NULL
    )


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


cdef int check_output(Node node, Tensor root) except -1:
    """A root must still have the shape that its node made it with."""
    cdef OutputShape* output = &node.outputs[root.output_number]
    cdef int axis
    cdef bint same = output.ndim == root.array.ndim
    for axis in range(root.array.ndim if same else 0):
        same = same and output.shape[axis] == root.array.shape[axis]
    if not same:
        raise RuntimeError(
            f"[backward] a tensor must keep its shape between forward and backward; got {shape_text(&root.array)} for an output "
            f"of {node.label()}"
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


cdef tuple capture_key(Tensor x):
    """What `Run.captures` calls the gradient of x."""
    source = node_of(x)
    if source is None:
        return (<size_t><PyObject*>x, -1)
    return (<size_t><PyObject*>source, x.output_number)


cdef list tensor_list(object given, str op, str name):
    """One tensor or several, as a list."""
    cdef list tensors = [given] if isinstance(given, Tensor) else list(given)
    for x in tensors:
        if not isinstance(x, Tensor):
            raise TypeError(f"[{op}] {name} must be Tensors; got {type(x).__name__}")
    return tensors


cdef int restrict(Run run, list roots, list inputs) except -1:
    """Limit the run to the nodes from which an input can be reached, and capture the inputs' gradients."""
    cdef Node node
    cdef int k
    cdef list stack = [], reached = []
    cdef set seen = set()
    cdef uint64_t first = <uint64_t>-1      # what was created before all of the inputs' nodes leads to none of them
    run.captures, run.captured, run.needed = {}, [None] * len(inputs), set()
    for position, x in enumerate(inputs):
        key = capture_key(<Tensor>x)
        run.captures[key] = position
        run.needed.add(key[0])
        source = node_of(<Tensor>x)
        first = 0 if source is None else min(first, (<Node>source).sequence)
    for root in roots:
        source = node_of(<Tensor>root)
        if source is not None:
            stack.append(source)
    while stack:
        node = <Node>stack.pop()
        if node.sequence < first or <size_t><PyObject*>node in seen:
            continue
        seen.add(<size_t><PyObject*>node)
        reached.append((node.sequence, node))
        for k in range(node.edge_count):
            if node.edges[k].target != NULL and node.edges[k].slot >= 0:
                stack.append(<Node>node.edges[k].target)
    reached.sort(key=itemgetter(0))
    for _, node in reached:
        for k in range(node.edge_count):
            if node.edges[k].target != NULL and <size_t>node.edges[k].target in run.needed:
                run.needed.add(<size_t><PyObject*>node)
                break
    return 0


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
    run.walk([self], [gradient])


def backward(tensors, grad_tensors=None, retain_graph=None, bint create_graph=False, grad_variables=None, inputs=None) -> None:
    """The gradients of several tensors at once; see `Tensor.backward` and torch.autograd.backward."""
    cdef Run run = Run.__new__(Run)
    cdef list roots = tensor_list(tensors, "backward", "tensors")
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
        run.inputs = tensor_list(inputs, "backward", "inputs")
        if not run.inputs:
            raise RuntimeError("[backward] inputs must not be empty; got an empty sequence")
        restrict(run, roots, run.inputs)
    run.walk(roots, gradients)


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
    cdef list roots = tensor_list(outputs, "grad", "outputs")
    cdef list wanted = tensor_list(inputs, "grad", "inputs")
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
        if not requires_grad_of(<Tensor>x):
            raise RuntimeError(
                f"[grad] One of the differentiated Tensors does not require grad; got input {position} of shape "
                f"{shape_text(&(<Tensor>x).array)}"
            )
    if not wanted:
        raise RuntimeError("[grad] inputs cannot be empty; got an empty sequence")
    run.create_graph = create_graph
    run.keep_graph = create_graph if retain_graph is None else retain_graph
    restrict(run, roots, wanted)
    run.walk(roots, gradients)
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


def has_whole_backward(Node node) -> bool:
    """Is the node, in its rule, part of a backward that goes to all leaves, not to some inputs only?"""
    return node.run != NULL and (<Run>node.run).needed is None


cdef int differentiate_composite(Node node, object composite, list inputs) except -1:
    """The gradients of a fused op under create_graph: those of its composite, which are differentiable again.

    `inputs` are the op's inputs in the order of its edges, None where one is absent. The composite sees a view of each,
    so that a tensor that stands in two places gets a gradient for each place. Of an op of several outputs it returns
    them all, and those count to which a gradient came.
    """
    cdef int k
    stand_ins = [None if x is None else x.view_as(x) for x in inputs]
    wanted = [k for k in range(node.edge_count) if node.needs(k)]
    outputs = composite(*stand_ins)
    if node.output_count == 1:
        outputs = (outputs,)
    reached = [k for k in range(node.output_count) if node.pending[k] != NULL]
    gradients = grad([outputs[k] for k in reached], [stand_ins[k] for k in wanted], [node.incoming(k) for k in reached],
                     create_graph=True, materialize_grads=True)
    for k, gradient in zip(wanted, gradients):
        node.give(k, gradient)
    return 0
