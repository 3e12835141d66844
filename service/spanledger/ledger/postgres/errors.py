"""The driver's errors become ours, here and nowhere else.

A message of Postgres may quote a whole row, which may have a prompt in it: only its first line is
passed on, never its details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.translation import translate_methods

T = TypeVar("T")

CONNECTION_GONE = ("08", "57P")
"""Beginnings of the SQLSTATEs with which a server ends a connection."""
STALE = "SL001"
"""SQLSTATE of `ledger_guard`: an attempt is not in the state that it was believed to be in."""
LANE_LOST = "SL002"
"""Another gateway has our lane, or a transaction of ours that was given up comes too late."""
NO_ROOM = "SL003"
"""A budget may lack the room for the whole batch, or has changed."""


class BeginAgainError(Exception):
    """Nothing was committed, and the same batch may succeed now."""


class LaneLostError(Exception):
    """Another gateway has our lane, so what became of our last batch can only be seen in its rows."""


RETRIED = ("40001", "40P01")
"""Serialization failure and deadlock: the same transaction may succeed a moment later."""
LOCK_NOT_AVAILABLE = "55P03"
READ_ONLY = "25006"
NO_PARTITION = "23514"
"""A check failed: also the code of a row for which there is no partition."""
_HINTS = {
    "25006": "this server only reads, as a standby does: give the URL of the primary, or name all"
    " servers in it",
    "3F000": "there is no ledger in this database; run `spanledger ledger migrate`",
    "42P01": "there is no ledger in this database, or only a part of one; run"
    " `spanledger ledger migrate`",
    "42501": "the user lacks a right: it must own the schema `spanledger`, or be allowed to create it:"
    " GRANT CREATE ON DATABASE",
    "53100": "the server's disk is full",
    "53300": "the server has no free connection: raise max_connections",
    "55P03": "another transaction held a lock for too long",
    "57014": "it took too long",
}
_NOT_OWNER = (
    "the user lacks a right: to change the ledger, use the role that owns the schema `spanledger`; to read"
    " it, GRANT SELECT ON ALL TABLES IN SCHEMA spanledger"
)
_BY_TEXT = {
    "permission denied for table": _NOT_OWNER,
    "permission denied for sequence": _NOT_OWNER,
    "transaction blocks not allowed in statement pooling mode": "set pool_mode ="
    " transaction in PgBouncer, or connect to the server itself",
}
"""Beginnings of messages that say more than their SQLSTATE. A server that speaks another language gets
the hint of its SQLSTATE."""
_NO_PRIMARY = "session is read-only"
"""End of libpq's own message, which has no SQLSTATE, for a server that is not the primary."""
_SPACES = re.compile(r"\s+")


def reason(error: psycopg.Error) -> str:
    """What went wrong, in one line without data of any row."""
    primary = error.diag.message_primary or str(error).partition("\nDETAIL:")[0]
    text = _SPACES.sub(" ", primary).strip()
    state = READ_ONLY if text.endswith(_NO_PRIMARY) else error.sqlstate
    hint = next((hint for start, hint in _BY_TEXT.items() if text.startswith(start)), None)
    hint = hint or _HINTS.get(state or "")
    return f"{text} ({hint})" if hint else text


def connection_gone(error: psycopg.Error) -> bool:
    """Whether the error says that the connection has ended, or may have."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        state is None or state.startswith(CONNECTION_GONE)
    )


@contextmanager
def translating(what: str = "the ledger failed") -> Iterator[None]:
    """Raise the driver's errors as LedgerUnavailableError."""
    try:
        yield
    except psycopg.Error as error:
        # Not chained: the driver's own text would be logged with it.
        raise LedgerUnavailableError(f"{what}: {reason(error)}") from None


def translated(cls: type[T]) -> type[T]:
    """A class whose public methods, also inherited ones, raise the driver's errors as ours."""
    return translate_methods(cls, translating)
