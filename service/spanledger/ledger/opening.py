"""Opening accounts: a budget counts all that its subject spent in the period, whenever it was set.

A budget that is new, or whose scope, subject, period or time zone changed, gets its accounts for the
current period from the rows of the attempts. The slow part, over everything settled, is read
without a lock; within the transaction that sets the budget, `write` adds what arrived meanwhile and
what is not final yet. Attempts that are held, or expired and may still be corrected, get the new
accounts too, so ending them changes those balances.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from spanledger.budgets.accounts import AccountKey, Balance, account_keys
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import Period, period_at
from spanledger.budgets.scopes import Dimensions, SubjectColumns, columns_for
from spanledger.clock import NANOS
from spanledger.ledger.lanes import START, Position


class SettledSum(NamedTuple):
    """What attempts with the same dimensions cost, nano-USD."""

    dimensions: Dimensions
    cost_nano: int
    overrun_nano: int


class Unfinished(NamedTuple):
    """An attempt whose end may still change balances: held, or expired and not corrected."""

    dimensions: Dimensions
    request_id: str
    number: int
    started_ns: int
    accounts: str
    held_nano: int
    cost_nano: int
    overrun_nano: int


class OpeningRows(Protocol):
    """The rows that accounts are opened from."""

    def last(self) -> Position:
        """Behind the last row that has ended."""
        ...

    def settled(
        self, columns: SubjectColumns, period: Period, after: Position, to: Position
    ) -> Iterable[SettledSum]:
        """Attempts that started in a period and were settled between two positions."""
        ...

    def unfinished(self, columns: SubjectColumns, since_ns: int) -> Sequence[Unfinished]:
        """Attempts that started since then and are not final."""
        ...

    def set_accounts(self, attempt: Unfinished, accounts: str) -> None:
        """Change an attempt's `accounts`."""
        ...

    def number_of(self, position: Position) -> int:
        """The number that stands for a position in balances opened there (`Reports.verify`)."""
        ...

    def write_balances(self, balances: Collection[Balance]) -> None:
        """Create balances, or replace them."""
        ...


class Opening:
    """The accounts of some budgets in the period at one time."""

    def __init__(self, budgets: Sequence[Budget], now_s: int) -> None:
        self._balances: dict[AccountKey, Balance] = {}
        self._read_to = START
        by_period: dict[Period, list[Budget]] = {}
        for budget in budgets:
            period = period_at(budget.period, budget.timezone, now_s)
            by_period.setdefault(period, []).append(budget)
        self._indexes = [(period, BudgetIndex(some)) for period, some in by_period.items()]
        self._columns = columns_for({budget.scope for budget in budgets})

    def read(self, rows: OpeningRows) -> None:
        """Sum what is settled so far; outside a transaction, because it may take seconds."""
        if self._indexes:
            self._add_settled(rows, rows.last())

    def write(self, rows: OpeningRows) -> None:
        """Add the rest and write the balances; call it within a write transaction."""
        if not self._indexes:
            return
        last = rows.last()
        self._add_settled(rows, last)
        since_ns = min(period.start_s for period, _ in self._indexes) * NANOS
        for attempt in rows.unfinished(self._columns, since_ns):
            self._add_unfinished(rows, attempt)
        number = rows.number_of(last)
        for balance in self._balances.values():
            balance.opened_seq = number
        rows.write_balances(self._balances.values())

    def _add_settled(self, rows: OpeningRows, last: Position) -> None:
        for period, budgets in self._indexes:
            for found in rows.settled(self._columns, period, self._read_to, last):
                for balance in self._matching(period, budgets, found.dimensions):
                    balance.spent_nano += found.cost_nano
                    balance.overrun_nano += found.overrun_nano
        self._read_to = last

    def _add_unfinished(self, rows: OpeningRows, attempt: Unfinished) -> None:
        """Count an attempt, and add the accounts to its row."""
        keys = account_keys(attempt.accounts)
        moved = list(keys)
        for period, budgets in self._indexes:
            if not period.start_s <= attempt.started_ns // NANOS < period.end_s:
                continue
            for balance in self._matching(period, budgets, attempt.dimensions):
                balance.held_nano += attempt.held_nano
                balance.spent_nano += attempt.cost_nano
                balance.overrun_nano += attempt.overrun_nano
                if balance.key not in moved:
                    moved.append(balance.key)
        if len(moved) > len(keys):
            rows.set_accounts(attempt, json.dumps(moved))

    def _matching(
        self, period: Period, budgets: BudgetIndex, dimensions: Dimensions
    ) -> list[Balance]:
        found = []
        for budget, subject in budgets.match(dimensions):
            key = AccountKey.of(budget, subject, period.start_s)
            balance = self._balances.setdefault(key, Balance(key, period.end_s))
            found.append(balance)
        return found
