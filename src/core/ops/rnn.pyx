"""Recurrent layers (RNN, LSTM, GRU): all steps and both directions in one launch forward and one backward."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastgrad._core.engine cimport differentiate_composite
from fastgrad._core.graph cimport (
    Node, Op, add_outputs, connect, grad_enabled, new_node, requires_grad_of, reserve_saved, save, save_output, set_output,
)
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport (
    FG_DIRECTION_GRADIENT_OPERANDS, FG_DIRECTION_OPERANDS, FG_FIXED_GRADIENT_OPERANDS, FG_FIXED_OPERANDS, FG_INT64,
    FG_MOST_GRADIENT_OPERANDS, FG_MOST_OPERANDS, fg_array, fg_params,
)
from fastgrad._core.launch cimport launch, workspace_elements
from fastgrad._core.ops.copying cimport contiguous
from fastgrad._core.tensor cimport Tensor, is_contiguous, is_float, itemsize_of, new_like, new_tensor, shape_text


cdef enum: WEIGHTS = 5        # of a direction: w_ih, w_hh, b_ih, b_hh, w_hr

# The inputs of a node, which are also the first tensors it saves; after those of all directions it saves the rest.
cdef enum: X, H_0, C_0, FIRST_WEIGHT
cdef enum: Y, GATES, CELLS, BATCH_SIZES, REST_COUNT


cdef struct Cell:
    const char* name
    Op op
    int forward, backward     # kernels
    int gates, kept           # see kernels.def
    bint relu

cdef enum: RNN_TANH, RNN_RELU, LSTM, GRU, CELL_COUNT
cdef Cell[CELL_COUNT] cells


cdef int define(int kind, const char* name, const char* node_name, int forward, int backward, int gates, int kept) except -1:
    cells[kind].name, cells[kind].forward, cells[kind].backward = name, forward, backward
    cells[kind].op.name, cells[kind].op.rule = node_name, rule
    cells[kind].gates, cells[kind].kept, cells[kind].relu = gates, kept, kind == RNN_RELU
    return 0


define(RNN_TANH, b"rnn_tanh", b"RnnTanhBackward0", FG_KERNEL_rnn, FG_KERNEL_rnn_backward, 1, 0)
define(RNN_RELU, b"rnn_relu", b"RnnReluBackward0", FG_KERNEL_rnn, FG_KERNEL_rnn_backward, 1, 0)
define(LSTM, b"lstm", b"LstmBackward0", FG_KERNEL_lstm, FG_KERNEL_lstm_backward, 4, 4)
define(GRU, b"gru", b"GruBackward0", FG_KERNEL_gru, FG_KERNEL_gru_backward, 3, 4)


cdef int cell_kind(str name) except -1:
    if name == "rnn_tanh": return RNN_TANH
    if name == "rnn_relu": return RNN_RELU
    if name == "lstm": return LSTM
    if name == "gru": return GRU
    raise ValueError(f"[recurrent] cell must be 'rnn_tanh', 'rnn_relu', 'lstm' or 'gru'; got {name!r}")


cdef struct Sizes:
    int64_t steps, batch, rows, inputs, hidden, state
    int directions


# Checks


cdef int wrong_shape(Cell* cell, str what, str expected, Tensor x) except -1:
    raise RuntimeError(f"[{cell.name.decode()}] {what} must have shape {expected}; got {shape_text(&x.array)}")


cdef bint is_shaped(Tensor x, int ndim, int64_t a, int64_t b, int64_t c) noexcept:
    return x.array.ndim == ndim and x.array.shape[0] == a and (ndim < 2 or x.array.shape[1] == b) and (
        ndim < 3 or x.array.shape[2] == c)


cdef int check(Cell* cell, Sizes* sizes, Tensor x, Tensor h_0, Tensor c_0, tuple weights, int state_ndim) except -1:
    """Shapes and dtypes of everything but x's leading axes. States are (D, B, .), or (B, .) for a single step."""
    cdef int k
    cdef int64_t height
    cdef Tensor w_ih, w_hh, w
    if len(weights) not in (WEIGHTS, 2 * WEIGHTS):
        raise ValueError(
            f"[{cell.name.decode()}] weights must hold w_ih, w_hh, b_ih, b_hh, w_hr of one or two directions; got {len(weights)} entries")
    sizes.directions = len(weights) // WEIGHTS
    w_ih, w_hh = weights[0], weights[1]
    if w_ih is None or w_hh is None or w_ih.array.ndim != 2 or w_hh.array.ndim != 2 or w_hh.array.shape[0] % cell.gates:
        raise RuntimeError(f"[{cell.name.decode()}] w_ih and w_hh must be matrices of {cell.gates} times the hidden size rows; got "
                           f"{'None' if w_ih is None else shape_text(&w_ih.array)} and {'None' if w_hh is None else shape_text(&w_hh.array)}")
    sizes.hidden, sizes.state, sizes.inputs = w_hh.array.shape[0] // cell.gates, w_hh.array.shape[1], w_ih.array.shape[1]
    height = cell.gates * sizes.hidden
    for k in range(len(weights)):
        w = weights[k]
        if w is None:
            if k % WEIGHTS < 2:
                raise RuntimeError(f"[{cell.name.decode()}] each direction must have w_ih and w_hh; got None")
            if k % WEIGHTS == 4 and sizes.state != sizes.hidden:
                raise RuntimeError(f"[{cell.name.decode()}] w_hh must have shape ({height}, {sizes.hidden}) without w_hr; got {shape_text(&w_hh.array)}")
            continue
        if w.array.dtype != x.array.dtype:
            raise RuntimeError(f"[{cell.name.decode()}] input and weights must have the same dtype; got {x.dtype} and {w.dtype}")
        if k % WEIGHTS == 0:
            if not is_shaped(w, 2, height, sizes.inputs, 0): wrong_shape(cell, "w_ih", f"({height}, {sizes.inputs})", w)
        elif k % WEIGHTS == 1:
            if not is_shaped(w, 2, height, sizes.state, 0): wrong_shape(cell, "w_hh", f"({height}, {sizes.state})", w)
        elif k % WEIGHTS == 4:
            if cell != &cells[LSTM] or sizes.state == sizes.hidden:
                raise RuntimeError(f"[{cell.name.decode()}] w_hr must be absent but for an lstm whose state is smaller than its hidden size; got {shape_text(&w.array)}")
            if not is_shaped(w, 2, sizes.state, sizes.hidden, 0): wrong_shape(cell, "w_hr", f"({sizes.state}, {sizes.hidden})", w)
        elif not is_shaped(w, 1, height, 0, 0):
            wrong_shape(cell, "b_ih" if k % WEIGHTS == 2 else "b_hh", f"({height},)", w)
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[{cell.name.decode()}] input must be a float tensor; got {x.dtype}")
    if x.array.shape[x.array.ndim - 1] != sizes.inputs:
        raise RuntimeError(f"[{cell.name.decode()}] input.shape[-1] must equal w_ih.shape[1]; got input {shape_text(&x.array)}, w_ih {shape_text(&w_ih.array)}")
    if h_0 is not None:
        check_state(cell, "h_0", h_0, x, sizes.directions, sizes.batch, sizes.state, state_ndim)
    if c_0 is not None:
        if cell != &cells[LSTM]:
            raise RuntimeError(f"[{cell.name.decode()}] c_0 must be None but for an lstm; got {shape_text(&c_0.array)}")
        check_state(cell, "c_0", c_0, x, sizes.directions, sizes.batch, sizes.hidden, state_ndim)
    return 0


