# Declarations of the one-row flush.
from sojourn.kernel.state cimport InstanceState

cdef class LeanRow:
    cdef public object entity
    cdef public bint is_insert
    cdef public object lean
    cdef public tuple row
    cdef public object shape
    cdef public InstanceState state
