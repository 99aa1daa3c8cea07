"""Views and in-place writes: how a write to a base or to a view reaches the graph of both."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

from fastgrad._core.graph cimport (
    Node, Op, connect, engine_ops, grad_enabled, new_node, node_of, requires_grad_of, set_output, switch_recording,
)
from fastgrad._core.regions cimport region_between
from fastgrad._core.tensor cimport (
    NOT_A_VIEW, VIEW, VIEW_OF_MANY, VIEW_WITHOUT_GRAD, Tensor, alias, repeats_elements, shape_text, written,
)


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


cdef int remake_view(Tensor x) except -1:
    """Give x, whose base was written to since x was made, a Node that cuts it out of the base as it is."""
    cdef Node node = new_node(&AS_STRIDED, 1)
    base_node = node_of(x.base)
    node.sequence = 1 if base_node is None else (<Node>base_node).sequence + 1
    node.output_count = 1
    connect(node, 0, x.base)
    node.region = region_between(x, x.base)
    move_retained(x, node, 0)
    set_output(node, 0, x)
    x.node_version = x.storage.version
    return 0


cdef int move_retained(Tensor x, Node node, int output_number) except -1:
    """If x keeps its gradient, this is to be that of its new value, which the node makes."""
    cdef Node old = <Node>x.node
    if old is not None and old.retained is not None:
        kept = old.retained.pop(x.output_number, None)
        if kept is not None:
            node.retained = {output_number: kept}
    return 0


cdef int as_strided_rule(Node node, Tensor d) except -1:
    return node.give_region(d)


cdef int check_in_place(Tensor x, str op) except -1:
    """Before an in-place write: may it be done, and recorded? Raises the version."""
    if repeats_elements(&x.array):
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
            if x.view_kind == VIEW_OF_MANY:
                raise RuntimeError(
                    f"[{op}] this view is the output of a function that returns multiple views and may not be modified "
                    f"inplace; got a view of shape {shape_text(&x.array)}"
                )
            if x.base is None and x.node is None:
                raise RuntimeError(
                    f"[{op}] a leaf Variable that requires grad is being used in an in-place operation; got a leaf of "
                    f"shape {shape_text(&x.array)}"
                )
            if x.base is not None and node_of(x.base if x.base.requires else x) is None:
                raise RuntimeError(
                    f"[{op}] a view of a leaf Variable that requires grad is being used in an in-place operation; got a "
                    f"view of shape {shape_text(&x.array)}"
                )
    return written(x)


cdef Tensor history_stand_in(Tensor x, bint copy):
    """x as it is before an in-place op: the same place in the graph, the same elements or a copy of them.

    The op is recorded on the stand-in; `rebase` then gives its result's place in the graph to x.
    """
    cdef Tensor stand_in
    cdef int was_off
    node = node_of(x)
    if copy:
        was_off = switch_recording(1)
        try:
            stand_in = engine_ops.clone(x)
        finally:
            switch_recording(was_off)
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
        move_retained(x, part, result.output_number)
        x.node, x.output_number, x.requires = part, result.output_number, True
        return 0
    node = new_node(&COPY_SLICES, part.edge_count if part.edge_count else 1)
    node.output_count = 1
    connect(node, 0, base)
    for k in range(1, part.edge_count):
        node.edges[k].target = part.edges[k].target
        node.edges[k].slot = part.edges[k].slot
        node.edges[k].signature = part.edges[k].signature
        if node.edges[k].target != NULL:
            Py_INCREF(<object>node.edges[k].target)
    node.region = region_between(x, base)
    node.context = part
    move_retained(base, node, 0)
    set_output(node, 0, base)
    x.node_version = <uint64_t>-1      # made again from the base's new node
    node_of(x)
    return 0


cdef int copy_slices_rule(Node node, Tensor d) except -1:
    """The gradient of base after `view.op_(...)`: inside the view it goes through the op, outside it is unchanged.

    node.context is the op's own Node, whose input 0 is the view before the op.
    """
    cdef Node part = <Node>node.context
    cdef Tensor inside = engine_ops.clone(engine_ops.view_region(d, node.region))
    cdef Tensor gradient
    cdef PyObject* own_run = part.run
    cdef int k
    part.wanted, part.run = node.wanted, node.run
    try:
        part.op.rule(part, inside)
        for k in range(1, part.edge_count):
            gradient = part.take(k)
            if gradient is not None:
                node.give(k, gradient)
        if node.needs(0):
            gradient = part.take(0) if part.edge_count else None
            if gradient is not None:
                gradient = engine_ops.sum_to(gradient, node.region.view.ndim, node.region.view.shape)
            node.give(0, engine_ops.put_region(d, gradient, node.region))
    finally:
        part.run = own_run
        for k in range(part.edge_count):
            part.take(k)
    return 0


engine_ops.remake_view = remake_view
