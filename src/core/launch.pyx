"""The one door through which every kernel runs."""

import glob
import os
import sys

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memset

from fastgrad._core.kernels cimport FG_KERNEL_COUNT, FG_MAX_NDIM, fg_kernel, fg_recurrent_workspace
from fastgrad._core.tensor cimport dtype

cdef extern from "kernel.h":
    const fg_kernel* fg_kernels
    const char** fg_kernel_names
    const char** fg_kernel_operands
    const char** fg_kernel_meanings
    const char* fg_choose_isa(const char* wanted)
    int fg_list_isa(const char** names, int room)
    ctypedef struct fg_blas:
        const char* name
        void (*set_num_threads)(int n)
        int (*get_num_threads)()
    fg_blas fg_blas_found
    int fg_load_blas(const char* path, const char** candidates, int candidate_count)

cdef extern from "threads.h":
    int fg_get_threads()
    void fg_set_threads(int count)


# A launch that touches fewer elements than this ends sooner than the GIL changes hands.
cdef enum: WORTH_RELEASING = 1 << 15

cdef list observers = []


cdef int launch(int kernel, fg_array** operands, int count, const fg_params* params, int64_t work) except -1:
    """Run a kernel; `work` is about how many elements or multiply-adds it goes through."""
    cdef fg_kernel function = fg_kernels[kernel]
    if work >= WORTH_RELEASING:
        with nogil:
            function(operands, count, params)
    else:
        function(operands, count, params)
    if observers:
        notify(kernel, operands, count)
    return 0


cdef int64_t workspace_elements(int kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden,
                                int64_t state, int directions) noexcept:
    """How many elements of workspace a recurrent kernel needs."""
    return fg_recurrent_workspace(kernel, steps, batch, rows, inputs, hidden, state, directions)


cdef int notify(int kernel, fg_array** operands, int count) except -1:
    name = fg_kernel_names[kernel].decode()
    shapes = [tuple([operands[k].shape[axis] for axis in range(operands[k].ndim)]) for k in range(count)]
    for observer in list(observers):
        observer(name, shapes)
    return 0


class observe:
    """Call `observer(kernel_name, operand_shapes)` after every launch inside the `with` block.

    >>> import fastgrad
    >>> with fastgrad.observe(lambda name, shapes: print(name, shapes)):
    ...     y = fastgrad.ones(3).exp()
    copy [(3,), ()]
    exp [(3,), (3,)]
    """

    def __init__(self, observer):
        self.observer = observer

    def __enter__(self):
        observers.append(self.observer)
        return self

    def __exit__(self, *exception):
        observers.remove(self.observer)


KERNELS = {
    fg_kernel_names[k].decode(): (fg_kernel_operands[k].decode(), fg_kernel_meanings[k].decode())
    for k in range(FG_KERNEL_COUNT)
}
cdef dict KERNEL_IDS = {name: k for k, name in enumerate(KERNELS)}


def launch_kernel(str name, operands, i=(), f=()) -> None:
    """Run one kernel in place on NumPy arrays; for tests of kernels, so nothing is checked.

    An operand is an array, a number (passed in the parameters, with the dtype of the first array that is
    not bool) or None (absent).
    An axis of length 1 is passed with stride 0.
    """
    cdef fg_array[64] arrays
    cdef fg_array* pointers[64]
    cdef fg_params params
    cdef Py_buffer[64] buffers
    cdef int k, axis, held = 0, count = len(operands), kernel = KERNEL_IDS[name]
    ndim = max([operand.ndim for operand in operands if hasattr(operand, "ndim")], default=0)
    if count > 64 or len(i) > 8 or len(f) > 8 or ndim > FG_MAX_NDIM:
        raise ValueError(
            f"[launch_kernel] at most 64 operands of {FG_MAX_NDIM} dimensions, 8 integers and 8 floats; got {count}, {ndim}, {len(i)}, {len(f)}"
        )
    memset(&params, 0, sizeof(params))
    for k, value in enumerate(i):
        params.i[k] = value
    for k, value in enumerate(f):
        params.f[k] = value
    codes = {"bool": 0, "uint8": 1, "int32": 2, "int64": 3, "float32": 4, "float64": 5}
    present = [codes[operand.dtype.name] for operand in operands if hasattr(operand, "dtype")]
    first = next((code for code in present if code != 0), 0 if present else 5)
    try:
        for k in range(count):
            operand = operands[k]
            memset(&arrays[k], 0, sizeof(fg_array))
            pointers[k] = &arrays[k]
            arrays[k].dtype = first
            if operand is None:
                continue
            if isinstance(operand, (int, float)):
                if first >= 4:
                    params.f[k] = operand
                else:
                    params.i[k] = operand
                continue
            PyObject_GetBuffer(operand, &buffers[held], PyBUF_STRIDES | PyBUF_FORMAT)
            held += 1
            arrays[k].data = buffers[held - 1].buf
            arrays[k].dtype = codes[operand.dtype.name]
            arrays[k].ndim = operand.ndim
            for axis in range(operand.ndim):
                arrays[k].shape[axis] = operand.shape[axis]
                arrays[k].strides[axis] = 0 if operand.shape[axis] == 1 else operand.strides[axis] // operand.itemsize
        launch(kernel, pointers, count, &params, 0)
    finally:
        for k in range(held):
            PyBuffer_Release(&buffers[k])


