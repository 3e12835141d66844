"""Budgets or rates of one scope, found by the subjects that they are for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from spanledger.budgets.scopes import EACH, subject_parts


class ForSubjects(Protocol):
    """What is for a subject of its scope, by a unique name."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def subject(self) -> str:
        """Whom it is for: a subject, or `*` where each has its own."""
        ...


F = TypeVar("F", bound=ForSubjects)


class Group(Generic[F]):
    """All of one scope."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._named: dict[tuple[str, ...], tuple[F, ...]] = {}
        self._open: list[tuple[bool, ...]] = []

    def copy(self) -> Group[F]:
        """Another one with the same members."""
        other: Group[F] = Group(self.scope)
        other._named, other._open = self._named.copy(), self._open
        return other

    def add(self, member: F) -> None:
        """Add a member."""
        parts = subject_parts(self.scope, member.subject)
        self._named[parts] = (*self._named.get(parts, ()), member)
        open_ = tuple(part == EACH for part in parts)
        if open_ not in self._open:
            self._open = sorted([*self._open, open_], key=sum)

    def remove(self, member: F) -> None:
        """Remove a member."""
        parts = subject_parts(self.scope, member.subject)
        rest = tuple(other for other in self._named[parts] if other.name != member.name)
        if rest:
            self._named[parts] = rest
        else:
            del self._named[parts]

    def match(self, parts: tuple[str, ...]) -> Iterator[F]:
        """Those that apply to a subject; first come those that leave the fewest of its parts open."""
        wanted = (
            tuple([EACH if each else part for each, part in zip(open_, parts, strict=True)])
            for open_ in self._open
        )
        for pattern in dict.fromkeys(wanted):
            yield from self._named.get(pattern, ())
