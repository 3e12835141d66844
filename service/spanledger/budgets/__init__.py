"""Budgets: what they are, whom they count, and whether they have room. Pure: no I/O, no clock."""