cdef int check_state(Cell* cell, str what, Tensor state, Tensor x, int64_t directions, int64_t batch, int64_t size, int ndim) except -1:
    if ndim == 3 and not is_shaped(state, 3, directions, batch, size):
        wrong_shape(cell, what, f"({directions}, {batch}, {size})", state)
    if ndim == 2 and not is_shaped(state, 2, batch, size, 0):
        wrong_shape(cell, what, f"({batch}, {size})", state)
    if state.array.dtype != x.array.dtype:
        raise RuntimeError(f"[{cell.name.decode()}] input and {what} must have the same dtype; got {x.dtype} and {state.dtype}")
    return 0


cdef int check_batch_sizes(Cell* cell, Sizes* sizes, Tensor x, Tensor batch_sizes) except -1:
    """Fills steps and batch. The kernels read by these numbers, so each one is checked."""
    cdef int64_t k, before, left = x.array.shape[0]
    cdef const int64_t* size = <const int64_t*>batch_sizes.array.data
    if batch_sizes.array.dtype != FG_INT64 or batch_sizes.array.ndim != 1 or batch_sizes.array.shape[0] == 0:
        raise RuntimeError(f"[{cell.name.decode()}] batch_sizes must be a 1-d int64 tensor of at least one step; got {batch_sizes.dtype}, {shape_text(&batch_sizes.array)}")
    before = size[0]
    for k in range(batch_sizes.array.shape[0]):
        if size[k] <= 0 or size[k] > before:
            raise RuntimeError(f"[{cell.name.decode()}] batch_sizes must be positive and never increase; got {size[k]} after {before} at step {k}")
        if size[k] > left:
            break
        before = size[k]
        left -= before
    else:
        if left == 0:
            sizes.steps, sizes.batch = batch_sizes.array.shape[0], size[0]
            return 0
    raise RuntimeError(f"[{cell.name.decode()}] batch_sizes must add up to the rows of the input; got {batch_sizes.tolist()} and input {shape_text(&x.array)}")


