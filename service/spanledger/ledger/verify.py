"""Whether a ledger adds up: every balance and every total, computed again from the rows. Pure."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal

from spanledger.budgets.accounts import AccountKey, Balance, account_keys
from spanledger.budgets.scopes import Dimensions, account_subjects, dimensions_in
from spanledger.clock import NANOS
from spanledger.ledger.lanes import Position
from spanledger.ledger.model import Verification

WrongRow = Literal["total", "place", "cost", "charge", "orphan"]
WRONG_ROWS: dict[WrongRow, str] = {
    "total": "request {} has a cost that is not the sum of its attempts",
    "place": ("attempt {} has ended without a place in the outbox, or has a place without an end"),
    "cost": "attempt {} was not charged but has a cost, or has a negative cost",
    "charge": "attempt {} has a rule of what is charged but no charge, or a charge without a rule",
    "orphan": "attempt {} belongs to no request",
}
"""What may be wrong with a row, whose id goes into the braces."""


CountedAttempt = Sequence[Any]
"""An attempt's part in the balances: state, hold, cost and overrun in nano-USD, accounts, lane, seq, start
in nanoseconds, then what `SubjectColumns.select` reads for the balances. There may be millions: a tuple is enough."""

Openings = Callable[[int], Position]
"""The position that a balance's `opened_seq` stands for."""


def check_balances(
    balances: Sequence[Balance],
    attempts: Iterable[CountedAttempt],
    openings: Openings,
    pruned_ns: int,
    found: Verification,
) -> None:
    """Add to `found` what the attempts add up to, and the balances that differ from it.

    Args:
        pruned_ns: requests that ended before this may be missing.
    """
    expected = _expected(Opened(balances, openings), attempts, found)
    for balance in balances:
        found.balances += 1
        key = balance.key
        actual = [balance.spent_nano, balance.held_nano, balance.overrun_nano]
        wanted = expected.pop(key, [0, 0, 0])
        if key.period_start_s * NANOS < pruned_ns:
            found.pruned_balances += 1
            fits = all(map(operator.ge, actual, wanted)) and actual[1] == wanted[1]
        else:
            fits = actual == wanted
        if not fits:
            found.problems.append(
                f"balance {'/'.join(map(str, key))}: spent, held, overrun are {actual},"
                f" but its rows add up to {wanted} (nano-USD)"
            )
    found.problems += [
        f"balance {'/'.join(map(str, key))} is missing, its rows add up to {sums} (nano-USD)"
        for key, sums in expected.items()
        if any(sums)
    ]


def _expected(
    opened: Opened, attempts: Iterable[CountedAttempt], found: Verification
) -> dict[AccountKey, list[int]]:
    """Spent, held and overrun of each account, from the attempts."""
    expected: dict[AccountKey, list[int]] = defaultdict(lambda: [0, 0, 0])
    for state, hold, cost, overrun, accounts, lane, seq, started_ns, *columns in attempts:
        found.attempts += 1
        held = hold if state == "held" else 0
        found.open_attempts += state == "held"
        found.spent_nano += cost
        found.held_nano += held
        keys = account_keys(accounts)
        if state == "settled":
            keys += opened.counting((lane, seq), started_ns, dimensions_in(columns), keys)
        for key in keys:
            sums = expected[key]
            sums[0] += cost
            sums[1] += held
            sums[2] += overrun
    return expected


class Opened:
    """Accounts opened from rows: attempts settled by then count by their dimensions."""

    def __init__(self, balances: Sequence[Balance], openings: Openings) -> None:
        self._by_subject: dict[str, dict[str, list[tuple[AccountKey, int, int, Position]]]] = {}
        self._last: dict[int, int] = {}
        positions = {number: openings(number) for number in {b.opened_seq for b in balances} - {0}}
        for position in positions.values():
            for lane, seq in position.lanes():
                self._last[lane] = max(self._last.get(lane, 0), seq)
        for balance in balances:
            if balance.opened_seq:
                key = balance.key
                self._by_subject.setdefault(key.scope, {}).setdefault(key.subject, []).append(
                    (
                        key,
                        key.period_start_s * NANOS,
                        balance.period_end_s * NANOS,
                        positions[balance.opened_seq],
                    )
                )

    @property
    def scopes(self) -> Collection[str]:
        """The scopes of these accounts."""
        return self._by_subject.keys()

    def counting(
        self,
        place: tuple[int, int],
        started_ns: int,
        dimensions: Dimensions,
        keys: Sequence[AccountKey],
    ) -> tuple[AccountKey, ...]:
        """Accounts other than `keys` that count an attempt.

        Args:
            place: its lane and number.
            dimensions: as far as the scopes of the balances need them.
        """
        lane, seq = place
        if seq > self._last.get(lane, 0):
            return ()
        return tuple(
            key
            for scope, accounts in self._by_subject.items()
            for subject in account_subjects(scope, dimensions)
            for key, start_ns, end_ns, opened in accounts.get(subject, ())
            if seq <= opened.of(lane) and start_ns <= started_ns < end_ns and key not in keys
        )
