"""What is spent while the ledger is unavailable, kept on this machine until the ledger is back."""
