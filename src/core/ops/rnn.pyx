"""The unrolled recurrent layer: one launch for the whole sequence forward, one backward."""

from libc.stdint cimport int64_t

from fastgrad._core.engine cimport differentiate_composite
from fastgrad._core.graph cimport (
    Node, Op, connect, grad_enabled, record, recording, recording2, reserve_saved, save, save_output,
)
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport fg_array, fg_params
from fastgrad._core.launch cimport launch, rnn_workspace
from fastgrad._core.ops.copying cimport contiguous
from fastgrad._core.tensor cimport Tensor, is_float, new_like, new_tensor, numel, shape_text


cdef Op RNN
RNN.name, RNN.rule = b"RnnBackward0", rnn_rule


cdef int check(Tensor x, Tensor h_0, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, str op) except -1:
    cdef int last = x.array.ndim - 1
    cdef int64_t hidden
    cdef Tensor b
    if w_ih.array.ndim != 2 or w_hh.array.ndim != 2 or w_hh.array.shape[0] != w_hh.array.shape[1] or (
            w_ih.array.shape[0] != w_hh.array.shape[0]):
        raise RuntimeError(
            f"[{op}] w_ih must be (hidden, input) and w_hh (hidden, hidden); got {shape_text(&w_ih.array)} and "
            f"{shape_text(&w_hh.array)}"
        )
    hidden = w_hh.array.shape[0]
    if x.array.shape[last] != w_ih.array.shape[1]:
        raise RuntimeError(
            f"[{op}] input.shape[-1] must equal w_ih.shape[1]; got input {shape_text(&x.array)}, w_ih {shape_text(&w_ih.array)}"
        )
    if h_0 is not None and (
            h_0.array.ndim != 2 or h_0.array.shape[0] != x.array.shape[last - 1] or h_0.array.shape[1] != hidden):
        raise RuntimeError(
            f"[{op}] the initial state must be (batch, hidden) = ({x.array.shape[last - 1]}, {hidden}); got "
            f"{shape_text(&h_0.array)}"
        )
    for b in (b_ih, b_hh):
        if b is not None and (b.array.ndim != 1 or b.array.shape[0] != hidden):
            raise RuntimeError(f"[{op}] a bias must be (hidden,) = ({hidden},); got {shape_text(&b.array)}")
    for b in (h_0, w_ih, w_hh, b_ih, b_hh):
        if b is not None and b.array.dtype != x.array.dtype:
            raise RuntimeError(f"[{op}] input, state and weights must have the same dtype; got {x.dtype} and {b.dtype}")
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[{op}] input must be a float tensor; got {x.dtype}")
    return 0


cdef int nonlinearity_code(object nonlinearity, str op) except -1:
    if nonlinearity == "tanh":
        return 0
    if nonlinearity == "relu":
        return 1
    raise ValueError(f"[{op}] nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}")


cdef Tensor unrolled(Tensor x, Tensor h_0, Tensor w_ih, Tensor w_hh, Tensor b_ih, Tensor b_hh, int nonlinearity, bint reverse):
    """y (T,B,H), recorded. All operands are checked and contiguous; x is (T,B,I), or (B,I) for one step with y (B,H)."""
    cdef int64_t steps = x.array.shape[0] if x.array.ndim == 3 else 1
    cdef int64_t batch = x.array.shape[x.array.ndim - 2], inputs = x.array.shape[x.array.ndim - 1]
    cdef int64_t hidden = w_hh.array.shape[0]
    cdef int64_t shape[3]
    cdef int64_t room
    cdef Tensor y, workspace
    cdef fg_array absent, flat_x, flat_y
    cdef fg_array* operands[8]
    cdef fg_params params
    cdef Node node
    shape[0], shape[1], shape[2] = steps, batch, hidden
    y = new_tensor(x.array.dtype, x.array.ndim, &shape[3 - x.array.ndim])
    room = rnn_workspace(steps, batch, inputs, hidden, 0)
    workspace = new_tensor(x.array.dtype, 1, &room)
    absent.data, absent.ndim, absent.dtype = NULL, 0, x.array.dtype
    sequence(&flat_x, &x.array, steps)
    sequence(&flat_y, &y.array, steps)
    operands[0], operands[1], operands[2], operands[3] = &flat_y, &workspace.array, &flat_x, or_absent(h_0, &absent)
    operands[4], operands[5] = &w_ih.array, &w_hh.array
    operands[6], operands[7] = or_absent(b_ih, &absent), or_absent(b_hh, &absent)
    params.i[0], params.i[1] = nonlinearity, reverse
    launch(FG_KERNEL_rnn, operands, 8, &params, numel(&y.array) * (hidden + inputs))
    if recording2(x, w_ih) or recording2(w_hh, x if h_0 is None else h_0) or (
            b_ih is not None and recording(b_ih)) or (b_hh is not None and recording(b_hh)):
        node = record(&RNN, y, 6)
        reserve_saved(node, 7)
        connect(node, 0, x)
        save(node, 0, x)
        connect(node, 2, w_ih)
        save(node, 2, w_ih)
        connect(node, 3, w_hh)
        save(node, 3, w_hh)
        if h_0 is not None:
            connect(node, 1, h_0)
            save(node, 1, h_0)
        if b_ih is not None:
            connect(node, 4, b_ih)
            save(node, 4, b_ih)
        if b_hh is not None:
            connect(node, 5, b_hh)
            save(node, 5, b_hh)
        save_output(node, 6, y)
        node.integers[0], node.integers[1] = nonlinearity, reverse
    return y


