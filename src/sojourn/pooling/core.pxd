# Declarations of the pool's core for the front that builds on it.

from sojourn.pooling.histogram cimport Histogram

cdef class Entry:
    cdef public object connection
    cdef public object poll
    cdef public double born
    cdef public double expires
    cdef public double idle_since
    cdef public double lent_at
    cdef public long generation
    cdef public long uses
    cdef public Py_ssize_t slot
    cdef public bint lent
    cdef public bint leaking
    cdef public bint cut
    cdef public object doomed
    cdef public object by
    cdef public object site
    cdef public object statement
    cdef object __weakref__

cdef class PoolCore:
    cdef public long size
    cdef public long overflow
    cdef public object max_age
    cdef public object idle_limit
    cdef public object max_idle
    cdef public long min_idle
    cdef public bint lifo
    cdef public bint racing
    cdef public long max_creators
    cdef public object leak_after
    cdef public object reclaim_after
    cdef public double now
    cdef public long generation
    cdef public long connecting
    cdef public long creators
    cdef public bint closed
    cdef public object failure
    cdef public Entry retiring
    cdef public double retired_at
    cdef public double refill_at
    cdef public list idle
    cdef public list lent
    cdef public object waiting
    cdef public dict counts
    cdef public dict closed_by
    cdef public Histogram wait_time
    cdef public Histogram use_time
    cdef public Histogram create_time
    cpdef has_room(self)
    cpdef take(self, double now)
    cpdef give(self, Entry entry, double now)
    cdef object _end_lease(self, Entry entry)
    cdef object _is_beyond(self, long own)
    cdef object _is_surplus(self)
    cdef object _lend(self, Entry entry, double now)
