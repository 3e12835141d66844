"""A ledger in a Postgres database, which gateways on many machines share."""
