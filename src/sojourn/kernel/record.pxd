# Declarations of the recorder for the modules that build on it.

cdef class Shape:
    cdef public object op
    cdef public object arg
    cdef public tuple kids
    cdef public int literals
    cdef public dict trans
    cdef public object plan
    cdef public object meta
    cdef object __weakref__

cdef class Node:
    cdef public Shape shape
    cdef public tuple params

cdef class Recording:
    cdef public Shape shape
    cdef public tuple params

cpdef Shape step(Shape shape, object key, object op, object arg=*, tuple kids=*, int literals=*)
cpdef Node make_node(Shape shape, tuple params)
cpdef object make_recording(type kind, Shape shape, tuple params)
