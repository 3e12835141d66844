"""Budgets and keys in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from spanledger.budgets.applied import AppliedEntry, budget_from_json, budget_to_json
from spanledger.budgets.model import Budget, BudgetChange
from spanledger.ledger.model import Kept, KeptAnswer, KeptKind, Key, Unread
from spanledger.ledger.records import LATEST_REQUESTS, MAX_FILES, Records, Version
from spanledger.ledger.sqlite import kept
from spanledger.ledger.sqlite.connection import (
    ALLOWANCE_VERSION,
    SET_SHIPS,
    begin_immediate,
    read_budgets,
)
from spanledger.ledger.sqlite.errors import translated
from spanledger.ledger.sqlite.opening import SqliteOpeningRows

APPLIED_VERSION = 3
"""First schema version that remembers files."""
PASS_THROUGH_VERSION = 4
"""First schema version whose keys may be allowed to pass through."""
_SELECT_KEYS = "SELECT id, digest, customer, team, routes, created_ns, revoked_ns"


@translated
class SqliteRecords(Records):
    """`Records` on one connection, which it closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._version = int(connection.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """See `Records`."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        begin_immediate(self._connection)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite may have ended it itself
                self._connection.execute("ROLLBACK")
            raise

    def _increase(self, version: Version) -> None:
        self._connection.execute("UPDATE state SET value = value + 1 WHERE key = ?", (version,))

    @property
    def _opening_rows(self) -> SqliteOpeningRows:
        return SqliteOpeningRows(self._connection)

    # budgets ------------------------------------------------------------------------------

    def budgets(self) -> list[Budget]:
        """See `Records`."""
        return read_budgets(self._connection)

    def history(self, name: str | None = None) -> list[BudgetChange]:
        """See `Records`."""
        rows = self._connection.execute(
            "SELECT at_ns, change, budget FROM budget_history WHERE ?1 IS NULL OR name = ?1"
            " ORDER BY id",
            (name,),
        )
        return [BudgetChange(at, change, budget_from_json(text)) for at, change, text in rows]

    def _write_budget(self, budget: Budget) -> None:
        values: tuple[object, ...] = (
            budget.name,
            budget.scope,
            budget.subject,
            budget.limit_nano,
            budget.period,
            budget.timezone,
            budget.action,
            json.dumps(budget.thresholds),
            budget.strict,
            budget.allow_when_down_nano,
        )
        if self._version < ALLOWANCE_VERSION:
            values = values[:-1]
        places = ", ".join("?" * len(values))
        insert = f"INSERT OR REPLACE INTO budgets VALUES ({places})"  # noqa: S608 - question marks
        self._connection.execute(insert, values)

    def _delete_budget(self, name: str) -> None:
        self._connection.execute("DELETE FROM budgets WHERE name = ?", (name,))

    def _remember(self, change: Literal["set", "remove"], budget: Budget, now_ns: int) -> None:
        self._connection.execute(
            "INSERT INTO budget_history (at_ns, change, name, budget) VALUES (?, ?, ?, ?)",
            (now_ns, change, budget.name, budget_to_json(budget)),
        )

    # configuration files ------------------------------------------------------------------

    def _applied_entries(self) -> list[AppliedEntry]:
        if self._version < APPLIED_VERSION:
            return []
        rows = self._connection.execute(
            "SELECT source, budget, applied_ns, listed FROM applied_budgets"
            " ORDER BY applied_ns DESC, source, name"
        )
        return [
            AppliedEntry(row[0], budget_from_json(row[1]), row[2], bool(row[3])) for row in rows
        ]

    def _set_before_files(self, name: str) -> Iterator[Budget]:
        query = (
            "SELECT budget FROM budget_history WHERE name = ? AND change = 'set' AND id <="
            " coalesce((SELECT value FROM state WHERE key = 'changes_of_unknown_source'), ?)"
        )
        for (text,) in self._connection.execute(query, (name, 2**62)):
            yield budget_from_json(text)

    def _remember_file(self, source: str, listed: Iterable[Budget], now_ns: int) -> None:
        update = "UPDATE applied_budgets SET applied_ns = ?, listed = 0 WHERE source = ?"
        self._connection.execute(update, (now_ns, source))
        self._connection.executemany(
            "INSERT OR REPLACE INTO applied_budgets VALUES (?, ?, ?, ?, 1)",
            [(source, budget.name, budget_to_json(budget), now_ns) for budget in listed],
        )
        self._connection.execute(
            "DELETE FROM applied_budgets WHERE source NOT IN (SELECT source FROM applied_budgets"
            " GROUP BY source ORDER BY max(applied_ns) DESC LIMIT ?)",
            (MAX_FILES,),
        )

    # telemetry ----------------------------------------------------------------------------

    def set_ships(self, *, ships: bool) -> None:
        """See `Records`."""
        self._connection.execute(SET_SHIPS, (int(ships),))

    # keys ---------------------------------------------------------------------------------

    def _write_key(self, key: Key) -> None:
        self._connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.id,
                key.digest,
                key.customer,
                key.team,
                json.dumps(key.routes),
                key.created_ns,
                key.revoked_ns,
                int(key.pass_through),
            ),
        )

    def _revoke_key(self, key_id: str, now_ns: int) -> None:
        self._connection.execute("UPDATE keys SET revoked_ns = ? WHERE id = ?", (now_ns, key_id))

    def keys(self) -> list[Key]:
        """See `Records`."""
        rows = self._connection.execute(f"{self._select_keys} ORDER BY created_ns, id")
        return [_key_from_row(row) for row in rows]

    def find_key(self, digest: str) -> Key | None:
        """See `Records`."""
        query = f"{self._select_keys} WHERE digest = ?"
        row = self._connection.execute(query, (digest,)).fetchone()
        return _key_from_row(row) if row else None

    @property
    def _select_keys(self) -> str:
        """The query for keys; a file that is only read may lack the newest column."""
        last = "pass_through" if self._version >= PASS_THROUGH_VERSION else "0"
        return f"{_SELECT_KEYS}, {last} FROM keys"

    def has_keys(self) -> bool:
        """See `Records`."""
        row = self._connection.execute("SELECT EXISTS (SELECT 1 FROM keys)").fetchone()
        return bool(row[0])

    # callers ------------------------------------------------------------------------------

    def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """See `Records`."""
        row = self._connection.execute(
            "SELECT a.customer, a.team, a.deployment, CASE WHEN a.state = 'settled' AND NOT"
            " a.estimated THEN a.input_tokens + a.output_tokens ELSE 0 END, a.number, a.model,"
            " a.state IN ('held', 'expired') AND a.held_until_ns, a.expected_nano, a.detail"
            " FROM attempts a JOIN requests r USING (request_id)"
            " WHERE a.request_id = ? AND r.operation = ? ORDER BY a.number DESC LIMIT 1",
            (request_id, operation),
        ).fetchone()
        return KeptAnswer(*row) if row else None

    def find_kept(self, request_id: str) -> Kept | None:
        """See `Records`."""
        return kept.find(self._connection, request_id)

    def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """See `Records`."""
        return kept.listed(self._connection, owner, kind, after=after, rising=rising, limit=limit)

    def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """See `Records`."""
        return kept.owners(self._connection, provider_id)

    def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """See `Records`."""
        return kept.unread(self._connection, since_ns, limit)

    def customers(self) -> set[str]:
        """See `Records`."""
        rows = self._connection.execute(
            "SELECT customer FROM keys"
            " UNION SELECT subject FROM budgets WHERE scope = 'customer' AND subject != '*'"
            " UNION SELECT customer FROM"
            " (SELECT customer FROM requests ORDER BY started_ns DESC LIMIT ?)",
            (LATEST_REQUESTS,),
        )
        return {customer for (customer,) in rows}


def _key_from_row(row: Sequence[object]) -> Key:
    key_id, digest, customer, team, routes, created_ns, revoked_ns, pass_through = row
    return Key(
        id=str(key_id),
        digest=str(digest),
        customer=str(customer),
        team=str(team),
        routes=tuple(json.loads(str(routes))),
        created_ns=created_ns,  # type: ignore[arg-type]  # INTEGER NOT NULL
        revoked_ns=revoked_ns,  # type: ignore[arg-type]  # INTEGER
        pass_through=bool(pass_through),
    )
