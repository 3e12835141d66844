"""What providers keep for callers: files and batches, as rows of their own.

Ids of requests rise with time, so they are also the order of a list. Nothing here moves money.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spanledger.ledger.model import Kept, KeptKind
from spanledger.ledger.postgres.arrays import storable
from spanledger.ledger.postgres.connection import Session

Execute = Callable[[str, tuple[Any, ...]], object]

_COLUMNS = "request_id, kind, customer, team, deployment, provider_id, created_ns, about"
_LIST = (
    f"SELECT {_COLUMNS} FROM spanledger.kept WHERE customer = %s AND team = %s AND kind = %s AND"
)
_FALLING = "request_id < %s ORDER BY request_id DESC"
_RISING = "request_id > %s ORDER BY request_id"


def keep(execute: Execute, kept: Kept) -> None:
    """Write a row; one that is there stays."""
    execute(
        "INSERT INTO spanledger.kept VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (
            *(kept.request_id, kept.kind, kept.customer, kept.team, kept.deployment),
            *(storable(kept.provider_id), kept.created_ns, storable(kept.about)),
        ),
    )


def change(execute: Execute, request_id: str, about: str | None) -> None:
    """Replace what is known of something kept, or forget it (`about` None)."""
    if about is None:
        execute("DELETE FROM spanledger.kept WHERE request_id = %s", (storable(request_id),))
    else:
        execute(
            "UPDATE spanledger.kept SET about = %s WHERE request_id = %s",
            (storable(about), storable(request_id)),
        )


def find(session: Session, request_id: str) -> Kept | None:
    """Something kept, by the request that made it."""
    query = f"SELECT {_COLUMNS} FROM spanledger.kept WHERE request_id = %s"
    rows = session.rows(query, (storable(request_id),))
    return Kept(*rows[0]) if rows else None


def listed(
    session: Session,
    owner: tuple[str, str],
    kind: KeptKind,
    *,
    after: str,
    rising: bool,
    limit: int,
) -> list[Kept]:
    """A page of what a customer's team has, from behind `after` if that is not empty."""
    order = _RISING if rising else _FALLING
    start = storable(after) or ("" if rising else "~")
    rows = session.rows(f"{_LIST} {order} LIMIT %s", (*owner, kind, start, limit))
    return [Kept(*row) for row in rows]
