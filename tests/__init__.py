"""The tests of sojourn: one folder per floor, one file per source file."""
