"""Budgets as rows of a ledger's table, the same in every database."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spanledger.budgets.model import Budget

BUDGET_COLUMNS = (
    *("name", "scope", "subject", "limit_nano", "period", "timezone", "action", "thresholds"),
    *("strict", "allow_when_down_nano"),
)
"""The last one is missing in ledgers of earlier versions."""


def select_budgets(columns: Sequence[str] = BUDGET_COLUMNS) -> str:
    """The query for all budgets; its rows are for `budget_from_row`."""
    return f"SELECT {', '.join(columns)} FROM budgets"  # noqa: S608 - our own columns


def write_budget(columns: Sequence[str] = BUDGET_COLUMNS) -> str:
    """The statement that creates or replaces a budget; its parameters are named as the columns."""
    places = ", ".join(f":{column}" for column in columns)
    new = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    return (
        f"INSERT INTO budgets ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - as above
        f" ON CONFLICT (name) DO UPDATE SET {new}"
    )


def budget_from_row(row: Sequence[object]) -> Budget:
    """A budget from `select_budgets`."""
    name, scope, subject, limit, period, timezone, action, thresholds, strict, *allowed = row
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
        allow_when_down_nano=allowed[0] if allowed else 0,  # type: ignore[arg-type]  # as limit
    )
