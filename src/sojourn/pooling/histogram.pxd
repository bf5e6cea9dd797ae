# Declarations of the histogram for those who count into it.

cdef class Histogram:
    cdef long[30] _tally
    cdef public long count
    cdef public double total
    cpdef add(self, double seconds)
    cpdef quantile(self, double q)
