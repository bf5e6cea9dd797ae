# Declarations of the identity map for the modules that fill it.
from sojourn.kernel.layout cimport Layout
from sojourn.kernel.state cimport InstanceState, Owner, SharedState

cdef class IdentityMap(Owner):
    cdef readonly dict shares
    cdef dict limits
    cpdef object find(self, Layout layout, object key)
    cpdef object find_loaded(self, Layout layout, object key)
    cpdef object hit(self, object cls, object key)
    cpdef SharedState shared(self, Layout layout)
    cpdef dict refs(self, Layout root)
    cpdef object add(self, InstanceState state, object obj)
    cpdef object discard(self, InstanceState state)
    cdef object add_each(self, object instances, object add)
    cdef object sweep(self, Layout root, dict refs)
    cdef object expire_one(self, object entity, object key, object reference)
