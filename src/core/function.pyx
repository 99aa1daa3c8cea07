"""User ops: `Function` in the static style (`apply`) and in the instance style of PyTorch 0.1, on the same Node."""

import functools

cimport cython

from fastgrad._core.graph cimport (
    Node, Op, OutputShape, add_outputs, connect, engine_ops, grad_enabled, input_shape, record, recording,
    reserve_saved, save, save_output, set_output, start_node, switch_recording, track,
)
from fastgrad._core.views cimport check_in_place, rebase
from fastgrad._core.tensor cimport NOT_A_VIEW, Tensor, alias, shape_text, written

from fastgrad._core.grad_mode import no_grad


cdef Op FUNCTION
cdef Op TWICE
FUNCTION.name, FUNCTION.rule = b"Function", function_rule
TWICE.name, TWICE.rule = b"ErrorBackward0", twice_rule


@cython.trashcan(True)
cdef class FunctionContext(Node):
    """The `ctx` of a Function: the Node of one call, with room for attributes."""

    cdef object function            # the Function class, or the instance in the instance style
    cdef tuple to_save
    cdef tuple dirty
    cdef tuple non_differentiable
    cdef readonly tuple needs_input_grad
    cdef bint materialize
    cdef bint used
    cdef dict __dict__

    def __cinit__(self, *args, **kwargs):
        self.materialize = True

    cdef str label(self):
        function = self.function if isinstance(self.function, type) else type(self)
        return function.__name__ + "Backward"

    def save_for_backward(self, *tensors) -> None:
        """Keep tensors (inputs, outputs or others, None allowed) for `saved_tensors`; an in-place change to one is found."""
        for k, x in enumerate(tensors):
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(
                    f"[{self.own_name()}] save_for_backward can only save tensors; got argument {k} of type {type(x).__name__}"
                )
        self.to_save = tensors

    @property
    def saved_tensors(self):
        """What `save_for_backward` kept; raises if one of them was changed in place since."""
        cdef int k
        if self.output_count == 0 and self.to_save is not None:
            return self.to_save
        return tuple([self.saved(k) for k in range(self.saved_count)])

    @property
    def saved_variables(self):
        """`saved_tensors` by its older name."""
        return self.saved_tensors

    def mark_dirty(self, *tensors) -> None:
        """Say which inputs forward changed in place; they must be outputs too."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors) -> None:
        """Say which outputs have no gradient."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, bint value) -> None:
        """With False, backward gets None for an output that received no gradient, instead of zeros."""
        self.materialize = value

    def own_name(self):
        """The Function's name, for messages."""
        return (self.function if isinstance(self.function, type) else type(self)).__name__


cdef bint is_among(Tensor x, tuple tensors):
    if tensors is not None:
        for other in tensors:
            if other is x:
                return True
    return False


