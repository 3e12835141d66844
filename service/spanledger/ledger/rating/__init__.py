"""Rates on the request path: each process's share of them, leased from the ledger."""
