"""A proof by trial: whatever is asked, what is held covers what the provider bills."""
