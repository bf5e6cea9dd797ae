"""From `select()` to entities: plans by key, and the results that hand entities out."""
