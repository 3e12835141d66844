"""`spanledger top`: what a ledger's gateways do right now, in a terminal."""
