"""How a view lies in its base, and gradients that are zero outside of such a region."""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from fastgrad._core.graph cimport engine_ops
from fastgrad._core.kernels cimport fg_array
from fastgrad._core.tensor cimport alias, itemsize_of, same_shape


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
