from fastgrad._core.graph cimport Region
from fastgrad._core.tensor cimport Tensor

cdef Region* region_between(Tensor view, Tensor base) except NULL
cdef Tensor region_of(Tensor base, Region* region)
cdef int accumulate_region(Tensor base, Region* region, Tensor gradient) except -1
cdef Tensor embedded(Tensor gradient, Region* region)
