"""Random numbers: PyTorch's CPU generator (mt19937) and what is drawn from it. The same seed gives PyTorch's numbers."""

import os

from libc.stdint cimport int64_t, uint64_t

from fastgrad._core.graph cimport recording
from fastgrad._core.views cimport check_in_place
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_GENERATOR_BYTES, FG_INT64, FG_UINT8, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport cast, contiguous, copy_into
from fastgrad._core.ops.operands cimport check_fits
from fastgrad._core.tensor cimport (
    Tensor, default_dtype, dtype_code, is_contiguous, is_float, new_like, new_tensor, parse_shape, shape_text,
)

from fastgrad._core.tensor import check_device


cdef class Generator:
    """A stream of random numbers. See torch.Generator.

    >>> import fastgrad
    >>> generator = fastgrad.Generator().manual_seed(0)
    >>> fastgrad.rand(2, generator=generator)
    tensor([0.4963, 0.7682])
    """

    cdef Tensor state
    cdef uint64_t first_seed

    def __cinit__(self, *args, **kwargs):
        cdef int64_t size = FG_GENERATOR_BYTES
        self.state = new_tensor(FG_UINT8, 1, &size)
        self.manual_seed(67280421310721)

    def __init__(self, device="cpu"):
        check_device(device)

    def __reduce__(self):
        return generator_of, (self.get_state(), self.first_seed)

    def manual_seed(self, seed):
        """Start the stream that belongs to a seed."""
        cdef fg_array* operands[1]
        cdef fg_params params
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"[manual_seed] the seed must fit in 64 bits; got {seed}")
        self.first_seed = seed % (1 << 64)
        params.i[0] = <int64_t>self.first_seed
        operands[0] = &self.state.array
        launch(FG_KERNEL_random_seed, operands, 1, &params, 0)
        return self

    def seed(self) -> int:
        """Start a stream from the system's entropy; returns the seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.first_seed

    def initial_seed(self) -> int:
        """The seed that this stream started from."""
        return self.first_seed

    @property
    def device(self):
        """Where the state lies: the CPU."""
        return self.state.device

    def get_state(self):
        """The whole state as a uint8 tensor."""
        return self.state.clone()

    def set_state(self, Tensor new_state):
        """Continue where `get_state` was called."""
        if new_state.array.dtype != FG_UINT8 or new_state.array.ndim != 1 or new_state.array.shape[0] != FG_GENERATOR_BYTES:
            raise RuntimeError(
                f"[set_rng_state] the state must be a uint8 tensor of {FG_GENERATOR_BYTES} bytes from get_rng_state; got "
                f"{new_state.dtype} of shape {shape_text(&new_state.array)}"
            )
        copy_into(self.state, new_state)
        return self


def generator_of(Tensor state, first_seed):
    """The inverse of pickling a Generator."""
    cdef Generator generator = Generator().set_state(state)
    generator.first_seed = first_seed
    return generator


cdef Generator DEFAULT = Generator()
default_generator = DEFAULT


def manual_seed(seed):
    """Seed the default generator; the same seed gives the same numbers, PyTorch's. Returns the generator."""
    return DEFAULT.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system's entropy; returns the seed."""
    return DEFAULT.seed()


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return DEFAULT.first_seed


def get_rng_state():
    """The state of the default generator as a uint8 tensor."""
    return DEFAULT.get_state()


def set_rng_state(Tensor new_state) -> None:
    """Continue where `get_rng_state` was called."""
    DEFAULT.set_state(new_state)


cdef Tensor draw(int kernel, Tensor out, Generator generator, fg_params* params, Tensor extra):
    """Fill `out` from the generator."""
    cdef Generator source = DEFAULT if generator is None else generator
    cdef Tensor target = out if is_contiguous(&out.array) else new_like(out)
    cdef fg_array number
    cdef fg_array* operands[3]
    number.data, number.ndim, number.dtype = NULL, 0, 5
    operands[0], operands[1] = &target.array, &source.state.array
    operands[2] = &number if extra is None else &extra.array
    # Work 0 keeps the GIL: two threads must not draw from one generator at once.
    launch(kernel, operands, 3 if kernel == FG_KERNEL_bernoulli else 2, params, 0)
    if target is not out:
        copy_into(out, target)
    return out