# What the layers mean


def step_composite(str cell, z_x, h, c, w_hh, b_hh, w_hr):
    """One step from the input's projection z_x: the state after it, and the LSTM's cell state."""
    z_h = h @ w_hh.t()
    if b_hh is not None:
        z_h = z_h + b_hh
    if cell == "lstm":
        i, f, g, o = (z_x + z_h).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h if w_hr is None else h @ w_hr.t()), c
    if cell == "gru":
        r_x, u_x, n_x = z_x.chunk(3, 1)
        r_h, u_h, n_h = z_h.chunk(3, 1)
        update = (u_x + u_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        return n + update * (h - n), None
    z = z_x + z_h
    return (z.relu() if cell == "rnn_relu" else z.tanh()), None


def direction_composite(str cell, list steps, h_0, c_0, weights, bint reverse):
    """One direction over a list of (rows, I): the states (N, P), the last ones (B, P), the LSTM's last cells (B, H)."""
    from fastgrad._core.ops.shape import cat
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    order = range(len(steps) - 1, -1, -1) if reverse else range(len(steps))
    states, ended_h, ended_c = [None] * len(steps), [], []
    h = h_0[:steps[order[0]].shape[0]]
    c = None if c_0 is None else c_0[:h.shape[0]]
    for t in order:
        rows = steps[t].shape[0]
        if rows < h.shape[0]:
            ended_h.append(h[rows:])
            ended_c.append(None if c is None else c[rows:])
        elif rows > h.shape[0]:
            c = None if c is None else cat([c, c_0[h.shape[0]:rows]])
            h = cat([h, h_0[h.shape[0]:rows]])
        z_x = steps[t] @ w_ih.t()
        if b_ih is not None:
            z_x = z_x + b_ih
        h, c = step_composite(cell, z_x, h[:rows], None if c is None else c[:rows], w_hh, b_hh, w_hr)
        states[t] = h
    return cat(states), cat([h, *reversed(ended_h)]), None if c is None else cat([c, *reversed(ended_c)])


def recurrent_composite(str cell, x, h_0, c_0, weights, batch_sizes=None) -> tuple:
    """What `recurrent_layer` means, in ordinary ops.

    >>> import fastgrad
    >>> one = fastgrad.ones(1, 1)
    >>> fastgrad._core.recurrent_composite("rnn_relu", fastgrad.ones(3, 1, 1), None, None, [one, one, None, None, None])[1]
    tensor([[[3.]]])
    """
    from fastgrad._core.ops.shape import cat, stack
    steps = list(x.unbind(0)) if batch_sizes is None else list(x.split(batch_sizes.tolist()))
    batch, directions, w_hh = steps[0].shape[0], len(weights) // WEIGHTS, weights[1]
    if h_0 is None:
        h_0 = x.new_zeros(directions, batch, w_hh.shape[1])
    if c_0 is None and cell == "lstm":
        c_0 = x.new_zeros(directions, batch, w_hh.shape[0] // 4)
    done = [
        direction_composite(cell, steps, h_0[k], None if c_0 is None else c_0[k], weights[WEIGHTS * k:WEIGHTS * (k + 1)], k == 1)
        for k in range(directions)
    ]
    y = cat([states for states, _, _ in done], 1)
    if batch_sizes is None:
        y = y.view(len(steps), batch, y.shape[1])
    h_n = stack([h for _, h, _ in done])
    return (y, h_n) if c_0 is None else (y, h_n, stack([c for _, _, c in done]))


def composite_of(node_inputs, str cell, bint single, batch_sizes):
    """The composite of a node's inputs, with the outputs that the node has."""
    x, h_0, c_0, *weights = node_inputs
    if not single:
        return recurrent_composite(cell, x, h_0, c_0, weights, batch_sizes)
    states = [None if state is None else state.unsqueeze(0) for state in (h_0, c_0)]
    y, _, *c_n = recurrent_composite(cell, x.unsqueeze(0), *states, weights)
    return (y.squeeze(0), c_n[0].squeeze(0)) if c_n else y.squeeze(0)


# Launches


cdef inline int enter(fg_array** operands, int k, Tensor x, fg_array* absent) noexcept:
    operands[k] = absent if x is None else &x.array
    return 0


cdef inline int describe_rows(fg_array* flat, Tensor x, const Sizes* sizes) noexcept:
    """A contiguous x of any leading axes as rows."""
    flat.data, flat.dtype, flat.ndim = x.array.data, x.array.dtype, 2
    flat.shape[0], flat.shape[1] = sizes.rows, sizes.inputs
    flat.strides[0], flat.strides[1] = sizes.inputs, 1
    return 0


cdef inline Tensor new_block(int code, int ndim, int64_t a, int64_t b, int64_t c):
    cdef int64_t[3] shape
    shape[0], shape[1], shape[2] = a, b, c
    return new_tensor(code, ndim, shape)


cdef enum: ROOM = 1 << 11     # doubles of workspace that a launch finds on the stack

cdef Tensor find_workspace(fg_array* workspace, double* room, int kernel, int code, const Sizes* sizes):
    """Describes the workspace: `room` if that is enough, else a new tensor, which is returned to be held."""
    cdef Tensor held
    cdef int64_t elements = workspace_elements(
        kernel, sizes.steps, sizes.batch, sizes.rows, sizes.inputs, sizes.hidden, sizes.state, sizes.directions)
    if elements * itemsize_of(code) <= ROOM * <int64_t>sizeof(double):
        workspace.data, workspace.dtype, workspace.ndim = room, code, 1
        workspace.shape[0], workspace.strides[0] = elements, 1
        return None
    held = new_block(code, 1, elements, 0, 0)
    workspace[0] = held.array
    return held


cdef tuple all_contiguous(tuple weights):
    cdef Tensor w
    for w in weights:
        if w is not None and not is_contiguous(&w.array):
            return tuple([None if w is None else contiguous(w) for w in weights])
    return weights


cdef bint any_recorded(Tensor x, Tensor h_0, Tensor c_0, tuple weights):
    cdef Tensor w
    if not grad_enabled():
        return False
    if requires_grad_of(x) or (h_0 is not None and requires_grad_of(h_0)) or (c_0 is not None and requires_grad_of(c_0)):
        return True
    for w in weights:
        if w is not None and requires_grad_of(w):
            return True
    return False


cdef object run(int kind, Tensor x, Tensor h_0, Tensor c_0, tuple weights, Tensor batch_sizes, Sizes* sizes):
    """(y, h_n[, c_n]), or for x (B, I) without batch_sizes, a single step, (y[, c_n])."""
    cdef Cell* cell = &cells[kind]
    cdef bint single = x.array.ndim == 2 and batch_sizes is None, recorded
    cdef int code = x.array.dtype, k, rest = FIRST_WEIGHT + len(weights), count
    cdef int directions = sizes.directions
    cdef Tensor y, h_n = None, c_n = None, gates = None, kept_cells = None, held
    cdef double[ROOM] room
    cdef fg_array absent, rows_of_x, workspace
    cdef fg_array* operands[FG_MOST_OPERANDS]
    cdef fg_params params
    cdef Node node
    x = contiguous(x)
    h_0 = None if h_0 is None else contiguous(h_0)
    c_0 = None if c_0 is None else contiguous(c_0)
    weights = all_contiguous(weights)
    recorded = any_recorded(x, h_0, c_0, weights)
    if x.array.ndim == 3:
        y = new_block(code, 3, sizes.steps, sizes.batch, directions * sizes.state)
    else:
        y = new_block(code, 2, sizes.rows, directions * sizes.state, 0)
    if not single:
        h_n = new_block(code, 3, directions, sizes.batch, sizes.state)
    if kind == LSTM:
        c_n = new_block(code, 2, sizes.batch, sizes.hidden, 0) if single else new_block(
            code, 3, directions, sizes.batch, sizes.hidden)
    if recorded and cell.kept:
        gates = new_block(code, 3, directions, sizes.rows, cell.kept * sizes.hidden)
        if kind == LSTM:
            kept_cells = new_block(code, 3, directions, sizes.rows, sizes.hidden)
    held = find_workspace(&workspace, room, cell.forward, code, sizes)
    memset(&absent, 0, sizeof(absent))
    absent.dtype = code
    describe_rows(&rows_of_x, x, sizes)
    operands[0], operands[5], operands[6] = &y.array, &workspace, &rows_of_x
    enter(operands, 1, h_n, &absent)
    enter(operands, 2, c_n, &absent)
    enter(operands, 3, gates, &absent)
    enter(operands, 4, kept_cells, &absent)
    enter(operands, 7, h_0, &absent)
    enter(operands, 8, c_0, &absent)
    enter(operands, 9, batch_sizes, &absent)
    for k in range(len(weights)):
        enter(operands, FG_FIXED_OPERANDS + k, <Tensor>weights[k], &absent)
    params.i[0], params.i[1] = cell.relu, sizes.batch
    launch(cell.forward, operands, FG_FIXED_OPERANDS + len(weights), &params,
           sizes.rows * directions * cell.gates * sizes.hidden * (sizes.state + sizes.inputs))
    if recorded:
        node = new_node(&cell.op, rest)
        add_outputs(node, 1 + (h_n is not None) + (c_n is not None))
        set_output(node, 0, y)
        count = 1
        if h_n is not None:
            set_output(node, count, h_n)
            count += 1
        if c_n is not None:
            set_output(node, count, c_n)
        reserve_saved(node, rest + REST_COUNT)
        keep_input(node, X, x)
        keep_input(node, H_0, h_0)
        keep_input(node, C_0, c_0)
        for k in range(len(weights)):
            keep_input(node, FIRST_WEIGHT + k, <Tensor>weights[k])
        save_output(node, rest + Y, y)
        if gates is not None:
            save(node, rest + GATES, gates)
        if kept_cells is not None:
            save(node, rest + CELLS, kept_cells)
        if batch_sizes is not None:
            save(node, rest + BATCH_SIZES, batch_sizes)
        node.integers[0], node.integers[1], node.integers[2], node.integers[3] = kind, directions, sizes.batch, single
        node.integers[4], node.integers[5] = sizes.steps, sizes.rows
    if single:
        return y if c_n is None else (y, c_n)
    return (y, h_n) if c_n is None else (y, h_n, c_n)


cdef inline int keep_input(Node node, int k, Tensor x) except -1:
    if x is not None:
        connect(node, k, x)
        save(node, k, x)
    return 0


cdef Tensor new_gradient(Node node, int k, Tensor x, fg_array** operands, int place):
    """Room for the gradient of input k, if it is wanted."""
    cdef Tensor gradient
    if x is None or not node.needs(k):
        return None
    gradient = new_like(x)
    node.give(k, gradient)
    operands[place] = &gradient.array
    return gradient


cdef int rule(Node node, Tensor dy) except -1:
    """Backpropagation through time; under create_graph through the composite."""
    cdef int kind = node.integers[0], k, d, first, place, rest = FIRST_WEIGHT + WEIGHTS * node.integers[1]
    cdef Cell* cell = &cells[kind]
    cdef bint single = node.integers[3]
    cdef Tensor x = node.saved(X), h_0 = node.saved(H_0), c_0 = node.saved(C_0), y = node.saved(rest + Y)
    cdef Tensor w_ih, w_hh, w_hr, batch_sizes = node.saved(rest + BATCH_SIZES)
    cdef Tensor gates, kept_cells, dh_n = None, dc_n = None, db, held
    cdef Sizes sizes
    cdef double[ROOM] room
    cdef fg_array absent, rows_of_x, workspace
    cdef fg_array* operands[FG_MOST_GRADIENT_OPERANDS]
    cdef fg_params params
    if grad_enabled():
        name = cell.name.decode()
        return differentiate_composite(
            node, lambda *inputs: composite_of(inputs, name, single, batch_sizes), [node.saved(k) for k in range(rest)])
    gates, kept_cells = node.saved(rest + GATES), node.saved(rest + CELLS)
    w_ih, w_hh = node.saved(FIRST_WEIGHT), node.saved(FIRST_WEIGHT + 1)
    if not single:
        dh_n = node.incoming(1)
    if kind == LSTM:
        dc_n = node.incoming(1 if single else 2)
    dy = None if dy is None else contiguous(dy)
    dh_n = None if dh_n is None else contiguous(dh_n)
    dc_n = None if dc_n is None else contiguous(dc_n)
    sizes.directions, sizes.batch, sizes.steps, sizes.rows = node.integers[1], node.integers[2], node.integers[4], node.integers[5]
    sizes.hidden, sizes.state, sizes.inputs = w_hh.array.shape[0] // cell.gates, w_hh.array.shape[1], w_ih.array.shape[1]
    held = find_workspace(&workspace, room, cell.backward, x.array.dtype, &sizes)
    memset(&absent, 0, sizeof(absent))
    absent.dtype = x.array.dtype
    describe_rows(&rows_of_x, x, &sizes)
    operands[0] = operands[1] = operands[2] = &absent
    operands[3], operands[7], operands[10] = &workspace, &y.array, &rows_of_x
    enter(operands, 4, dy, &absent)
    enter(operands, 5, dh_n, &absent)
    enter(operands, 6, dc_n, &absent)
    enter(operands, 8, gates, &absent)
    enter(operands, 9, kept_cells, &absent)
    enter(operands, 11, h_0, &absent)
    enter(operands, 12, c_0, &absent)
    enter(operands, 13, batch_sizes, &absent)
    new_gradient(node, X, x, operands, 0)
    new_gradient(node, H_0, h_0, operands, 1)
    new_gradient(node, C_0, c_0, operands, 2)
    for d in range(sizes.directions):
        first, place = FIRST_WEIGHT + WEIGHTS * d, FG_FIXED_GRADIENT_OPERANDS + FG_DIRECTION_GRADIENT_OPERANDS * d
        for k in range(WEIGHTS):
            operands[place + k] = &absent
            if k == 2 or k == 3:
                continue
            new_gradient(node, first + k, node.saved(first + k), operands, place + k)
        for k in range(2, 4):
            if node.needs(first + k):
                db = new_block(x.array.dtype, 1, cell.gates * sizes.hidden, 0, 0)
                operands[place + k] = &db.array
                node.give(first + k, db)
        w_ih, w_hh, w_hr = node.saved(first), node.saved(first + 1), node.saved(first + 4)
        enter(operands, place + WEIGHTS, w_ih, &absent)
        enter(operands, place + WEIGHTS + 1, w_hh, &absent)
        enter(operands, place + WEIGHTS + 2, w_hr, &absent)
    params.i[0], params.i[1] = cell.relu, sizes.batch
    return launch(cell.backward, operands, FG_FIXED_GRADIENT_OPERANDS + FG_DIRECTION_GRADIENT_OPERANDS * sizes.directions, &params,
                  2 * sizes.rows * sizes.directions * cell.gates * sizes.hidden * (sizes.state + sizes.inputs))


# Public functions


def recurrent_layer(str cell, Tensor x, Tensor h_0 or None, Tensor c_0 or None, weights, Tensor batch_sizes=None) -> tuple:
    """One recurrent layer over whole sequences, all its directions, in one launch each way.

    cell: "rnn_tanh", "rnn_relu", "lstm" or "gru", with the formulas and gate orders of torch.nn.RNN, LSTM and GRU.
    H is the hidden size, G = 1, 1, 4, 3 the number of gates, P the size of the state h: H, or less with an LSTM's
    projection; D is 1 or 2, the second direction running from each sequence's last step to its first.

    x: (T, B, I) with T >= 1; or with `batch_sizes`, int64 (T,), positive and never increasing from B on, the rows of all
    steps (N, I), as in a PackedSequence. h_0: (D, B, P) and c_0: (D, B, H), None for zeros. weights: for each direction
    w_ih (G*H, I), w_hh (G*H, P), b_ih (G*H,) or None, b_hh likewise, w_hr (P, H) or None. One float dtype.

    Returns y (T, B, D*P) or (N, D*P), h_n (D, B, P), the state after each sequence's own last step, and for "lstm"
    c_n (D, B, H). Saved for the backward: the inputs, y, and N*D*H numbers four times over for "gru" (r, z, n,
    w_hn h + b_hn) and five times for "lstm" (gates and cell); nothing where nothing is recorded. Beside these and
    the gradients nothing that grows with T is allocated. Values below the smallest normal number may count as zero.
    Raises RuntimeError for other shapes or mixed dtypes, ValueError for another cell.

    >>> import fastgrad
    >>> one = fastgrad.ones(1, 1)
    >>> y, h_n = fastgrad._core.recurrent_layer("rnn_relu", fastgrad.ones(3, 1, 1), None, None, [one, one, None, None, None])
    >>> h_n
    tensor([[[3.]]])
    """
    cdef int kind = cell_kind(cell)
    cdef tuple held = tuple(weights)
    cdef Sizes sizes
    if batch_sizes is None:
        if x.array.ndim != 3 or x.array.shape[0] == 0:
            raise RuntimeError(f"[{cell}] input must be (steps, batch, features) with at least one step; got {shape_text(&x.array)}")
        sizes.steps, sizes.batch = x.array.shape[0], x.array.shape[1]
        sizes.rows = sizes.steps * sizes.batch
    else:
        if x.array.ndim != 2:
            raise RuntimeError(f"[{cell}] input must be (rows, features) with batch_sizes; got {shape_text(&x.array)}")
        batch_sizes = batch_sizes.clone()       # what is checked is what the kernel reads, whoever else writes to it
        check_batch_sizes(&cells[kind], &sizes, x, batch_sizes)
        sizes.rows = x.array.shape[0]
    check(&cells[kind], &sizes, x, h_0, c_0, held, 3)
    return run(kind, x, h_0, c_0, held, batch_sizes, &sizes)


def recurrent_cell(str cell, Tensor x, Tensor h or None, Tensor c or None, Tensor w_ih, Tensor w_hh, Tensor b_ih=None, Tensor b_hh=None):
    """One step of a recurrent layer: the state h' (B, H) after it, and for "lstm" (h', c').

    x: (B, I); h and c: (B, H) or None for zeros; the rest as in `recurrent_layer`. See torch.nn.RNNCell, LSTMCell, GRUCell.

    >>> import fastgrad
    >>> one = fastgrad.ones(1, 1)
    >>> fastgrad._core.recurrent_cell("rnn_relu", one, one, None, one, one)
    tensor([[2.]])
    """
    cdef int kind = cell_kind(cell)
    cdef tuple held = (w_ih, w_hh, b_ih, b_hh, None)
    cdef Sizes sizes
    if x.array.ndim != 2:
        raise RuntimeError(f"[{cell}] input must be (batch, features); got {shape_text(&x.array)}")
    sizes.steps, sizes.batch, sizes.rows = 1, x.array.shape[0], x.array.shape[0]
    check(&cells[kind], &sizes, x, h, c, held, 2)
    return run(kind, x, h, c, held, None, &sizes)
