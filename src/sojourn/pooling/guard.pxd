# Declarations of the lock for the front.

cdef class Guard:
    cdef bint held
    cdef object take_lock
    cdef object free_lock
