"""A small shop on an embedded SQLite file, and what the same work costs elsewhere: `python -m demo`."""
