"""Tests of the kernel: no database, no SQLAlchemy."""
