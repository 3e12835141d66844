"""Writes what providers keep for callers: files, batches and open answers, as rows of their own.

Nothing here moves money, except that a hold may be made to outlive its request (`Later`).
"""

from __future__ import annotations

import sqlite3

from spanledger.ledger.model import Kept, Later


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
