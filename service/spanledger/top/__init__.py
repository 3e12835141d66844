"""`spanledger top`: the current activity of a ledger's gateways, in a terminal."""
