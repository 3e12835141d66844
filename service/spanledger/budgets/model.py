"""Budgets and their states as everybody passes them on. Money is nano-USD, times are Unix seconds or
nanoseconds as their names say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import msgspec

from spanledger.budgets.actions import ACTIONS, STEP_PERCENT, ActionName
from spanledger.budgets.scopes import EACH, subjects_by_scope
from spanledger.money import MAX_NANO


class Raise(NamedTuple):
    """An amount on top of a budget's limit for a while, Unix seconds: `from_s <= t < until_s`."""

    nano: int
    from_s: int
    until_s: int


class Noted(NamedTuple):
    """What the ledger notes about a budget when it changes; nobody writes it in a file.

    Attributes:
        earlier: (until, limit): the limit of periods that begin before a moment in Unix seconds, the
            earliest moment first. Of all others it is `limit_nano`.
        raises: those that had not ended when the budget was last changed.
        rollover_since_s: the beginning of the first period whose rest rolls over.
    """

    earlier: tuple[tuple[int, int], ...] = ()
    raises: tuple[Raise, ...] = ()
    rollover_since_s: int = 0


NOTHING_NOTED = Noted()


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on what a subject may spend in each period.

    `subject` is a name, or `*`: each subject of the scope has its own limit. For scope `global` it
    is always `*` and means everybody together. `period` is the text of a period, see `periods`.
    """

    name: str
    scope: str
    subject: str
    limit_nano: int
    period: str
    timezone: str = "UTC"
    action: ActionName = "block"
    thresholds: tuple[int, ...] = (50, 80, 95)
    strict: bool = False
    """Lower `max_tokens` to what the remaining money buys instead of refusing."""
    allow_when_down_nano: int = 0
    """What each gateway process may spend on an account while the ledger is unavailable; 0: nothing."""
    default: bool = False
    """It limits a subject only if no budget of the same scope names more of that subject."""
    grace_nano: int = 0
    """What may be spent and held beyond the limit in each period, before the budget blocks."""
    throttle_to: int = 0
    """Requests a minute for each account near the limit; 0: as many as come."""
    throttle_at: int = STEP_PERCENT
    """The percentage of the limit from which on that is so."""
    degrade_to: str = ""
    """The route for requests near the limit; empty: the one they ask for."""
    degrade_at: int = STEP_PERCENT
    rollover_nano: int = 0
    """The most that rolls over from the period before; 0: see `rollover_percent`."""
    rollover_percent: int = 0
    """The same as a percentage of the limit; 0 with `rollover_nano` 0: nothing rolls over."""
    noted: Noted = NOTHING_NOTED

    @property
    def blocks(self) -> bool:
        """Whether it refuses requests once nothing is left."""
        return ACTIONS[self.action].blocks

    @property
    def rolls_over(self) -> bool:
        """Whether what is left of a period adds to the next one's limit."""
        return bool(self.rollover_nano or self.rollover_percent)

    @property
    def written(self) -> Budget:
        """The budget as people write it, without what the ledger notes."""
        return replace(self, noted=NOTHING_NOTED) if self.noted != NOTHING_NOTED else self

    @property
    def counts(self) -> tuple[str, ...]:
        """The fields that decide which attempts it counts."""
        return self.scope, self.subject, self.period, self.timezone

    @property
    def open_parts(self) -> frozenset[str]:
        """The scopes whose subjects it does not name, so that each has its own limit."""
        parts = subjects_by_scope(self.scope, self.subject)
        return frozenset(name for name, part in parts.items() if part == EACH)


TERMS: dict[str, Any] = {
    name: Budget.__dataclass_fields__[name].default
    for name in (
        *("grace_nano", "throttle_to", "throttle_at", "degrade_to", "degrade_at", "rollover_nano"),
        *("rollover_percent", "noted"),
    )
}
"""The fields that few budgets have, and what they are in all others."""


class LimitParts(NamedTuple):
    """An account's limit at a moment, nano-USD: the sum of its parts."""

    base_nano: int
    """The budget's limit for the account's period."""
    rolled_nano: int = 0
    """What rolled over from the period before."""
    raised_nano: int = 0
    """All temporary raises of that moment."""

    @property
    def nano(self) -> int:
        """What may be spent, without grace."""
        return min(self.base_nano + self.rolled_nano + self.raised_nano, MAX_NANO)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget's account in its current period: what commands and `/metrics` show.

    Before a budget is valid that is its first period, and afterwards its last.
    """

    budget: Budget
    subject: str
    """The account's own subject; differs from the budget's when that is `*`."""
    spent_nano: int
    held_nano: int
    overrun_nano: int
    period_start_s: int
    period_end_s: int
    limit: LimitParts | None = None
    """The account's limit as of now; None: the budget's."""

    @property
    def limit_nano(self) -> int:
        """What the account may spend in the period, as of now: with what rolled over and was raised."""
        return self.budget.limit_nano if self.limit is None else self.limit.nano

    @property
    def left_nano(self) -> int:
        """What is left of that; below zero after an overrun, a lower limit, or in grace."""
        return self.limit_nano - self.spent_nano - self.held_nano

    def counts_at(self, now_s: float) -> bool:
        """Whether the budget limits anything now."""
        return self.period_start_s <= now_s < self.period_end_s


class Author(NamedTuple):
    """Who changed a budget, and by which way; empty in changes from before this was remembered.

    Attributes:
        way: by a command's options, or from a file.
        who: the user of the machine.
        file: the file, if it was one.
    """

    way: Literal["", "command", "file"] = ""
    who: str = ""
    file: str = ""


UNKNOWN_AUTHOR = Author()


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One change in a budget's history: what changed, when, and by whom."""

    at_ns: int
    change: Literal["set", "remove"]
    budget: Budget
    by: Author = UNKNOWN_AUTHOR


class HoldSizes(msgspec.Struct, frozen=True):
    """How much an attempt asks to hold, nano-USD, largest first.

    `full` is the upper bound of its cost (at the caller's cap, or the model's maximum output).
    `usual` is based on the route's history, or equals `full` if the caller chose its cap. `least` is
    the smallest useful hold, used only on blocking `strict` budgets. `capped` says that `full` is at
    a cap that the caller had to send, and is held wherever it fits. `learnt` says that the input is
    what such texts had before, not a bound, which a strict budget does not accept. See
    docs/budgets.md for the ladder.
    """

    full: int
    usual: int
    least: int
    capped: bool = False
    learnt: bool = False
