"""The conversation that joins mapping, loading and the unit of work: sessions and their scopes."""
