"""What providers keep for callers: files, batches and open answers, as rows of their own.

Ids of requests rise with time, so they are also the order of a list. Nothing here moves money, except
that a hold may be made to outlive its request (`Later`).
"""

from __future__ import annotations

import sqlite3

from spanledger.ledger.model import Kept, KeptKind, Later, Unread

MAX_OWNERS = 64
"""Of files that have the same id at several providers."""
_COLUMNS = "request_id, kind, customer, team, deployment, provider_id, created_ns, about"
_LIST = (
    f"SELECT {_COLUMNS} FROM kept"  # noqa: S608 - from the constant above
    " WHERE customer = ? AND team = ? AND kind = ? AND"
)
_UNREAD = """
SELECT k.request_id, k.kind, k.deployment, a.started_ns, a.held_until_ns
FROM attempts a JOIN kept k ON k.request_id = a.request_id
WHERE a.state = ? AND a.started_ns >= ? AND a.held_until_ns AND k.kind IN ('answer', 'batch')
ORDER BY a.held_until_ns LIMIT ?"""
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
        "UPDATE attempts SET held_until_ns = ?, expected_nano = min(?, hold_nano), detail = ?"
        " WHERE request_id = ? AND state = 'held'",
        (later.until_ns, later.expected_nano, later.detail, request_id),
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


def owners(connection: sqlite3.Connection, provider_id: str) -> list[tuple[str, str]]:
    """Whose files a provider calls so; two providers may call theirs the same."""
    return connection.execute(
        "SELECT DISTINCT customer, team FROM kept WHERE provider_id = ? AND kind = 'file' LIMIT ?",
        (provider_id, MAX_OWNERS),
    ).fetchall()


def unread(connection: sqlite3.Connection, since_ns: int, limit: int) -> list[Unread]:
    """What nobody has learned the cost of: first what is held, then what has expired. Both states have
    an index, and few rows."""
    found: list[Unread] = []
    for state in ("held", "expired"):
        rows = connection.execute(_UNREAD, (state, since_ns, limit - len(found)))
        found += [Unread(*row) for row in rows]
    return found
