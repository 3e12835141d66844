"""Budgets and keys: the rows people write, with their history. Rare, so each is a transaction.

Nothing here writes rows of attempts or requests.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from spanledger.budgets.applied import Difference, budget_from_json, budget_to_json, differences
from spanledger.budgets.model import Budget, BudgetChange
from spanledger.clock import NANOS
from spanledger.errors import SpanledgerError
from spanledger.ledger.model import KEY_PREFIX, Kept, KeptAnswer, KeptKind, Key
from spanledger.ledger.sqlite import kept
from spanledger.ledger.sqlite.applied import AppliedBudgets
from spanledger.ledger.sqlite.connection import (
    SELECT_BUDGETS,
    SET_SHIPS,
    begin_immediate,
    budget_from_row,
    connect,
    require_ledger,
)
from spanledger.ledger.sqlite.migrate import check_version, migrate
from spanledger.ledger.sqlite.opening import Opening

PASS_THROUGH_VERSION = 4
"""First schema version whose keys may be allowed to pass through."""
LATEST_REQUESTS = 10_000
"""Read for the names of customers that are offered."""


class _ChangedMeanwhileError(Exception):
    """Another process changed a budget between our read and our write."""


class Records:
    """Reads and writes of budgets and virtual keys on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Records:
        """Open the ledger for writing, creating it if needed. Raises LedgerUnavailableError."""
        connection = connect(path)
        migrate(connection)
        return cls(connection)

    @classmethod
    def change(cls, path: Path) -> Records:
        """Open an existing ledger for changes. Raises LedgerUnavailableError."""
        require_ledger(path)
        return cls.open(path)

    @classmethod
    def read(cls, path: Path) -> Records:
        """Open an existing ledger for reading. Raises LedgerUnavailableError."""
        connection = connect(path, read_only=True)
        check_version(connection, str(path))
        return cls(connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _change(self, version: str) -> Iterator[None]:
        """A transaction that notifies every process: `version` increases when it commits."""
        with self._transaction():
            yield
            self._connection.execute("UPDATE state SET value = value + 1 WHERE key = ?", (version,))

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

    # budgets ------------------------------------------------------------------------------

    def budgets(self) -> list[Budget]:
        """All budgets, by name."""
        rows = self._connection.execute(f"{SELECT_BUDGETS} ORDER BY name")
        return [budget_from_row(row) for row in rows]

    def set_budgets(
        self,
        budgets: Sequence[Budget],
        now_ns: int,
        remove: Sequence[str] = (),
        *,
        also: Callable[[], None] = lambda: None,
    ) -> list[Budget]:
        """Create or replace budgets and remove others, all or none; returns those that changed.

        A budget counts everything its subject spent since its period began, even before it was set.

        Args:
            also: called within the transaction, if there is one.
        """
        changed, removed, uncounted = self._changes(budgets, remove)
        if changed or removed:
            opening = Opening(uncounted, now_ns // NANOS)
            opening.read(self._connection)
            with self._change("budgets_version"):
                also()
                before, (changed, removed, uncounted) = uncounted, self._changes(budgets, remove)
                if uncounted != before:  # another process changed budgets meanwhile
                    opening = Opening(uncounted, now_ns // NANOS)
                opening.write(self._connection)
                for budget in removed:
                    self._connection.execute("DELETE FROM budgets WHERE name = ?", (budget.name,))
                    self._remember("remove", budget, now_ns)
                for budget in changed:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO budgets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            budget.name,
                            budget.scope,
                            budget.subject,
                            budget.limit_nano,
                            budget.period,
                            budget.timezone,
                            budget.action,
                            json.dumps(budget.thresholds),
                            budget.strict,
                        ),
                    )
                    self._remember("set", budget, now_ns)
        return changed

    def _changes(
        self, budgets: Sequence[Budget], remove: Sequence[str]
    ) -> tuple[list[Budget], list[Budget], list[Budget]]:
        """Budgets that differ from the current ones, those to remove, and those without accounts yet."""
        current = {budget.name: budget for budget in self.budgets()}
        changed = [budget for budget in budgets if current.get(budget.name) != budget]
        removed = [current[name] for name in remove if name in current]
        uncounted = [
            budget
            for budget in changed
            if budget.name not in current or budget.counts != current[budget.name].counts
        ]
        return changed, removed, uncounted

    def edit_budget(
        self, name: str, edit: Callable[[Budget | None], Budget], now_ns: int
    ) -> tuple[Budget | None, Budget]:
        """Change a budget based on its current value; returns before and after. Concurrent changes are kept."""
        while True:
            before = self._budget(name)
            after = edit(before)

            def unchanged(expected: Budget | None = before) -> None:
                if self._budget(name) != expected:
                    raise _ChangedMeanwhileError

            try:
                self.set_budgets([after], now_ns, also=unchanged)
            except _ChangedMeanwhileError:
                continue
            return before, after

    def _budget(self, name: str) -> Budget | None:
        return next((budget for budget in self.budgets() if budget.name == name), None)

    def apply_file(
        self,
        source: str,
        budgets: Sequence[Budget],
        now_ns: int,
        *,
        whole: bool = False,
        remove: Sequence[str] = (),
    ) -> list[Budget]:
        """Set the budgets of a file that are new or have changed in it since it was last applied;
        returns those that changed.

        Args:
            source: identifies the file.
            whole: set all of them, because the user asked to apply the file as it is.
            remove: names of budgets to remove.
        """
        files = AppliedBudgets(self._connection)

        def remember() -> None:
            files.remember(source, budgets, now_ns)

        due = list(budgets) if whole else files.due(source, budgets)
        changed = self.set_budgets(due, now_ns, remove, also=remember)
        if not changed and (budgets or any(e.source == source for e in files.entries())):
            with self._transaction():
                remember()
        return changed

    def knows_file(self, source: str) -> bool:
        """Whether a gateway has started with this file."""
        return any(e.source == source for e in AppliedBudgets(self._connection).entries())

    def due_budgets(self, source: str, budgets: Sequence[Budget]) -> list[Budget]:
        """The budgets of a file that a gateway start would set."""
        return AppliedBudgets(self._connection).due(source, budgets)

    def differences(self, still_listed: Container[str] | None = None) -> list[Difference]:
        """Where budgets differ from their configuration files' entries as last applied."""
        budgets = {budget.name: budget for budget in self.budgets()}
        return differences(AppliedBudgets(self._connection).entries(), budgets, still_listed)

    def remove_budget(self, name: str, now_ns: int) -> Budget | None:
        """Remove a budget; its balances and history stay. None if there is none."""
        budget = self._budget(name)
        self.set_budgets((), now_ns, remove=(name,))
        return budget

    def history(self, name: str | None = None) -> list[BudgetChange]:
        """Changes of one budget or all, oldest first."""
        rows = self._connection.execute(
            "SELECT at_ns, change, budget FROM budget_history WHERE ?1 IS NULL OR name = ?1"
            " ORDER BY id",
            (name,),
        )
        return [BudgetChange(at, change, budget_from_json(text)) for at, change, text in rows]

    def _remember(self, change: str, budget: Budget, now_ns: int) -> None:
        self._connection.execute(
            "INSERT INTO budget_history (at_ns, change, name, budget) VALUES (?, ?, ?, ?)",
            (now_ns, change, budget.name, budget_to_json(budget)),
        )

    # telemetry ----------------------------------------------------------------------------

    def set_ships(self, *, ships: bool) -> None:
        """Record whether a shipper is used: if so, unshipped rows are not pruned."""
        self._connection.execute(SET_SHIPS, (int(ships),))

    # keys ---------------------------------------------------------------------------------

    def create_key(
        self,
        customer: str,
        team: str,
        routes: Sequence[str],
        now_ns: int,
        *,
        pass_through: bool = False,
    ) -> tuple[str, Key]:
        """Create a virtual key; returns the secret, shown only once, and the stored key."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        key = Key(
            id="key_" + secrets.token_hex(6),
            digest=key_digest(secret),
            customer=customer,
            team=team,
            routes=tuple(routes),
            created_ns=now_ns,
            revoked_ns=None,
            pass_through=pass_through,
        )
        with self._change("keys_version"):
            self._connection.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(key.id, key.digest, customer, team, json.dumps(key.routes), now_ns, None),
                    int(pass_through),
                ),
            )
        return secret, key

    def revoke_key(self, id_or_secret: str, now_ns: int) -> Key:
        """Revoke a key by its id or by the key itself. Raises SpanledgerError if it is unknown."""
        digest = key_digest(id_or_secret)
        key = next((k for k in self.keys() if id_or_secret == k.id or digest == k.digest), None)
        if key is None:
            raise SpanledgerError("no key has this id; `spanledger keys list` shows all ids")
        if key.revoked_ns is None:
            with self._change("keys_version"):
                self._connection.execute(
                    "UPDATE keys SET revoked_ns = ? WHERE id = ?", (now_ns, key.id)
                )
        return key

    def keys(self) -> list[Key]:
        """All keys, oldest first, including revoked ones."""
        rows = self._connection.execute(f"{self._select_keys} ORDER BY created_ns, id")
        return [_key_from_row(row) for row in rows]

    def find_key(self, digest: str) -> Key | None:
        """The key with this digest, by index."""
        query = f"{self._select_keys} WHERE digest = ?"
        row = self._connection.execute(query, (digest,)).fetchone()
        return _key_from_row(row) if row else None

    @cached_property
    def _select_keys(self) -> str:
        """The query for keys; a file that is only read may lack the newest column."""
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        last = "pass_through" if version >= PASS_THROUGH_VERSION else "0"
        return f"{_SELECT_KEYS}, {last} FROM keys"

    def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """The last attempt of a request, by its primary key."""
        row = self._connection.execute(
            "SELECT a.customer, a.team, a.deployment, CASE WHEN a.state = 'settled' AND NOT"
            " a.estimated THEN a.input_tokens + a.output_tokens ELSE 0 END, a.number, a.model,"
            " a.state IN ('held', 'expired') AND a.held_until_ns, a.expected_nano"
            " FROM attempts a JOIN requests r USING (request_id)"
            " WHERE a.request_id = ? AND r.operation = ? ORDER BY a.number DESC LIMIT 1",
            (request_id, operation),
        ).fetchone()
        return KeptAnswer(*row) if row else None

    def find_kept(self, request_id: str) -> Kept | None:
        """What a provider keeps from a request."""
        return kept.find(self._connection, request_id)

    def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """A page of what providers keep for a customer's team."""
        return kept.listed(self._connection, owner, kind, after=after, rising=rising, limit=limit)

    def customers(self) -> set[str]:
        """Customers of keys, of budgets and of the latest requests."""
        rows = self._connection.execute(
            "SELECT customer FROM keys"
            " UNION SELECT subject FROM budgets WHERE scope = 'customer' AND subject != '*'"
            " UNION SELECT customer FROM"
            " (SELECT customer FROM requests ORDER BY started_ns DESC LIMIT ?)",
            (LATEST_REQUESTS,),
        )
        return {customer for (customer,) in rows}

    def has_keys(self) -> bool:
        """Whether any key was ever created: revoking the last one must not open the gateway."""
        row = self._connection.execute("SELECT EXISTS (SELECT 1 FROM keys)").fetchone()
        return bool(row[0])


def key_digest(secret: str) -> str:
    """The stored form of a key: 256 random bits need neither a salt nor a slow hash."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


_SELECT_KEYS = "SELECT id, digest, customer, team, routes, created_ns, revoked_ns"


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