cdef Tensor filled(int kernel, Tensor x, Generator generator, fg_params* params, Tensor extra, str op):
    """In place; what x was before has no part in what it is, so where x is recorded it becomes a copy of constants."""
    if recording(x):
        return x.copy_(draw(kernel, new_like(x), generator, params, extra))
    check_in_place(x, op)
    return draw(kernel, x, generator, params, extra)


cdef int check_float(Tensor x, str op) except -1:
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[{op}] only float tensors can be filled; got {x.dtype}")
    return 0


def uniform_(Tensor input, double from_=0, double to=1, *, Generator generator=None, **kwargs):
    """Fill with numbers uniform in [from, to). See torch.Tensor.uniform_."""
    cdef fg_params params
    check_float(input, "uniform_")
    low = kwargs.pop("from", from_)
    if kwargs:
        raise TypeError(f"[uniform_] unexpected arguments; got {', '.join(kwargs)}")
    if not low <= to:
        raise RuntimeError(f"[uniform_] expects to return a [from, to) range with from <= to; got from={low} > to={to}")
    params.f[0], params.f[1] = low, to
    return filled(FG_KERNEL_uniform, input, generator, &params, None, "uniform_")


def normal_(Tensor input, double mean=0, double std=1, *, Generator generator=None):
    """Fill with normally distributed numbers. See torch.Tensor.normal_."""
    cdef fg_params params
    check_float(input, "normal_")
    if not std >= 0:
        raise RuntimeError(f"[normal_] expects std >= 0.0; got std={std}")
    params.f[0], params.f[1] = mean, std
    return filled(FG_KERNEL_normal, input, generator, &params, None, "normal_")


def exponential_(Tensor input, double lambd=1, *, Generator generator=None):
    """Fill with exponentially distributed numbers of rate `lambd`. See torch.Tensor.exponential_."""
    cdef fg_params params
    check_float(input, "exponential_")
    if not lambd > 0:
        raise RuntimeError(f"[exponential_] expects lambda > 0.0; got lambda={lambd}")
    params.f[0] = lambd
    return filled(FG_KERNEL_exponential, input, generator, &params, None, "exponential_")


def random_(Tensor input, *bounds, Generator generator=None):
    """Fill with integers: `random_()`, `random_(to)`, `random_(from, to)`, `to` excluded. See torch.Tensor.random_."""
    cdef fg_params params
    limits = {0: 2, 1: 256, 2: 1 << 31, 3: 1 << 63, 4: (1 << 24) + 1, 5: (1 << 53) + 1}
    low = bounds[0] if len(bounds) == 2 else 0
    high = bounds[len(bounds) - 1] if bounds else limits[input.array.dtype]
    if low >= high:
        raise RuntimeError(f"[random_] expects 'from' to be less than 'to'; got from={low} >= to={high}")
    check_fits(low, input.array.dtype, "random_")
    check_fits(high - 1, input.array.dtype, "random_")
    # The kernel takes the difference as unsigned, so that 2^63 wraps to what it should be.
    params.i[0], params.i[1] = low, high if high != 1 << 63 else -1 << 63
    return filled(FG_KERNEL_random_integers, input, generator, &params, None, "random_")


cdef Tensor checked_probability(Tensor p, str op):
    check_float(p, op)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise RuntimeError(f"[{op}] expects p in [0, 1]; got a tensor with other values")
    return contiguous(p.detach())


def bernoulli_(Tensor input, p=0.5, *, Generator generator=None):
    """Fill with 1 with probability p, a number or a tensor of that shape, else 0. See torch.Tensor.bernoulli_."""
    cdef fg_params params
    cdef Tensor probability = None
    if isinstance(p, Tensor):
        probability = checked_probability(p.expand_as(input), "bernoulli_")
    else:
        if not 0 <= p <= 1:
            raise RuntimeError(f"[bernoulli_] expects p in [0, 1]; got p={p}")
        params.f[2] = p
    return filled(FG_KERNEL_bernoulli, input, generator, &params, probability, "bernoulli_")


def bernoulli(Tensor input, p=None, *, Generator generator=None):
    """A tensor like input with 1 with probability `input` (or p), else 0. See torch.bernoulli."""
    cdef fg_params params
    if p is not None:
        return bernoulli_(new_like(input), p, generator=generator)
    probability = checked_probability(input, "bernoulli")
    return draw(FG_KERNEL_bernoulli, new_like(input), generator, &params, probability)