cdef object finish(FunctionContext ctx, tuple args, object result):
    """Enter the call in the graph: edges to the arguments, the outputs, what was saved."""
    cdef tuple outputs = result if type(result) is tuple else (result,)
    cdef list made = list(outputs)
    cdef list stand_ins = []
    cdef int k, position, count = len(outputs)
    cdef Tensor x, out
    cdef bint any_needed = False
    for k in range(count):
        if not isinstance(outputs[k], Tensor) and not (outputs[k] is None and type(result) is tuple):
            raise TypeError(
                f"[{ctx.own_name()}] forward must return a Tensor or a tuple of Tensors; got {type(outputs[k]).__name__} for "
                f"return value {k}"
            )
    for needed in ctx.needs_input_grad:
        any_needed = any_needed or needed
    if not any_needed:
        for k in range(count):
            if outputs[k] is not None and is_among(<Tensor>outputs[k], args) and not is_among(<Tensor>outputs[k], ctx.dirty):
                made[k] = alias(<Tensor>outputs[k])
        return tuple(made) if type(result) is tuple else made[0]
    add_outputs(ctx, count)
    if ctx.dirty is not None:
        for x in ctx.dirty:
            check_in_place(x, ctx.own_name())
    for k in range(count):
        if outputs[k] is None:
            continue
        out = <Tensor>outputs[k]
        if is_among(out, ctx.dirty):
            if out.base is not None:
                if count > 1:
                    raise RuntimeError(
                        f"[{ctx.own_name()}] a view may be marked dirty only where forward has one output; got {count} outputs"
                    )
                position = [j for j in range(len(args)) if args[j] is out][0]
                if position != 0:
                    raise RuntimeError(
                        f"[{ctx.own_name()}] a view that is marked dirty must be the first argument; got it at {position}"
                    )
                stand_in = alias(out)
                set_output(ctx, k, stand_in)
                rebase(out, stand_in)
            else:
                set_output(ctx, k, out)
            continue
        if is_among(out, args) or out.node is not None or out.view_kind != NOT_A_VIEW or out.requires:
            out = made[k] = alias(out)
        ctx.outputs[k].dtype, ctx.outputs[k].ndim = out.array.dtype, out.array.ndim
        for position in range(out.array.ndim):
            ctx.outputs[k].shape[position] = out.array.shape[position]
        if not is_among(<Tensor>outputs[k], ctx.non_differentiable) and out.array.dtype >= 4:
            set_output(ctx, k, out)
            track(out)
    if ctx.to_save is not None:
        reserve_saved(ctx, len(ctx.to_save))
        ctx.saved_count = 0
        for k in range(len(ctx.to_save)):
            if ctx.to_save[k] is None:
                ctx.kept[k].tensor = NULL
                ctx.saved_count = k + 1
                continue
            position = place_of(ctx.to_save[k], outputs)
            if position >= 0 and (<Tensor>made[position]).node is ctx:
                save_output(ctx, k, <Tensor>made[position])
            else:
                save(ctx, k, <Tensor>ctx.to_save[k])
        ctx.to_save = None
    ctx.dirty = ctx.non_differentiable = None
    return tuple(made) if type(result) is tuple else made[0]


cdef int place_of(object x, tuple items) except -2:
    cdef int k
    for k in range(len(items)):
        if items[k] is x:
            return k
    return -1


cdef int begin(FunctionContext ctx, object function, tuple args) except -1:
    """Connect the node to the arguments that are tensors."""
    cdef int k, count = len(args)
    cdef bint enabled = grad_enabled()
    cdef list needs = []
    ctx.function = function
    start_node(ctx, &FUNCTION, count)
    for k in range(count):
        if isinstance(args[k], Tensor):
            if enabled:
                connect(ctx, k, <Tensor>args[k])
            needs.append(enabled and recording(<Tensor>args[k]))
        else:
            needs.append(False)
    ctx.needs_input_grad = tuple(needs)
    return 0


cdef int function_rule(Node node, Tensor d) except -1:
    """Call the user's backward and check what it returns."""
    cdef FunctionContext ctx = <FunctionContext>node
    cdef int k, count
    cdef Tensor gradient
    cdef OutputShape shape
    incoming = []
    for k in range(ctx.output_count):
        gradient = d if k == 0 else ctx.incoming(k)
        if gradient is None and ctx.materialize:
            gradient = engine_ops.zeros(ctx.outputs[k].dtype, ctx.outputs[k].ndim, ctx.outputs[k].shape)
        incoming.append(gradient)
    if isinstance(ctx.function, type):
        result = ctx.function.backward(ctx, *incoming)
    else:
        if type(ctx).backward is DEFAULT_BACKWARD:
            DEFAULT_BACKWARD(ctx)
        result = ctx.backward(*incoming)
    given = result if type(result) is tuple else tuple(result) if type(result) is list else (result,)
    count = len(given)
    while count > ctx.edge_count and given[count - 1] is None:
        count -= 1
    if count != ctx.edge_count:
        raise RuntimeError(
            f"[{ctx.own_name()}] backward returned an incorrect number of gradients, there must be one for each argument of forward; "
            f"expected {ctx.edge_count}, got {count}"
        )
    for k in range(count):
        item = given[k]
        if item is None:
            continue
        if not isinstance(item, Tensor):
            raise TypeError(f"[{ctx.own_name()}] backward must return Tensors or None; got {type(item).__name__} for argument {k}")
        if ctx.edges[k].target == NULL:
            continue
        gradient = <Tensor>item
        shape = input_shape(ctx, k)
        if not reducible(gradient, &shape):
            raise RuntimeError(
                f"[{ctx.own_name()}] backward returned an invalid gradient at index {k}, its shape must be that of the argument; got "
                f"{shape_text(&gradient.array)} for an argument of shape {tuple([shape.shape[axis] for axis in range(shape.ndim)])}"
            )
        ctx.give(k, gradient)
    return 0


