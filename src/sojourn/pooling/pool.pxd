# Declarations of the thread front.
from sojourn.pooling.core cimport Entry, PoolCore
from sojourn.pooling.guard cimport Guard

cdef class Pool:
    cdef readonly PoolCore core
    cdef readonly object handling
    cdef readonly str name
    cdef public object timeout
    cdef public object max_waiting
    cdef public object self_wait
    cdef public double connect_retry
    cdef public double ping_after
    cdef public long pings
    cdef public long pings_failed
    cdef public long gc_returns
    cdef public dict resets
    cdef public object connect_error
    cdef public double failed_at
    cdef public object clock
    cdef public object luck
    cdef public object plan
    cdef readonly Guard guard
    cdef readonly object pauses
    cdef readonly object changes
    cdef readonly object new_lock
    cdef readonly object new_thread
    cdef object _who
    cdef object _late
    cdef object __weakref__
    cdef _check(self, Entry entry, object timeout, double idle)
