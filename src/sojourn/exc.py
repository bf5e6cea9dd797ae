"""The exceptions of `sqlalchemy.exc`, and sojourn's own, which are subclasses of them."""

from sqlalchemy.exc import *

from sojourn.errors import *
from sojourn.errors import StaleData as StaleDataError

__all__ = ["StaleDataError"]
