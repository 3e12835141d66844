"""What tells a ledger from any other, and whether it is whole."""

from __future__ import annotations

import uuid
from random import getrandbits

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.copying import UNFINISHED
from spanledger.ledger.sql.port import Sql


def ledger_id(sql: Sql) -> int:
    """A random number of this ledger alone, made on first use."""
    sql.run(_NEW_ID, id=getrandbits(63))
    ((value,),) = sql.rows("SELECT value FROM state WHERE key = 'ledger_id'")
    return int(value)


def ledger_uuid(sql: Sql) -> str:
    """The same as a UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"spanledger:{ledger_id(sql)}"))


def refuse_incomplete(sql: Sql) -> None:
    """Raises LedgerUnavailableError if the ledger is a copy that lacks something."""
    if sql.rows("SELECT 1 FROM state WHERE key = :key", key=UNFINISHED):
        raise LedgerUnavailableError(
            "the ledger is a copy that is not complete: run `spanledger ledger copy` again"
        )


_NEW_ID = """
INSERT INTO state (key, value) VALUES ('ledger_id', :id) ON CONFLICT (key) DO NOTHING"""
