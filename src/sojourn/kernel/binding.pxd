# Declarations of the binder for the modules that build on it.

cdef class Binder:
    cdef public object text
    cdef public bint direct
    cdef public int touched
    cdef public object token
    cdef public tuple slots
    cdef public tuple processors
    cdef public tuple constants
    cdef public tuple expanding
    cdef public dict variants
    cdef public object expand
    cdef public object each
    cdef public int limit
