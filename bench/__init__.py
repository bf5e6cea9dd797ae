"""Measure sojourn beside the raw driver and other mappers, in turns, every outcome checked."""
