"""Questions that every database answers to the same words: budgets, keys and reports, once for all."""
