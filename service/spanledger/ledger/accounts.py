"""Which budgets a try touches, and whether they have room: pure functions over balances.

No I/O, no clock. The store loads the balances inside its transaction, asks here, and writes the
changed ones back before it commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spanledger.errors import BudgetExceededError, Refusal
from spanledger.ledger.periods import Period, period_at
from spanledger.ledger.store import SCOPES, Budget, HoldSizes, Reservation, Scope
from spanledger.money import format_usd

ROOMY = 10
"""An uncapped try holds its full bound only while that is at most 1/ROOMY of what is left."""

MAX_CACHED_MATCHES = 10_000


class AccountKey(NamedTuple):
    """A balance's identity, as stored in an attempt's `accounts`."""

    budget: str
    subject: str
    period_start_s: int


@dataclass(slots=True)
class Balance:
    """One account in one period, nano-USD."""

    key: AccountKey
    period_end_s: int
    spent_nano: int = 0
    held_nano: int = 0
    overrun_nano: int = 0


class Account(NamedTuple):
    """A budget and the balance a try moves under it."""

    budget: Budget
    balance: Balance

    @property
    def room_nano(self) -> int:
        """What is left to hold; negative after an overrun or a lowered limit."""
        return self.budget.limit_nano - self.balance.spent_nano - self.balance.held_nano


class Grant(NamedTuple):
    """A granted hold, before it is written."""

    hold_nano: int
    warned: tuple[str, ...]
    remaining_nano: int | None


Dimensions = tuple[str, str, str, str, str]
"""Customer, key id, team, model, provider: the first five of `SCOPES`, in that order."""


class BudgetIndex:
    """All budgets, indexed by what they apply to; rebuilt when one changes."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.by_name = {budget.name: budget for budget in budgets}
        self._named: dict[tuple[Scope, str], list[Budget]] = {}
        for budget in self.by_name.values():
            self._named.setdefault((budget.scope, budget.subject), []).append(budget)
        self._matches: dict[Dimensions, tuple[tuple[Budget, str], ...]] = {}
        self._periods: dict[str, Period] = {}

    def match(self, dimensions: Dimensions) -> tuple[tuple[Budget, str], ...]:
        """Budgets that apply, each with its account's subject. An empty dimension has none."""
        found = self._matches.get(dimensions)
        if found is None:
            found = tuple(self._match(dimensions))
            if len(self._matches) >= MAX_CACHED_MATCHES:
                self._matches.clear()
            self._matches[dimensions] = found
        return found

    def _match(self, dimensions: Dimensions) -> Iterable[tuple[Budget, str]]:
        for scope, subject in zip(SCOPES, (*dimensions, "*"), strict=True):
            if not subject:
                continue
            for name in dict.fromkeys((subject, "*")):
                for budget in self._named.get((scope, name), ()):
                    yield budget, subject

    def period(self, budget: Budget, at_s: int) -> Period:
        """The budget's period at a moment, remembered until it ends."""
        period = self._periods.get(budget.name)
        if period is None or not period.start_s <= at_s < period.end_s:
            period = period_at(budget.period, budget.timezone, at_s)
            self._periods[budget.name] = period
        return period


def dimensions_of(reservation: Reservation) -> Dimensions:
    """What a try is counted under."""
    request = reservation.request
    return (
        request.customer,
        request.key_id,
        request.team,
        reservation.model,
        reservation.provider,
    )


def room(accounts: Sequence[Account]) -> int | None:
    """The least room over all blocking accounts; None when nothing blocks."""
    return min((a.room_nano for a in accounts if a.budget.action == "block"), default=None)


def decide(accounts: Sequence[Account], sizes: HoldSizes) -> Grant:
    """Choose the hold, the same on every account, or refuse.

    The ladder, so that a hold neither starves others nor lets the limit be passed:

    1. `full`, when it fits and is either the caller's own cap or a tenth of the room at most;
    2. `usual`, when it fits;
    3. all the room, when a strict budget applies and the room is at least `least`;
    4. no.

    Raises:
        BudgetExceededError: names the account with the least room.
    """
    left = room(accounts)
    if left is None or (
        sizes.full <= left and (sizes.full == sizes.usual or sizes.full * ROOMY <= left)
    ):
        hold = sizes.full
    elif sizes.usual <= left:
        hold = sizes.usual
    elif sizes.least <= left and any(a.budget.strict for a in accounts):
        hold = left
    else:
        raise _refusal(accounts, sizes)
    warned = tuple(
        a.budget.name for a in accounts if a.budget.action == "warn" and hold > a.room_nano
    )
    return Grant(hold, warned, None if left is None else left - hold)


def _refusal(accounts: Sequence[Account], sizes: HoldSizes) -> BudgetExceededError:
    tightest = min((a for a in accounts if a.budget.action == "block"), key=lambda a: a.room_nano)
    budget, balance = tightest
    strict = any(a.budget.strict for a in accounts)
    refusal = Refusal(
        budget=budget.name,
        scope=budget.scope,
        subject=balance.key.subject,
        limit_nano=budget.limit_nano,
        spent_nano=balance.spent_nano,
        held_nano=balance.held_nano,
        needed_nano=sizes.least if strict else sizes.usual,
        renews_at_s=balance.period_end_s,
    )
    whose = "" if budget.scope == "global" else f" of {budget.scope} {refusal.subject!r}"
    return BudgetExceededError(
        f"budget {budget.name!r}{whose} has no room for this request:"
        f" limit ${format_usd(refusal.limit_nano)}, spent ${format_usd(refusal.spent_nano)},"
        f" held ${format_usd(refusal.held_nano)}, needed ${format_usd(refusal.needed_nano)}",
        refusal,
    )
