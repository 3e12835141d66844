"""Budgets as rows of a ledger's table, the same in every database."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spanledger.budgets.model import Budget

ALLOWANCE_COLUMN = "allow_when_down_nano"
"""Ledgers of earlier versions do not have it."""
BUDGET_COLUMNS = (
    "name, scope, subject, limit_nano, period, timezone, action, thresholds, strict,"
    f" {ALLOWANCE_COLUMN}"
)


def budget_from_row(row: Sequence[object]) -> Budget:
    """A budget from `BUDGET_COLUMNS`."""
    name, scope, subject, limit, period, timezone, action, thresholds, strict, allowed = row
    return Budget(
        name=str(name),
        scope=scope,  # type: ignore[arg-type]  # the table only contains what Budget accepted
        subject=str(subject),
        limit_nano=limit,  # type: ignore[arg-type]  # an integer that is never NULL
        period=period,  # type: ignore[arg-type]  # as scope
        timezone=str(timezone),
        action=action,  # type: ignore[arg-type]  # as scope
        thresholds=tuple(json.loads(str(thresholds))),
        strict=bool(strict),
        allow_when_down_nano=allowed,  # type: ignore[arg-type]  # as limit
    )