cdef inline fg_array* or_absent(Tensor x, fg_array* absent) noexcept:
    return absent if x is None else &x.array


cdef int sequence(fg_array* out, const fg_array* x, int64_t steps) noexcept:
    """A contiguous (T,B,F) array, or (B,F) as a sequence of one step."""
    out.data, out.dtype, out.ndim = x.data, x.dtype, 3
    out.shape[0], out.shape[1], out.shape[2] = steps, x.shape[x.ndim - 2], x.shape[x.ndim - 1]
    out.strides[2], out.strides[1], out.strides[0] = 1, out.shape[2], out.shape[1] * out.shape[2]
    return 0


cdef int rnn_rule(Node node, Tensor d) except -1:
    """Backpropagation through time; under create_graph through the composite."""
    cdef Tensor x = node.saved(0), h_0 = node.saved(1), w_ih = node.saved(2), w_hh = node.saved(3), y = node.saved(6)
    cdef Tensor dx, dh_0, dw_ih, dw_hh, db, workspace
    cdef int64_t steps = x.array.shape[0] if x.array.ndim == 3 else 1
    cdef int64_t room
    cdef fg_array absent, flat_x, flat_y, flat_dx, flat_dy
    cdef fg_array* operands[13]
    cdef fg_params params
    cdef int k
    if grad_enabled():
        nonlinearity, reverse = "relu" if node.integers[0] else "tanh", node.integers[1]
        return differentiate_composite(
            node, lambda *inputs: rnn_composite(*inputs, nonlinearity, reverse), [node.saved(k) for k in range(6)], d)
    d = contiguous(d)
    room = rnn_workspace(steps, x.array.shape[x.array.ndim - 2], x.array.shape[x.array.ndim - 1], w_hh.array.shape[0], 1)
    workspace = new_tensor(x.array.dtype, 1, &room)
    absent.data, absent.ndim, absent.dtype = NULL, 0, x.array.dtype
    for k in range(6):
        operands[k] = &absent
    sequence(&flat_x, &x.array, steps)
    sequence(&flat_y, &y.array, steps)
    sequence(&flat_dy, &d.array, steps)
    if node.needs(0):
        dx = new_like(x)
        sequence(&flat_dx, &dx.array, steps)
        operands[0] = &flat_dx
        node.give(0, dx)
    if node.needs(1):
        dh_0 = new_like(h_0)
        operands[1] = &dh_0.array
        node.give(1, dh_0)
    if node.needs(2):
        dw_ih = new_like(w_ih)
        operands[2] = &dw_ih.array
        node.give(2, dw_ih)
    if node.needs(3):
        dw_hh = new_like(w_hh)
        operands[3] = &dw_hh.array
        node.give(3, dw_hh)
    if node.needs(4) or node.needs(5):
        # Both biases enter as a sum, so they have one gradient.
        db = new_tensor(x.array.dtype, 1, w_hh.array.shape)
        operands[4 if node.needs(4) else 5] = &db.array
        if node.needs(4): node.give(4, db)
        if node.needs(5): node.give(5, db)
    operands[6], operands[7], operands[8], operands[9] = &workspace.array, &flat_dy, &flat_y, &flat_x
    operands[10], operands[11], operands[12] = or_absent(h_0, &absent), &w_ih.array, &w_hh.array
    params.i[0], params.i[1], params.i[2] = node.integers[0], node.integers[1], 0
    return launch(FG_KERNEL_rnn_backward, operands, 13, &params, 2 * numel(&y.array) * w_hh.array.shape[0])


