# cython: language_level=3, annotation_typing=False, nonecheck=True
"""`Histogram`: how often something took how long, counted in two or three nanoseconds."""

from __future__ import annotations

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

#: Histograms count by powers of two of a microsecond: the last bucket begins at 4.5 minutes.
BUCKETS = 30


@cython.final
@cython.cclass
class Histogram:
    """Count durations by powers of two of a microsecond: bucket 0 is below 1 us, bucket n below 2**n us."""

    if not cython.compiled:
        __slots__ = ("_tally", "count", "total")

    def __init__(self) -> None:
        if not cython.compiled:
            self._tally = [0] * BUCKETS
        self.count = 0
        self.total = 0.0  # seconds

    @property
    def buckets(self) -> list[int]:
        """Return how many durations fell into each bucket."""
        return [self._tally[bucket] for bucket in range(BUCKETS)]

    @cython.ccall
    @cython.locals(seconds=cython.double, bucket=cython.int, left=cython.longlong)
    def add(self, seconds: float) -> None:
        """Count one duration, in seconds."""
        self.count += 1
        self.total += seconds
        if cython.compiled:
            left = cython.cast(cython.longlong, seconds * 1e6)
            bucket = 0
            while left > 0:
                left >>= 1
                bucket += 1
        else:
            bucket = int(seconds * 1e6).bit_length() if seconds > 0 else 0
        self._tally[bucket if bucket < BUCKETS else BUCKETS - 1] += 1

    def copy(self) -> Histogram:
        """Return a histogram of the same counts."""
        twin = Histogram()
        for bucket in range(BUCKETS):
            twin._tally[bucket] = self._tally[bucket]
        twin.count = self.count
        twin.total = self.total
        return twin

    @cython.locals(earlier="Histogram")
    def since(self, earlier: Histogram) -> Histogram:
        """Return what was counted after *earlier* was copied from this one."""
        twin = Histogram()
        for bucket in range(BUCKETS):
            twin._tally[bucket] = self._tally[bucket] - earlier._tally[bucket]
        twin.count = self.count - earlier.count
        twin.total = self.total - earlier.total
        return twin

    @cython.locals(other="Histogram")
    def plus(self, other: Histogram) -> Histogram:
        """Return a histogram of what both have counted."""
        twin = Histogram()
        for bucket in range(BUCKETS):
            twin._tally[bucket] = self._tally[bucket] + other._tally[bucket]
        twin.count = self.count + other.count
        twin.total = self.total + other.total
        return twin

    @cython.ccall
    @cython.locals(q=cython.double)
    def quantile(self, q: float) -> float:
        """Estimate the duration that the share *q* of all stays below; 0 where nothing was counted.

        Within a bucket durations are taken as evenly spread, so the estimate is at most a factor of two off.
        """
        wanted = q * self.count
        seen = 0
        for bucket in range(BUCKETS):
            here = self._tally[bucket]
            if here and seen + here >= wanted:
                high = 2.0**bucket
                low = high / 2 if bucket else 0.0
                return (low + (high - low) * max(wanted - seen, 0.0) / here) / 1e6
            seen += here
        return 0.0

    def __repr__(self) -> str:
        if not self.count:
            return "<Histogram of nothing>"
        mean = self.total / self.count
        return f"<Histogram of {self.count}: mean {mean:.6f} s, p99 {self.quantile(0.99):.6f} s>"
