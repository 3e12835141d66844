"""What providers keep for callers: files and batches, as rows of their own.

Ids of requests rise with time, so they are also the order of a list. Nothing here moves money, except
that a hold may be made to outlive its request (`Later`).
"""

from __future__ import annotations

import sqlite3

from spanledger.ledger.model import Kept, KeptKind, Later

_COLUMNS = "request_id, kind, customer, team, deployment, provider_id, created_ns, about"
_LIST = (
    f"SELECT {_COLUMNS} FROM kept"  # noqa: S608 - from the constant above
    " WHERE customer = ? AND team = ? AND kind = ? AND"
)
_FALLING = "request_id < ? ORDER BY request_id DESC"


def keep(connection: sqlite3.Connection, kept: Kept) -> None:
    """Write a row; one that is there stays."""
    connection.execute(
        "INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(kept.request_id, kept.kind, kept.customer, kept.team),
            *(kept.deployment, kept.provider_id, kept.created_ns, kept.about),
        ),
    )


def change(connection: sqlite3.Connection, request_id: str, about: str | None) -> None:
    """Replace what is known of something kept, or forget it (`about` None)."""
    if about is None:
        connection.execute("DELETE FROM kept WHERE request_id = ?", (request_id,))
    else:
        connection.execute("UPDATE kept SET about = ? WHERE request_id = ?", (about, request_id))


def hold_on(connection: sqlite3.Connection, request_id: str, later: Later) -> None:
    """Let the held attempt of a request outlive it, and its gateway."""
    connection.execute(
        "UPDATE attempts SET held_until_ns = ?, expected_nano = min(?, hold_nano)"
        " WHERE request_id = ? AND state = 'held'",
        (later.until_ns, later.expected_nano, request_id),
    )


def find(connection: sqlite3.Connection, request_id: str) -> Kept | None:
    """Something kept, by the request that made it."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM kept WHERE request_id = ?",  # noqa: S608 - as above
        (request_id,),
    ).fetchone()
    return Kept(*row) if row else None


def listed(
    connection: sqlite3.Connection,
    owner: tuple[str, str],
    kind: KeptKind,
    *,
    after: str,
    rising: bool,
    limit: int,
) -> list[Kept]:
    """A page of what a customer's team has, from behind `after` if that is not empty."""
    order = "request_id > ? ORDER BY request_id" if rising else _FALLING
    start = after or ("" if rising else "~")
    rows = connection.execute(f"{_LIST} {order} LIMIT ?", (*owner, kind, start, limit))
    return [Kept(*row) for row in rows]
