"""The compiled core: states, attributes, the identity map, rows; it knows no SQL.

Each module is one source in Cython's pure Python mode. `COMPILED` says whether it runs compiled.
"""

from __future__ import annotations

from sojourn.sources import choose_sources

choose_sources(__name__)

from sojourn.kernel.drive import COMPILED  # noqa: E402 - the sources are chosen first

__all__ = ["COMPILED"]
