"""Notices as rows: what reports and the outbox of notices read."""

from __future__ import annotations

import json

from spanledger.budgets.accounts import AccountKey
from spanledger.ledger.notices import Notice
from spanledger.ledger.sql.port import Columns

NOTICE = "n.id, n.account, n.step, n.at_ns, n.until_s, n.data"
"""The first columns of a row of notices `n`."""


def notice_from_row(row: Columns) -> Notice:
    """A notice from those columns."""
    id_, account, step, at_ns, until_s, data = row[:6]
    return Notice(id_, AccountKey(*json.loads(account)), step, at_ns, until_s, data)


LISTED_NOTICES = f"""
SELECT {NOTICE}, coalesce(d.destination, ''), coalesce(d.state, ''), coalesce(d.attempts, 0),
    coalesce(d.due_ns, 0), coalesce(d.error, '')
FROM notices n LEFT JOIN notice_deliveries d ON d.id = n.id
WHERE (CAST(:destination AS TEXT) IS NULL OR d.destination = :destination)
    AND (CAST(:state AS TEXT) IS NULL OR d.state = :state)
ORDER BY n.at_ns DESC, n.id, d.destination LIMIT :limit"""  # noqa: S608 - our own columns

NOTICE_FIGURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SELECT destination, sent FROM notice_totals", ("sent",)),
    (
        """
SELECT d.destination, count(*), min(n.at_ns) FROM notice_deliveries d JOIN notices n ON n.id = d.id
WHERE d.state = 'waiting' GROUP BY d.destination""",
        ("waiting", "since_ns"),
    ),
    (
        """
SELECT destination, count(*) FROM notice_deliveries WHERE state = 'failed' GROUP BY destination""",
        ("failed",),
    ),
)
