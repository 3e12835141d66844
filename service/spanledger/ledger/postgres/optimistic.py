"""A batch that is decided on the balances as last seen, and written in one round trip.

The database checks what was decided: the last statement before COMMIT changes the balances only where
the whole batch has room, and a guard fails the transaction if it is missing anywhere. So whatever
others have done meanwhile, a batch comes through only if every attempt would have got its full hold.
Anything else (a refusal, a warning, a smaller hold, a row to be looked up) is for `locking.py`.

Rows are written before the balances are locked, so a hot balance is locked for two statements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, NoReturn

from spanledger.budgets.accounts import ROOMY, AccountKey, Balance
from spanledger.budgets.limits import base_limit, key_before, raised_nano, rolled_nano
from spanledger.budgets.matching import BudgetIndex, Matched
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import dimensions_of
from spanledger.budgets.steering import near_nano, steers
from spanledger.clock import NANOS
from spanledger.ledger.changes import ATTEMPT_COLUMNS, Changes
from spanledger.ledger.model import LedgerOperation, Reservation, Sweep
from spanledger.ledger.postgres import statements
from spanledger.ledger.postgres.arrays import integers
from spanledger.ledger.postgres.batch import NOT_READ, Batch, Cursor
from spanledger.ledger.postgres.migrate import known_version
from spanledger.money import MAX_NANO

_HOLD = ATTEMPT_COLUMNS.index("hold_nano")
_DECISION = ATTEMPT_COLUMNS.index("decision")


class UnexpectedError(Exception):
    """The batch is not one whose attempts all get their full hold: lock, read and decide again."""


class Room(NamedTuple):
    """What must be left in an account after a batch.

    Attributes:
        slack_nano: an attempt without a cap gets its full hold only if that is at most a tenth of the
            room; nine tenths must then be left, in whatever order attempts are decided.
        special: the budget, if that is not all: more rolls over into the limit, or requests near it are
            throttled or sent elsewhere.
    """

    limit_nano: int
    slack_nano: int
    special: Budget | None = None


class Expected(NamedTuple):
    """The attempts that a batch would hold in full, and the room that this needs."""

    holds: Sequence[Reservation]
    rooms: Mapping[AccountKey, Room]


def expected(operations: Sequence[LedgerOperation], budgets: BudgetIndex) -> Expected:
    """What a batch is expected to hold."""
    holds = [operation for operation in operations if isinstance(operation, Reservation)]
    slacks: dict[int, tuple[Matched, int]] = {}
    for hold in holds:
        matched = budgets.matched(dimensions_of(hold), hold.now_ns // NANOS)
        sizes = hold.sizes
        capped = sizes.capped or sizes.full == sizes.usual
        slack = 0 if capped else (ROOMY - 1) * sizes.full
        found = slacks.get(id(matched))
        if found is None or slack > found[1]:
            slacks[id(matched)] = (matched, slack)
    rooms: dict[AccountKey, Room] = {}
    for matched, slack in slacks.values():
        for budget, key, _ in matched.counted:
            needed = slack if budget.action != "warn" else 0
            room = rooms.get(key)
            if room is None:
                rooms[key] = _room_of(budget, key, needed, holds)
            elif needed > room.slack_nano:
                rooms[key] = room._replace(slack_nano=needed)
    return Expected(holds, rooms)


def _room_of(budget: Budget, key: AccountKey, slack: int, holds: Sequence[Reservation]) -> Room:
    """The room in an account, without what rolls over into its limit. Grace is not room here: attempts in
    grace are marked, so they are not expected."""
    limit = base_limit(budget, key.period_start_s)
    if budget.noted.raises:
        limit += min(raised_nano(budget, hold.now_ns // NANOS) for hold in holds)
    return Room(
        min(limit, MAX_NANO), slack, budget if budget.rolls_over or steers(budget) else None
    )


class OptimisticBatch(Batch):
    """Nothing is read; what is believed is checked in the end."""

    expected = Expected((), {})
    _rooms: Mapping[AccountKey, Room] = expected.rooms
    _changed: Cursor | None = None

    def _begin(self) -> None:
        self._changed = None
        if self.budgets_version == NOT_READ:
            raise UnexpectedError

    def budgets(self, since: int) -> NoReturn:  # noqa: ARG002 - as the port has it
        """See `Transaction`."""
        raise UnexpectedError

    def booked(self, ids: Collection[str]) -> NoReturn:  # noqa: ARG002 - as the port has it
        """See `Transaction`."""
        raise UnexpectedError

    def lapsed(self, sweep: Sweep) -> NoReturn:  # noqa: ARG002 - as above
        """See `Transaction`."""
        raise UnexpectedError

    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """See `Transaction`."""
        known = self._memory.accounts
        try:
            self._read.update({key: known[key] for key in keys})
        except KeyError:
            raise UnexpectedError from None
        return {key: known[key].of(key) for key in keys}

    def write(self, changes: Changes) -> None:
        """See `Transaction`."""
        self._check_decisions(changes)
        moved = {key: amounts for key, *amounts in self._moved(changes.balances)}
        self._find_rooms(moved)
        self._check_room(moved)
        if any(b.paced != self._read[b.key].paced for b in changes.balances):
            raise UnexpectedError  # only a balance that is locked can count requests
        owner = self._owner
        self._open()
        self.seq = changes.seq
        lease = changes.lease_until_ns or None
        parameters = (self.seq, lease, owner.lane, owner.id, owner.batch, 1)
        self._execute(statements.WHOLE_BATCH, parameters)
        self._write_rows(changes)
        self._write_balances(moved)

    def _check_decisions(self, changes: Changes) -> None:
        """Every attempt must have got its full hold, without a warning."""
        holds = self.expected.holds
        if len(changes.attempts) != len(holds) or any(
            row[_HOLD] != hold.sizes.full or row[_DECISION] == "warn"
            for hold, row in zip(holds, changes.attempts, strict=True)
        ):
            raise UnexpectedError

    def _check_room(self, moved: Mapping[AccountKey, Sequence[int]]) -> None:
        """Do not try what will fail, judging by what was seen last."""
        for key, (limit, slack, _) in self._rooms.items():
            seen = self._read[key]
            spent, held, _ = moved.get(key, (0, 0, 0))
            if limit - seen.spent_nano - seen.held_nano - spent - held < slack:
                raise UnexpectedError

    def _find_rooms(self, moved: Mapping[AccountKey, Sequence[int]]) -> None:
        """The room that each account needs, which for some depends on balances."""
        rooms = self._rooms = self.expected.rooms
        if not any(room.special for room in rooms.values()):
            return
        found = dict(rooms)
        for key, (limit, slack, budget) in rooms.items():
            most = limit
            if budget is None:
                continue
            if before := key_before(budget, key):
                seen = self._read.get(before)
                if seen is None or before in rooms:
                    raise UnexpectedError
                most = min(most + rolled_nano(budget, before, seen.of(before)), MAX_NANO)
                # Nobody may have spent more of the period before than was seen.
                spent, held, _ = moved.get(before, (0, 0, 0))
                found[before] = Room(seen.spent_nano + seen.held_nano + spent + held, 0)
            if steers(budget):
                # Below the first step no request is throttled or sent elsewhere.
                most = min(most, near_nano(budget, most) - 1 + slack)
            found[key] = Room(most, slack)
        self._rooms = found

    def _write_balances(self, moved: Mapping[AccountKey, Sequence[int]]) -> None:
        """Lock all, in one order everywhere, then change them where there is room."""
        rooms = self._rooms
        keys = list(moved)
        keys += [key for key in rooms if key not in moved]
        amounts = [(*moved.get(key, (0, 0, 0)), *rooms.get(key, (0, None))[:2]) for key in keys]
        ids = integers(self._read[key].id for key in keys)
        if keys:
            self._execute(statements.LOCK_IDS, (ids,))
        columns = [_nullable(values) for values in zip(*amounts, strict=True)] or ["{}"] * 5
        self._changed = self._execute(
            statements.CHANGE_WHERE_ROOM,
            (ids, *columns, len(keys), self.budgets_version, known_version()),
        )

    def _remember(self) -> None:
        assert self._changed is not None
        known = self._memory.accounts
        row = self._changed.fetchone()
        assert row is not None
        ids, spent, held, overrun, _ = row
        if not ids:
            return
        by_id = {balance.id: key for key, balance in self._read.items()}
        for id_, *amounts in zip(ids, spent, held, overrun, strict=True):
            key = by_id[id_]
            known[key] = known[key]._replace(
                spent_nano=amounts[0], held_nano=amounts[1], overrun_nano=amounts[2]
            )


def _nullable(values: Sequence[int | None]) -> str:
    return integers("NULL" if value is None else value for value in values)