cdef bint reducible(Tensor gradient, OutputShape* shape) noexcept:
    """Has the gradient that shape, or one that a tensor of that shape is broadcast to?"""
    cdef int axis, extra = gradient.array.ndim - shape.ndim
    if extra < 0:
        return False
    for axis in range(shape.ndim):
        if shape.shape[axis] != gradient.array.shape[extra + axis] and shape.shape[axis] != 1:
            return False
    return True


class Function(FunctionContext):
    """One's own op: a forward and its gradient. As torch.autograd.Function.

    Static style: `forward(ctx, *args)` and `backward(ctx, *gradients)` are static methods, called through `apply`; or
    `forward(*args)` with `setup_context(ctx, inputs, output)`. Instance style, as in PyTorch 0.1: they are methods, the
    instance is the context, and one instance is made per call: `ReLU()(x)`.

    forward runs with recording off. backward returns one gradient per argument of forward, None for those that have
    none; written in tensor ops, it is differentiable itself. Raises, naming the Function, for a wrong number of
    gradients, a gradient of a wrong shape and a result that is no tensor.

    >>> import fastgrad
    >>> class Square(fastgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, d):
    ...         x, = ctx.saved_tensors
    ...         return 2 * x * d
    >>> x = fastgrad.tensor(3., requires_grad=True)
    >>> Square.apply(x).backward(); x.grad
    tensor(6.)
    """

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Overridden, keeps on `ctx` what backward needs; `forward` then has no `ctx`."""

    @staticmethod
    def backward(ctx, *gradients):
        """Overridden, gives the gradients of forward's arguments."""
        raise RuntimeError(f"[{ctx.own_name()}] a Function that is differentiated must define backward; got none")

    @classmethod
    def apply(cls, *args):
        """Run forward on the arguments and enter the call in the graph."""
        return apply_static(cls, args)

    def __call__(self, *args):
        return apply_instance(self, args)


cdef object DEFAULT_SETUP = Function.setup_context
cdef object DEFAULT_BACKWARD = Function.backward


cdef object apply_static(object cls, tuple args):
    cdef FunctionContext ctx = FunctionContext.__new__(FunctionContext)
    cdef int was_off
    begin(ctx, cls, args)
    was_off = switch_recording(1)
    try:
        if cls.setup_context is DEFAULT_SETUP:
            result = cls.forward(ctx, *args)
        else:
            result = cls.forward(*args)
            cls.setup_context(ctx, args, result)
    finally:
        switch_recording(was_off)
    return finish(ctx, args, result)


cdef object apply_instance(object instance, tuple args):
    cdef FunctionContext ctx = <FunctionContext>instance
    cdef int was_off
    if isinstance(type(instance).__dict__.get("forward"), staticmethod):
        raise RuntimeError(
            f"[{type(instance).__name__}] a Function with static methods is called through apply; got a call of an instance"
        )
    if ctx.used:
        raise RuntimeError(
            f"[{type(instance).__name__}] an instance of a Function stands for one call, make a new one for each; got a second call"
        )
    ctx.used = True
    begin(ctx, instance, args)
    ctx.function = None      # the instance is the context itself: no cycle
    was_off = switch_recording(1)
    try:
        result = instance.forward(*args)
    finally:
        switch_recording(was_off)
    return finish(ctx, args, result)


cdef int twice_rule(Node node, Tensor d) except -1:
    raise RuntimeError(
        "[once_differentiable] trying to differentiate twice a function that was marked with @once_differentiable; got create_graph=True"
    )


def once_differentiable(function):
    """Decorate a backward that is not written in tensor ops: it runs with recording off, a second derivative raises."""

    @functools.wraps(function)
    def wrapped(ctx, *gradients):
        cdef Tensor out
        with no_grad():
            result = function(ctx, *gradients)
        if not grad_enabled():
            return result
        if not any([isinstance(d, Tensor) and d.requires_grad for d in gradients]) and not any(
                [x is not None and x.requires_grad for x in ctx.saved_tensors]):
            return result
        made = []
        for item in result if isinstance(result, tuple) else (result,):
            if isinstance(item, Tensor):
                out = alias(<Tensor>item)
                item = out
                node = record(&TWICE, out, 1)
                for d in gradients:
                    if isinstance(d, Tensor) and d.requires_grad:
                        connect(node, 0, <Tensor>d)
                        break
            made.append(item)
        return tuple(made)
    return wrapped