def recurrent_workspace(str kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden,
                        int64_t state, int directions) -> int:
    """How many elements of workspace a recurrent kernel of this name needs; for tests of kernels."""
    return workspace_elements(KERNEL_IDS[kernel], steps, batch, rows, inputs, hidden, state, directions)


def find_blas() -> None:
    """Resolve sgemm and dgemm from FASTGRAD_BLAS, or from what NumPy has loaded."""
    cdef const char* candidates[32]
    cdef int count = 0
    import numpy
    folder = os.path.dirname(os.path.dirname(numpy.__file__))
    paths = [os.fsencode(path) for pattern in ("numpy.libs/*openblas*", "numpy/.dylibs/*openblas*")
             for path in sorted(glob.glob(os.path.join(folder, pattern)))][:32]
    for path in paths:
        candidates[count] = path
        count += 1
    wanted = os.environ.get("FASTGRAD_BLAS")
    if wanted:
        encoded = os.fsencode(wanted)
        if not fg_load_blas(encoded, candidates, 0):
            raise ImportError(f"[fastgrad] FASTGRAD_BLAS must name a library with cblas_sgemm and cblas_dgemm; got {wanted}")
    else:
        fg_load_blas(NULL, candidates, count)


def isa_names() -> list:
    """The instruction sets that this machine can run, the narrowest first."""
    cdef const char* names[8]
    return [names[k].decode() for k in range(fg_list_isa(names, 8))]


def choose_isa(wanted: str = "") -> str:
    """Run the kernels that were compiled for `wanted`, the best set of this machine if empty; returns its name."""
    encoded = wanted.encode()
    cdef const char* chosen = fg_choose_isa(encoded)
    if chosen == NULL:
        raise ImportError(f"[fastgrad] FASTGRAD_ISA must be one of {', '.join(isa_names())} on this machine; got {wanted}")
    return chosen.decode()


def blas_name() -> str:
    """What BLAS the matrix products borrow."""
    return fg_blas_found.name.decode() if fg_blas_found.name != NULL else "none found; own kernels"


def set_num_threads(int64_t num) -> None:
    """Set how many threads a kernel may run on, as `torch.set_num_threads`; the borrowed BLAS gets the same number.

    Threads start with the first kernel that is large enough to share. A RuntimeError says that num is below 1.

    >>> import fastgrad
    >>> before = fastgrad.get_num_threads()
    >>> fastgrad.set_num_threads(1)
    >>> fastgrad.get_num_threads()
    1
    >>> fastgrad.set_num_threads(before)
    """
    if num < 1:
        raise RuntimeError(f"[set_num_threads] the number of threads must be positive; got {num}")
    cdef int threads = min(num, 1 << 16)
    fg_set_threads(threads)
    if fg_blas_found.set_num_threads != NULL:
        fg_blas_found.set_num_threads(threads)


def get_num_threads() -> int:
    """How many threads a kernel may run on, as `torch.get_num_threads`.

    At import it is `FASTGRAD_NUM_THREADS`, or else the BLAS's number, at most the processors open to this process.
    """
    return fg_get_threads()


def choose_threads(str wanted) -> None:
    """Set the number of threads to `wanted`, or if that is empty to what suits the BLAS and the processors."""
    if wanted:
        if not wanted.isdecimal() or not 0 < int(wanted) < 1 << 63:
            raise ImportError(f"[fastgrad] FASTGRAD_NUM_THREADS must be a positive whole number; got {wanted}")
        return set_num_threads(int(wanted))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    blas_threads = fg_blas_found.get_num_threads() if fg_blas_found.get_num_threads != NULL else processors
    fg_set_threads(min(processors, blas_threads))


ISA = choose_isa(os.environ.get("FASTGRAD_ISA", ""))
find_blas()
choose_threads(os.environ.get("FASTGRAD_NUM_THREADS", ""))


def show_config() -> None:
    """Print the instruction set, the BLAS, the threads and the CUDA device in use."""
    import numpy
    from fastgrad import __version__
    print(f"fastgrad {__version__}, Python {sys.version.split()[0]}, NumPy {numpy.__version__}")
    print(f"instruction set  {ISA} (of {', '.join(isa_names())}; FASTGRAD_ISA forces one)")
    print(f"BLAS             {blas_name()} (FASTGRAD_BLAS=/path/lib.so overrides)")
    print(f"threads          {get_num_threads()} (FASTGRAD_NUM_THREADS, fastgrad.set_num_threads)")
    print("CUDA             not in this build")
