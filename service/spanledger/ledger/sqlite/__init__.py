"""The ledger in a SQLite file: everything that is SQL, and all that knows `sqlite3`."""
