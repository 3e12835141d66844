"""Who a gateway is in a ledger that several share: an owner of holds, with a lane for its ended rows.

A lane is a slot. A gateway that starts takes the lowest one that is free and goes on with its numbers,
so there are as many as gateways ever ran at once. The row of the lane is also a fence: it counts the
gateway's transactions, and none commits whose number is not the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from spanledger.clock import NANOS
from spanledger.ledger.postgres.connection import Link, Session
from spanledger.ledger.postgres.statements import (
    FENCE,
    LEAVE_LANE,
    LOCK_LANES,
    NEW_LANE,
    TAKE_LANE,
)

LANE_GRACE_S = 300
"""How long after its lease a lane stays its gateway's, and how far a lease may be ahead of the server's
clock: the clocks of two machines may differ."""

Fate = Literal["committed", "undone", "unknown"]
"""What became of the last batch; `unknown` if the lane was lost."""


class LaneOwner:
    """One process's identity in the ledger.

    Attributes:
        lane: the lane whose rows it numbers; -1 before it has one.
        seq: the last number that a row of the lane has got.
        batch: the number of the last transaction that is known to be committed.
    """

    def __init__(self, id_: str, lease_ns: int, now_ns: Callable[[], int]) -> None:
        self.id = id_
        self.lane = -1
        self.seq = 0
        self.batch = 0
        self._lease_ns = lease_ns
        self._now_ns = now_ns

    def fence(self, session: Session) -> Fate:
        """Make sure that no earlier transaction of ours is under way or to come, and that a lane is
        ours; says what became of the last batch.

        Raises:
            psycopg.Error, LedgerUnavailableError: that is not known yet.
        """
        with session.transaction() as connection:
            row = connection.execute(FENCE, (self.lane, self.id)).fetchone()
            lost = row is None
            found = self._take(connection) if row is None else row
        before, (self.lane, self.seq, self.batch) = self.batch, found
        if lost:
            return "unknown"
        return "committed" if (self.batch - before) % 2 else "undone"

    def _take(self, connection: Link) -> tuple[Any, ...]:
        now_ns = self._now_ns()
        parameters = {
            "owner": self.id,
            "until": now_ns + self._lease_ns,
            "lapsed": now_ns - LANE_GRACE_S * NANOS,
            "ahead": self._lease_ns + LANE_GRACE_S * NANOS,
        }
        connection.execute(LOCK_LANES)
        row = connection.execute(TAKE_LANE, parameters).fetchone()
        if row is None:
            row = connection.execute(NEW_LANE, parameters).fetchone()
        assert row is not None
        return row

    def leave(self, session: Session) -> None:
        """Give the lane up, unless something is held."""
        with session.transaction() as connection:
            connection.execute(LEAVE_LANE, {"lane": self.lane, "owner": self.id})
