"""Budgets in SQL, and what callers look up. What a database does its own way is left to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from spanledger.budgets.applied import (
    AppliedEntry,
    budget_from_json,
    budget_to_json,
    change_from_json,
    change_to_json,
)
from spanledger.budgets.model import Budget, BudgetChange
from spanledger.ledger.budget_records import MAX_FILES, Version
from spanledger.ledger.budget_rows import (
    BUDGET_COLUMNS,
    budget_from_row,
    select_budgets,
    terms_of,
    write_budget,
)
from spanledger.ledger.model import Kept, KeptAnswer, KeptKind, Unread
from spanledger.ledger.records import LATEST_REQUESTS, Records
from spanledger.ledger.sql.keys import SqlKeys

MAX_OWNERS = 64
"""Of files that have the same id at several providers."""
ONE_BY_ONE = 100
"""Up to this many are read one by one, instead of all."""
EVERY_CHANGE = 2**62
"""Above the id of any change of a budget."""


class SqlRecords(SqlKeys, Records):
    """`Records` on one connection, which it closes."""

    budget_columns: Sequence[str] = BUDGET_COLUMNS
    applied_query = "SELECT source, budget, applied_ns, listed, name FROM applied_budgets"

    def close(self) -> None:
        """See `Records`."""
        self._sql.close()

    def _transaction(self) -> AbstractContextManager[None]:
        return self._sql.transaction()

    def _increase(self, version: Version) -> None:
        self._sql.run("UPDATE state SET value = value + 1 WHERE key = :key", key=version)

    # budgets ------------------------------------------------------------------------------

    def budgets(self) -> list[Budget]:
        """See `Records`."""
        rows = self._sql.rows(select_budgets(self.budget_columns))
        found = [budget_from_row(row) for row in rows]
        return sorted(found, key=lambda budget: budget.name)

    def _named_budgets(self, names: Collection[str]) -> list[Budget]:
        if len(names) > ONE_BY_ONE:
            return self.budgets()
        one = f"{select_budgets(self.budget_columns)} WHERE name = :name"
        return [budget_from_row(row) for name in names for row in self._sql.rows(one, name=name)]

    def history(self, name: str | None = None) -> list[BudgetChange]:
        """See `Records`."""
        return [
            BudgetChange(at, change, *change_from_json(text))
            for at, change, text in self._sql.rows(_HISTORY, name=name)
        ]

    def _write_budget(self, budget: Budget) -> None:
        self._sql.run(
            write_budget(self.budget_columns),
            name=budget.name,
            scope=budget.scope,
            subject=budget.subject,
            limit_nano=budget.limit_nano,
            period=budget.period,
            timezone=budget.timezone,
            action=budget.action,
            thresholds=json.dumps(budget.thresholds),
            strict=int(budget.strict),
            allow_when_down_nano=budget.allow_when_down_nano,
            is_default=int(budget.default),
            terms=terms_of(budget),
        )

    def _delete_budget(self, name: str) -> None:
        self._sql.run("DELETE FROM budgets WHERE name = :name", name=name)

    def _remember(self, change: Literal["set", "remove"], budget: Budget, now_ns: int) -> None:
        text = change_to_json(budget, self.by)
        self._sql.run(_REMEMBER, at_ns=now_ns, change=change, name=budget.name, budget=text)

    # configuration files ------------------------------------------------------------------

    def _applied_entries(self) -> list[AppliedEntry]:
        rows = sorted(self._sql.rows(self.applied_query), key=lambda r: (-r[2], r[0], r[4]))
        return [
            AppliedEntry(source, budget_from_json(text), applied_ns, bool(listed))
            for source, text, applied_ns, listed, _ in rows
        ]

    def _set_before_files(self, name: str) -> Iterator[Budget]:
        for (text,) in self._sql.rows(_SET_BEFORE_FILES, name=name, every=EVERY_CHANGE):
            yield budget_from_json(text)

    def _remember_file(self, source: str, listed: Iterable[Budget], now_ns: int) -> None:
        self._sql.run(_NOT_LISTED, source=source, now=now_ns)
        self._sql.many(
            _LISTED,
            [
                {"source": source, "name": b.name, "budget": budget_to_json(b), "now": now_ns}
                for b in listed
            ],
        )
        self._sql.run(_FORGET_FILES, files=MAX_FILES)

    # telemetry ----------------------------------------------------------------------------

    def set_ships(self, *, ships: bool) -> None:
        """See `Records`."""
        self._sql.run(SET_SHIPS, ships=int(ships))

    # callers ------------------------------------------------------------------------------

    def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """See `Records`."""
        rows = self._sql.rows(_ANSWER, id=request_id, operation=operation)
        return KeptAnswer(*rows[0]) if rows else None

    def find_kept(self, request_id: str) -> Kept | None:
        """See `Records`."""
        rows = self._sql.rows(f"{_KEPT} WHERE request_id = :id", id=request_id)
        return Kept(*rows[0]) if rows else None

    def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """See `Records`."""
        customer, team = owner
        rows = self._sql.rows(
            _KEPT_RISING if rising else _KEPT_FALLING,
            customer=customer,
            team=team,
            kind=kind,
            after=after or ("" if rising else "~"),
            limit=limit,
        )
        return [Kept(*row) for row in rows]

    def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """See `Records`."""
        rows = self._sql.rows(_OWNERS, provider_id=provider_id, limit=MAX_OWNERS)
        return [(customer, team) for customer, team in rows]

    def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """See `Records`. Both states have an index, and few rows."""
        found: list[Unread] = []
        for query in UNREAD:
            rows = self._sql.rows(query, since=since_ns, limit=limit - len(found))
            found += [Unread(*row) for row in rows if row[3] >= since_ns]
        return found

    def customers(self) -> set[str]:
        """See `Records`."""
        return {customer for (customer,) in self._sql.rows(_CUSTOMERS, limit=LATEST_REQUESTS)}


SET_SHIPS = """
INSERT INTO state (key, value) VALUES ('ships', :ships)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE state.value != excluded.value"""
"""Records whether a shipper is in use; writes only on a change."""

_HISTORY = """
SELECT at_ns, change, budget FROM budget_history
WHERE CAST(:name AS TEXT) IS NULL OR name = :name ORDER BY id"""

_REMEMBER = """
INSERT INTO budget_history (at_ns, change, name, budget) VALUES (:at_ns, :change, :name, :budget)"""

_SET_BEFORE_FILES = """
SELECT budget FROM budget_history WHERE name = :name AND change = 'set' AND id <=
    coalesce((SELECT value FROM state WHERE key = 'changes_of_unknown_source'), :every)"""

_NOT_LISTED = "UPDATE applied_budgets SET applied_ns = :now, listed = 0 WHERE source = :source"

_LISTED = """
INSERT INTO applied_budgets (source, name, budget, applied_ns, listed)
VALUES (:source, :name, :budget, :now, 1)
ON CONFLICT (source, name) DO UPDATE SET budget = excluded.budget,
    applied_ns = excluded.applied_ns, listed = 1"""

_FORGET_FILES = """
DELETE FROM applied_budgets WHERE source NOT IN (SELECT source FROM applied_budgets
    GROUP BY source ORDER BY max(applied_ns) DESC LIMIT :files)"""

_ANSWER = """
SELECT a.customer, a.team, a.deployment, CASE WHEN a.state = 'settled' AND a.estimated = 0
    THEN a.input_tokens + a.output_tokens ELSE 0 END, a.number, a.model,
    CASE WHEN a.state IN ('held', 'expired') AND a.held_until_ns != 0 THEN 1 ELSE 0 END,
    a.expected_nano, a.detail, r.started_ns
