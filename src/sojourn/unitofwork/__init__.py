"""The unit of work: changed entities become batches of statements, and what comes back settles into them."""
