"""Rules by name and date: which one applies to an attempt. Pure.

A rule names some properties of an attempt, such as its provider or customer; a `*` in a name stands
for any text. Of several that match, the most specific one applies: properties count in a fixed
order, and a whole name before a pattern, a longer pattern before a shorter one. Of equally specific
rules, the last one applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from spanledger.config import matches

FOR_GOOD_NS = 2**63 - 1
"""After every time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PriceRule(Generic[T]):
    """One rule.

    Attributes:
        names: a name or pattern for each property that it asks for.
        since_ns, until_ns: requests that began since the first and before the second.
        what: applies to them.
    """

    name: str
    names: Mapping[str, str]
    since_ns: int
    until_ns: int
    what: T


class PriceRules(Generic[T]):
    """PriceRules over some properties, in the order in which these count."""

    def __init__(self, properties: Sequence[str], rules: Iterable[PriceRule[T]]) -> None:
        listed = list(enumerate(rules))
        listed.sort(key=lambda r: (*(_rank(r[1].names.get(p)) for p in properties), r[0]))
        self._ranked = [rule for _, rule in reversed(listed)]

    def __bool__(self) -> bool:
        return bool(self._ranked)

    def matching(self, subject: Mapping[str, str], at_ns: int) -> list[PriceRule[T]]:
        """The rules that match, and the one that applies first."""
        return [
            rule
            for rule in self._ranked
            if rule.since_ns <= at_ns < rule.until_ns
            and all(_fits(pattern, subject[name]) for name, pattern in rule.names.items())
        ]

    def find(self, subject: Mapping[str, str], at_ns: int) -> PriceRule[T] | None:
        """The rule that applies."""
        return next(iter(self.matching(subject, at_ns)), None)

    def lasting(self, at_ns: int) -> tuple[int, int]:
        """The time around a moment in which no rule begins or ends."""
        bounds = {bound for rule in self._ranked for bound in (rule.since_ns, rule.until_ns)}
        since = max((bound for bound in bounds if bound <= at_ns), default=0)
        return since, min((bound for bound in bounds if bound > at_ns), default=FOR_GOOD_NS)


def _rank(pattern: str | None) -> tuple[int, int]:
    if pattern is None or pattern == "*":
        return 0, 0
    return (1, len(pattern.replace("*", ""))) if "*" in pattern else (2, 0)


def _fits(pattern: str, name: str) -> bool:
    return matches(pattern, name) is not None if "*" in pattern else pattern == name
