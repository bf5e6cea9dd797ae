# Declarations of the attribute descriptor for the modules that build on it.
from sojourn.kernel.record cimport Node
from sojourn.kernel.layout cimport Layout
from sojourn.kernel.state cimport InstanceState

cdef class Attribute(Node):
    cdef readonly str name
    cdef public Layout layout
    cdef public bint slow
    cdef public bint active_history
    cdef object keep_old(self, object obj, dict values, InstanceState state)
