"""What providers keep for callers: files and batches, as rows of their own.

Written with the batch that they belong to. Nothing here moves money.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spanledger.ledger.model import Kept
from spanledger.ledger.postgres.arrays import storable

Execute = Callable[[str, tuple[Any, ...]], object]


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
