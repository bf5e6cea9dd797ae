# Declarations of states and layouts for the kernel modules that build on them.
from sojourn.kernel.layout cimport Layout

# Lives as C integers; the Python names TRANSIENT ... DETACHED have the same values.
cdef int _TRANSIENT
cdef int _PENDING
cdef int _PERSISTENT
cdef int _DELETED
cdef int _DETACHED
cdef str _STATE

cdef class Owner:
    cdef public object loader
    cdef readonly dict maps
    cdef readonly dict new
    cdef readonly dict dirty
    cdef readonly dict deleted
    cdef object session_ref
    cdef object __weakref__

cdef class SharedState:
    cdef readonly Layout layout
    cdef object owner_ref
    cdef Owner get_owner(self)

cdef class InstanceState:
    cdef readonly Layout layout
    cdef public object key
    cdef public int life
    cdef public Owner owner
    cdef public dict committed
    cdef readonly object ref
    cdef public bint expired
    cdef public bint was_deleted
    cdef dict notes
    cdef object __weakref__
    cdef bint attached(self)

cdef InstanceState new_state(Layout layout, object obj)
cdef SharedState new_shared(Layout layout, Owner owner)
cdef bint unchanged(Layout layout, object name, object old, object new) except -1
cpdef InstanceState state_of(object obj)
cpdef dict dict_of(object obj)
