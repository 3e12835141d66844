"""Budgets as rows of a ledger's table, the same in every database."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spanledger.budgets.applied import read_terms
from spanledger.budgets.model import TERMS, Budget

BUDGET_COLUMNS = (
    *("name", "scope", "subject", "limit_nano", "period", "timezone", "action", "thresholds"),
    *("strict", "allow_when_down_nano", "is_default", "terms"),
)
"""The last ones are missing in ledgers of earlier versions (`ADDED`)."""
ADDED: dict[str, int] = {"allow_when_down_nano": 7, "is_default": 8, "terms": 9}
"""Columns that SQLite's schema has only since this version; before, each was as `_BEFORE` says."""
_BEFORE: tuple[object, ...] = (0, 0, "{}")


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
    name, scope, subject, limit, period, timezone, action, thresholds, strict, *added = row
    allowed, default, terms = (*added, *_BEFORE[len(added) :])
    return Budget(
        name=str(name),
        scope=str(scope),
        subject=str(subject),
        limit_nano=limit,  # type: ignore[arg-type]  # an integer that is never NULL
        period=str(period),
        timezone=str(timezone),
        action=action,  # type: ignore[arg-type]  # the table only contains what Budget accepted
        thresholds=tuple(json.loads(str(thresholds))),
        strict=bool(strict),
        allow_when_down_nano=allowed,  # type: ignore[arg-type]  # as limit
        default=bool(default),
        **read_terms(json.loads(str(terms))),
    )


def terms_of(budget: Budget) -> str:
    """The column `terms`: what a budget has of the less usual, as a JSON object."""
    found = {name: getattr(budget, name) for name in TERMS}
    return json.dumps({name: value for name, value in found.items() if value != TERMS[name]})
