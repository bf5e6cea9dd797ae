"""The pool lends connections; its core decides, its fronts wait and connect."""

from sojourn.pool.core import Entry, PoolCore, Ticket
from sojourn.pool.pool import Pool

__all__ = ["Entry", "Pool", "PoolCore", "Ticket"]
