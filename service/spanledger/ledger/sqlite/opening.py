"""Opening accounts: a budget counts all that its subject spent in the period, whenever it was set.

A budget that is new, or whose scope, subject, period or time zone changed, gets its accounts for the
current period from the rows of the attempts. The slow part, over everything settled, is read
without a lock; within the transaction that sets the budget, `write` adds what arrived meanwhile and
what is not final yet. Attempts that are held, or expired and may still be corrected, get the new
accounts too, so ending them changes those balances.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from spanledger.budgets.accounts import AccountKey, Balance, BudgetIndex, account_keys
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import Period, period_at
from spanledger.budgets.scopes import DIMENSIONS
from spanledger.clock import NANOS
from spanledger.ledger.sqlite.connection import WRITE_BALANCE

_SETTLED = f"""
SELECT {DIMENSIONS}, sum(cost_nano), sum(overrun_nano)
FROM attempts INDEXED BY {{index}}
WHERE state = 'settled' AND seq > ? AND seq <= ? AND started_ns >= ? AND started_ns < ?
GROUP BY {DIMENSIONS}"""  # noqa: S608 - our own columns

_NOT_FINAL = f"""
SELECT {DIMENSIONS}, request_id, number, started_ns, accounts,
    CASE state WHEN 'held' THEN hold_nano ELSE 0 END, cost_nano, overrun_nano
FROM attempts INDEXED BY {{index}} WHERE state = '{{state}}' AND started_ns >= ?"""  # noqa: S608 - as above


class Opening:
    """The accounts of some budgets in the period at one time."""

    def __init__(self, budgets: Sequence[Budget], now_s: int) -> None:
        self._balances: dict[AccountKey, Balance] = {}
        self._read_to = 0
        by_period: dict[Period, list[Budget]] = {}
        for budget in budgets:
            period = period_at(budget.period, budget.timezone, now_s)
            by_period.setdefault(period, []).append(budget)
        self._indexes = [(period, BudgetIndex(some)) for period, some in by_period.items()]

    def read(self, connection: sqlite3.Connection) -> None:
        """Sum what is settled so far; outside a transaction, because it may take seconds."""
        if self._indexes:
            last = _last_seq(connection)
            self._add_settled(connection, "attempts_started", last)

    def write(self, connection: sqlite3.Connection) -> None:
        """Add the rest and write the balances; call it within a write transaction."""
        if not self._indexes:
            return
        last = _last_seq(connection)
        self._add_settled(connection, "attempts_seq", last)
        since_ns = min(period.start_s for period, _ in self._indexes) * NANOS
        for index, state in (("attempts_open", "held"), ("attempts_expired", "expired")):
            query = _NOT_FINAL.format(index=index, state=state)
            for row in connection.execute(query, (since_ns,)).fetchall():
                self._add_open_end(connection, row)
        for balance in self._balances.values():
            balance.opened_seq = last
        connection.executemany(WRITE_BALANCE, [b.row for b in self._balances.values()])

    def _add_settled(self, connection: sqlite3.Connection, index: str, last: int) -> None:
        for period, budgets in self._indexes:
            rows = connection.execute(
                _SETTLED.format(index=index),
                (self._read_to, last, period.start_s * NANOS, period.end_s * NANOS),
            )
            for *dimensions, cost, overrun in rows:
                for balance in self._matching(period, budgets, tuple(dimensions)):
                    balance.spent_nano += cost
                    balance.overrun_nano += overrun
        self._read_to = last

    def _add_open_end(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        """Count an attempt whose end may still change balances, and add the accounts to its row."""
        *dimensions, request_id, number, started_ns, accounts, held, cost, overrun = row
        keys = account_keys(accounts)
        moved = list(keys)
        for period, budgets in self._indexes:
            if not period.start_s <= started_ns // NANOS < period.end_s:
                continue
            for balance in self._matching(period, budgets, tuple(dimensions)):
                balance.held_nano += held
                balance.spent_nano += cost
                balance.overrun_nano += overrun
                if balance.key not in moved:
                    moved.append(balance.key)
        if len(moved) > len(keys):
            connection.execute(
                "UPDATE attempts SET accounts = ? WHERE request_id = ? AND number = ?",
                (json.dumps(moved), request_id, number),
            )

    def _matching(
        self, period: Period, budgets: BudgetIndex, dimensions: tuple[Any, ...]
    ) -> list[Balance]:
        found = []
        for budget, subject in budgets.match(dimensions):
            key = AccountKey.of(budget, subject, period.start_s)
            balance = self._balances.setdefault(key, Balance(key, period.end_s))
            found.append(balance)
        return found


def _last_seq(connection: sqlite3.Connection) -> int:
    query = "SELECT value FROM state WHERE key = 'seq'"
    return int(connection.execute(query).fetchone()[0])
