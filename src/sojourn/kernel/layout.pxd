# Declaration of the layout for the kernel modules that build on it.
cdef class Layout:
    cdef public object cls
    cdef public object mapper
    cdef readonly tuple names
    cdef readonly dict places
    cdef readonly tuple keys
    cdef public tuple expires
    cdef public dict attributes
    cdef public dict compares
    cdef readonly Layout root
    cdef readonly bint scalar_key
    cdef object __weakref__
    cpdef object allocate(self)
    cpdef object key_of(self, dict values)
