"""The pool lends connections; its core decides, its fronts wait and connect."""

from sojourn.sources import choose_sources

choose_sources(__name__)