def rnn_composite(Tensor x, Tensor h_0 or None, Tensor w_ih, Tensor w_hh, Tensor b_ih or None, Tensor b_hh or None,
                  nonlinearity, reverse):
    """What the recurrent kernel means, in ordinary ops: h_t = f(x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh)."""
    steps = x.unbind(0) if x.array.ndim == 3 else [x]
    h = x.new_zeros(x.array.shape[x.array.ndim - 2], w_hh.array.shape[0]) if h_0 is None else h_0
    states = []
    for x_t in reversed(steps) if reverse else steps:
        z = x_t @ w_ih.t() + h @ w_hh.t()
        if b_ih is not None:
            z = z + b_ih
        if b_hh is not None:
            z = z + b_hh
        h = z.relu() if nonlinearity == "relu" else z.tanh()
        states.append(h)
    if x.array.ndim == 2:
        return states[0]
    from fastgrad._core.ops.shape import stack
    return stack(states[::-1] if reverse else states)


cdef Tensor contiguous_or_none(Tensor x):
    return None if x is None else contiguous(x)


def rnn_layer(Tensor x_tbi, Tensor h_0 or None, Tensor w_ih, Tensor w_hh, Tensor b_ih=None, Tensor b_hh=None,
              str nonlinearity="tanh", bint reverse=False):
    """One recurrent layer over a whole sequence, in one direction: h_t = f(x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh).

    x_tbi: (T, B, I), T >= 1; h_0: (B, H) or None for zeros; w_ih: (H, I); w_hh: (H, H); biases: (H,) or None; all of one
    float dtype. `nonlinearity`: "tanh" or "relu"; `reverse` runs from the last step to the first. Returns the states
    (T, B, H) and the last one computed (B, H). Saved for the backward: the inputs and the states, nothing else.
    Raises RuntimeError for other shapes or mixed dtypes. See torch.nn.RNN.

    >>> import fastgrad
    >>> one = fastgrad.ones(1, 1)
    >>> states, last = fastgrad._core.rnn_layer(fastgrad.ones(3, 1, 1), None, one, one, nonlinearity="relu")
    >>> last
    tensor([[3.]])
    """
    if x_tbi.array.ndim != 3 or x_tbi.array.shape[0] == 0:
        raise RuntimeError(f"[rnn] input must be (steps, batch, features) with at least one step; got {shape_text(&x_tbi.array)}")
    check(x_tbi, h_0, w_ih, w_hh, b_ih, b_hh, "rnn")
    y = unrolled(contiguous(x_tbi), contiguous_or_none(h_0), contiguous(w_ih), contiguous(w_hh),
                 contiguous_or_none(b_ih), contiguous_or_none(b_hh), nonlinearity_code(nonlinearity, "rnn"), reverse)
    return y, y.select(0, 0 if reverse else x_tbi.array.shape[0] - 1)


def rnn_cell(Tensor x_bi, Tensor h_bh or None, Tensor w_ih, Tensor w_hh, Tensor b_ih=None, Tensor b_hh=None, str nonlinearity="tanh"):
    """One step of a recurrent layer, h' = f(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh), in one launch. See torch.nn.RNNCell.

    x_bi: (B, I); h_bh: (B, H) or None for zeros; the rest as `rnn_layer`.

    >>> import fastgrad
    >>> one = fastgrad.ones(1, 1)
    >>> fastgrad._core.rnn_cell(one, one, one, one, nonlinearity="relu")
    tensor([[2.]])
    """
    if x_bi.array.ndim != 2:
        raise RuntimeError(f"[rnn_cell] input must be (batch, features); got {shape_text(&x_bi.array)}")
    check(x_bi, h_bh, w_ih, w_hh, b_ih, b_hh, "rnn_cell")
    return unrolled(contiguous(x_bi), contiguous_or_none(h_bh), contiguous(w_ih), contiguous(w_hh),
                    contiguous_or_none(b_ih), contiguous_or_none(b_hh), nonlinearity_code(nonlinearity, "rnn_cell"), False)
