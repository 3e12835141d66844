"""Lanes: every writer numbers the rows that it ends in a lane of its own.

Several writers of one database commit in another order than they count, so one number for all would
let a reader pass over a row that becomes visible late. Within a lane, numbers rise in the order in
which rows become visible; between lanes there is no order. A ledger whose writers take turns has one
lane, 0. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

_PLACE = attrgetter("lane", "seq")


class Numbered(Protocol):
    """An ended row."""

    @property
    def lane(self) -> int:
        """The lane it was numbered in."""
        ...

    @property
    def seq(self) -> int:
        """Its number in that lane."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the outbox: for each lane the last number before it; 0 for lanes that it lacks."""

    _last: Mapping[int, int] = field(default_factory=dict)

    def of(self, lane: int) -> int:
        """The last number of a lane."""
        return self._last.get(lane, 0)

    def past(self, rows: Iterable[Numbered]) -> Position:
        """The position behind these rows, which are in order within each lane."""
        return Position({**self._last, **dict(map(_PLACE, rows))})

    def same_as(self, other: Position) -> bool:
        """Whether both are the same place, also if one lacks lanes in which the other is at 0."""
        lanes = {*self._last, *other._last}
        return all(self.of(lane) == other.of(lane) for lane in lanes)

    def lanes(self) -> Iterator[tuple[int, int]]:
        """Each lane with its last number."""
        yield from self._last.items()

    def __bool__(self) -> bool:
        """Whether anything is before it."""
        return any(self._last.values())


START = Position()
"""Before the first row of every lane."""


def one_lane(seq: int) -> Position:
    """A position in a ledger with one lane."""
    return Position({0: seq})
