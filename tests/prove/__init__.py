"""Proofs by seeds: what the ledger promises, under contention, kills, faults, odd clocks and long runs."""
