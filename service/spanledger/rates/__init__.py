"""Rates: how much a subject may use in a minute and at once. Pure; the ledger keeps and shares them."""