FROM attempts a JOIN requests r USING (request_id)
WHERE a.request_id = :id AND r.operation = :operation ORDER BY a.number DESC LIMIT 1"""

_KEPT = """
SELECT request_id, kind, customer, team, deployment, provider_id, created_ns, about FROM kept"""
_KEPT_OF = f"{_KEPT} WHERE customer = :customer AND team = :team AND kind = :kind"
_KEPT_RISING = f"{_KEPT_OF} AND request_id > :after ORDER BY request_id LIMIT :limit"
_KEPT_FALLING = f"{_KEPT_OF} AND request_id < :after ORDER BY request_id DESC LIMIT :limit"

_OWNERS = """
SELECT DISTINCT customer, team FROM kept WHERE provider_id = :provider_id AND kind = 'file'
LIMIT :limit"""

_UNREAD = """
SELECT k.request_id, k.kind, k.deployment, a.started_ns, a.held_until_ns
FROM attempts a JOIN kept k ON k.request_id = a.request_id
WHERE {state} AND a.held_until_ns != 0 AND k.kind IN ('answer', 'batch')
ORDER BY a.held_until_ns LIMIT :limit"""
UNREAD = (
    # With a time as well, a planner would look through all attempts since then.
    _UNREAD.format(state="a.state = 'held'"),
    _UNREAD.format(state="a.state = 'expired' AND a.started_ns >= :since"),
)
"""What is held, and what has expired; each has an index of its own."""

_CUSTOMERS = """
SELECT customer FROM keys
UNION SELECT subject FROM budgets WHERE scope = 'customer' AND subject != '*'
UNION SELECT customer FROM
    (SELECT customer FROM requests ORDER BY started_ns DESC LIMIT :limit) AS latest"""
