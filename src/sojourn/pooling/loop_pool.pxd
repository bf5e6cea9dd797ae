# Declarations of the asyncio front's fields.

from sojourn.pooling.core cimport Entry, PoolCore
from sojourn.pooling.places cimport here

cdef class LoopPool:
    cdef public PoolCore core
    cdef public object loop
    cdef public object handling
    cdef public object manners
    cdef public set creators
    cdef public object failure
    cdef public long gc_returns
    cdef public long pings
    cdef public long pings_failed
    cdef public dict resets
    cdef object _clock
    cdef double _ping_after
    cdef set _ending
    cdef dict _fds
    cdef object _watch
    cdef object _timer
    cdef object _drained
    cdef object __weakref__
    cdef object _is_doubtful(self, Entry entry, double now)
    cdef object _me(self)
