# Declarations of the row loader.
from sojourn.kernel.identity cimport IdentityMap
from sojourn.kernel.layout cimport Layout
from sojourn.kernel.state cimport SharedState

cdef class EntitySlot:
    cdef readonly Layout layout
    cdef readonly tuple names
    cdef readonly tuple positions
    cdef readonly tuple key_positions
    cdef readonly tuple processors
    cdef tuple key_processors
    cdef dict template
    cdef object cls
    cdef bint contiguous
    cdef Py_ssize_t start
    cdef Py_ssize_t key_at
    cdef object key_processor
    cdef Py_ssize_t width
    cdef object entity(self, tuple row, dict refs, IdentityMap identity, SharedState shared, int flags)
    cdef object key_in(self, tuple row)
    cdef object fill(self, dict values, tuple row)
    cdef object complete(self, object entity, dict values, tuple row, IdentityMap identity, int flags)

cdef class ColumnSlot:
    cdef readonly Py_ssize_t position
    cdef readonly object processor

cdef class RowLoader:
    cdef readonly tuple slots
    cdef readonly object make_row
    cdef readonly bint is_entity
    cdef bint as_is
    cdef list entities(self, object rows, EntitySlot slot, IdentityMap identity, int flags)
    cdef list run(self, object rows, IdentityMap identity, int flags, bint scalars)
    cdef list column(self, object rows, ColumnSlot slot)
    cdef list mixed(self, object rows, IdentityMap identity, int flags)
