"""Adapters: one for each wire that providers speak."""
