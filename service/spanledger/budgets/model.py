"""Budgets and their states as everybody passes them on. Money is nano-USD, times are Unix seconds or
nanoseconds as their names say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from spanledger.budgets.scopes import EACH, subjects_by_scope

Action = Literal["block", "warn"]


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
    action: Action = "block"
    thresholds: tuple[int, ...] = (50, 80, 95)
    strict: bool = False
    """Lower `max_tokens` to what the remaining money buys instead of refusing."""
    allow_when_down_nano: int = 0
    """What each gateway process may spend on an account while the ledger is unavailable; 0: nothing."""
    default: bool = False
    """It limits a subject only if no budget of the same scope names more of that subject."""

    @property
    def counts(self) -> tuple[str, ...]:
        """The fields that decide which attempts it counts."""
        return self.scope, self.subject, self.period, self.timezone

    @property
    def open_parts(self) -> frozenset[str]:
        """The scopes whose subjects it does not name, so that each has its own limit."""
        parts = subjects_by_scope(self.scope, self.subject)
        return frozenset(name for name, part in parts.items() if part == EACH)


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
    a cap that the caller had to send, and is held wherever it fits. See docs/budgets.md for the
    ladder.
    """

    full: int
    usual: int
    least: int
    capped: bool = False
