"""Rates as everybody passes them on. Money is nano-USD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from spanledger.budgets.scopes import EACH, subjects_by_scope
from spanledger.errors import Measure
from spanledger.money import format_usd

WINDOW_S = 60.0
"""A rate counts what was admitted in the last minute."""


class Amounts(NamedTuple):
    """One number for each measure of a rate."""

    requests: int = 0
    tokens: int = 0
    nano: int = 0
    in_flight: int = 0


NO_AMOUNTS = Amounts()
MEASURES: tuple[Measure, ...] = ("requests", "tokens", "nano", "in_flight")
"""In the order of `Amounts`."""
NOUNS: dict[Measure, str] = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "nano": "a minute",
    "in_flight": "requests at once",
}


class RateLimits(NamedTuple):
    """A limit for each measure; None: it has none."""

    requests: int | None = None
    tokens: int | None = None
    nano: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """What a subject may use in any minute, and how many requests it may have in flight.

    `subject` is a name, or `*`: each subject of the scope has its own. For scope `global` it is always
    `*` and means everybody together.
    """

    name: str
    scope: str
    subject: str
    limits: RateLimits
    default: bool = False
    """It limits a subject only if no rate of the same scope names more of that subject."""
    source: str = ""
    """The configuration file that it is from; empty: it was set by command."""

    @property
    def open_parts(self) -> frozenset[str]:
        """The scopes whose subjects it does not name, so that each has its own."""
        parts = subjects_by_scope(self.scope, self.subject)
        return frozenset(name for name, part in parts.items() if part == EACH)


class RateAccount(NamedTuple):
    """Whose use is counted: a rate, and a subject of its scope."""

    rate: str
    scope: str
    subject: str


def amount_text(measure: Measure, amount: int) -> str:
    """An amount of a measure, with its unit."""
    if measure == "nano":
        return f"${format_usd(amount)} {NOUNS[measure]}"
    return f"{amount:,} {NOUNS[measure]}"


def in_words(limits: RateLimits) -> str:
    """All limits of a rate."""
    return ", ".join(amount_text(measure, limit) for measure, limit in limited(limits))


def limited(limits: RateLimits) -> Iterator[tuple[Measure, int]]:
    """The measures that have a limit, with it."""
    for measure, limit in zip(MEASURES, limits, strict=True):
        if limit is not None:
            yield measure, limit