cdef Tensor draw_new(str op, tuple size, object dtype, int otherwise, object device):
    """An uninitialised tensor for a factory."""
    cdef int64_t shape[12]
    cdef int ndim
    check_device(device)
    ndim = parse_shape(size[0] if len(size) == 1 and not isinstance(size[0], int) else size, shape, op)
    return new_tensor(dtype_code(dtype, otherwise), ndim, shape)


def rand(*size, Generator generator=None, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False):
    """Numbers uniform in [0, 1). See torch.rand.

    >>> import fastgrad
    >>> generator = fastgrad.manual_seed(0); fastgrad.rand(2)
    tensor([0.4963, 0.7682])
    """
    out = uniform_(draw_new("rand", size, dtype, default_dtype, device), generator=generator)
    out.requires_grad = requires_grad
    return out


def randn(*size, Generator generator=None, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False):
    """Normally distributed numbers of mean 0 and variance 1. See torch.randn.

    >>> import fastgrad
    >>> generator = fastgrad.manual_seed(0); fastgrad.randn(2)
    tensor([ 1.5410, -0.2934])
    """
    out = normal_(draw_new("randn", size, dtype, default_dtype, device), generator=generator)
    out.requires_grad = requires_grad
    return out


def randint(*args, low=None, high=None, size=None, Generator generator=None, dtype=None, layout=None, device=None,
            bint requires_grad=False):
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`. See torch.randint.

    >>> import fastgrad
    >>> generator = fastgrad.manual_seed(0); fastgrad.randint(10, (3,))
    tensor([4, 9, 3])
    """
    names = list(args)
    if len(names) + (size is not None) + (high is not None) + (low is not None) not in (2, 3):
        raise TypeError(f"[randint] high and size are needed, and at most low besides; got {args}")
    if size is None:
        size = names.pop()
    if high is None:
        high = names.pop()
    if low is None:
        low = names.pop() if names else 0
    out = random_(draw_new("randint", (size,), dtype, FG_INT64, device), low, high, generator=generator)
    out.requires_grad = requires_grad
    return out


def randperm(n, *, Generator generator=None, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False):
    """A random permutation of 0 ... n - 1. See torch.randperm.

    >>> import fastgrad
    >>> sorted(fastgrad.randperm(3).tolist())
    [0, 1, 2]
    """
    cdef fg_params params
    if n < 0:
        raise RuntimeError(f"[randperm] n must be non-negative; got {n}")
    out = draw(FG_KERNEL_randperm, draw_new("randperm", (int(n),), None, FG_INT64, device), generator, &params, None)
    return cast(out, dtype_code(dtype, FG_INT64))


def rand_like(Tensor input, *, dtype=None, device=None, bint requires_grad=False, memory_format=None):
    """`rand` of input's shape and dtype."""
    return rand(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def randn_like(Tensor input, *, dtype=None, device=None, bint requires_grad=False, memory_format=None):
    """`randn` of input's shape and dtype."""
    return randn(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def normal(mean=0.0, std=1.0, size=None, *, Generator generator=None, dtype=None, device=None, bint requires_grad=False):
    """Normally distributed numbers with tensors or numbers as mean and std. See torch.normal."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        model = mean if isinstance(mean, Tensor) else std
        if isinstance(mean, Tensor) and isinstance(std, Tensor):
            model = mean + std
        return randn(model.shape, dtype=model.dtype, generator=generator) * std + mean
    if size is None:
        raise TypeError("[normal] size is needed where mean and std are numbers; got None")
    out = normal_(draw_new("normal", (size,), dtype, default_dtype, device), mean, std, generator=generator)
    out.requires_grad = requires_grad
    return out


def dropout(Tensor input, double p=0.5, bint training=True, bint inplace=False):
    """Each element zero with probability p, the others divided by 1 - p; input itself when not training.

    See torch.nn.functional.dropout.

    >>> import fastgrad
    >>> fastgrad.nn.functional.dropout(fastgrad.ones(2), 0.5, training=False)
    tensor([1., 1.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[dropout] probability has to be between 0 and 1; got {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input.mul_(0) if inplace else input * 0
    mask = bernoulli_(new_like(input), 1 - p).mul_(1 / (1 - p))
    return input.mul_(mask) if inplace else input * mask
