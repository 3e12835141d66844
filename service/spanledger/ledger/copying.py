"""Copies a ledger into another database: first what is final while gateways serve, then the rest alone.

What the shipper has accepted does not change any more, but for late corrections, which get a new number.
So these rows are copied while the source is in use, in order of their ids, and a copy that was killed
goes on there. The last pass keeps everybody out of the source: it copies what is open, what ended since,
and all small tables, and compares sums. Until then the target refuses to serve.

A copy has one lane. Its numbers keep the order within each lane of the source, and what was shipped
comes before what was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from time import time_ns
from typing import TYPE_CHECKING, NamedTuple, Protocol

from spanledger.budgets.accounts import Balance, account_keys
from spanledger.budgets.scopes import Dimensions, SubjectColumns, columns_for
from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError, SpanledgerError, UsageError
from spanledger.ledger.lanes import START, Position
from spanledger.ledger.model import Verification
from spanledger.ledger.rows import RawRow
from spanledger.ledger.verify import Opened, Openings

if TYPE_CHECKING:
    from spanledger.ledger.ports import Store

CHUNK = 1_000
"""Requests in one transaction of the target."""
UNFINISHED = "copy_unfinished"
"""In the target's state while it lacks something."""
_SOURCE, _PRUNED, _MAIN = "copy_source", "copy_pruned_ns", "copy_main_done"
_CURSOR, _UPTO = "copy_cursor_", "copy_upto_"
_OWN_STATE = ("schema_version", "seq")
"""What each database's state has for itself."""

SMALL_TABLES = (
    *("keys", "key_secrets", "key_history", "budgets", "budget_history", "applied_budgets", "kept"),
    *("ship_points", "notices", "notice_deliveries", "notice_totals"),
)
"""Copied whole by the last pass, besides balances and state."""


class SettledAttempt(NamedTuple):
    """A settled attempt, as far as accounts care."""

    request_id: str
    number: int
    accounts: str
    lane: int
    seq: int
    started_ns: int
    dimensions: Dimensions


class Tables(Protocol):
    """All rows of a ledger, as a source or as a target of a copy. Rows of attempts and requests have a
    `lane`, whichever database they are from."""

    def alone(self) -> AbstractContextManager[None]:
        """A write transaction during which nobody else commits."""
        ...

    def state(self) -> dict[str, int]:
        """The small figures of a ledger."""
        ...

    def identity(self) -> int:
        """What tells this ledger from any other, made on first use."""
        ...

    def ends(self) -> Position:
        """Behind the last row that has ended."""
        ...

    def cursor(self) -> Position:
        """Behind the last row that was shipped."""
        ...

    def empty(self) -> bool:
        """Whether it has neither requests nor keys nor budgets."""
        ...

    def lease_ns(self, now_ns: int) -> int:
        """When the last lease of a gateway ends, if one is running; else 0."""
        ...

    def sums(self) -> dict[str, int]:
        """Counts and sums that two equal ledgers have in common."""
        ...

    # as a source --------------------------------------------------------------------------

    def requests_after(self, request_id: str, limit: int) -> list[RawRow]:
        """Requests in order of their ids."""
        ...

    def attempts_between(self, after: str, last: str) -> list[RawRow]:
        """Attempts of the requests after one id, up to another."""
        ...

    def late_requests(self, upto: Position, request_id: str, limit: int) -> list[RawRow]:
        """Requests after an id that may differ from how they were when everything up to a position
        was copied."""
        ...

    def late_attempts(self, upto: Position, after: tuple[str, int], limit: int) -> list[RawRow]:
        """The same of attempts, after one of them."""
        ...

    def table(self, name: str) -> list[RawRow]:
        """All rows of a small table."""
        ...

    def balances(self) -> list[Balance]:
        """All balances."""
        ...

    def openings(self) -> Openings:
        """What the balances' numbers stand for."""
        ...

    def settled(self, columns: SubjectColumns) -> Iterator[SettledAttempt]:
        """All settled attempts, with these columns; only within `alone`."""
        ...

    # as a target --------------------------------------------------------------------------

    def last_request(self) -> str:
        """The last id of a request; empty if there is none."""
        ...

    def write_state(self, values: Mapping[str, int]) -> None:
        """Set small figures."""
        ...

    def forget_state(self, names: Iterable[str]) -> None:
        """Remove small figures."""
        ...

    def write_rows(self, requests: Sequence[RawRow], attempts: Sequence[RawRow]) -> None:
        """Create or replace rows, all or none."""
        ...

    def remove_after(self, seq: int) -> None:
        """Remove what is open, or has a higher number."""
        ...

    def replace(self, name: str, rows: Sequence[RawRow]) -> None:
        """Replace a small table; within `alone`."""
        ...

    def replace_balances(self, balances: Iterable[Balance]) -> None:
        """Replace all balances, opened at numbers of the only lane; within `alone`."""
        ...

    def add_accounts(self, changed: Sequence[tuple[str, int, str]]) -> None:
        """Set the accounts of attempts, by request and number; within `alone`."""
        ...

    def set_position(self, last: int, cursor: int) -> None:
        """Set the last number, and that of the shipper; within `alone`."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class InUseError(SpanledgerError):
    """The last pass has to wait until nobody uses the source."""

    def __init__(self, who: str) -> None:
        super().__init__(
            f"everything final is copied, but {who} is using the source: stop all gateways and"
            " shippers, then run the same command again"
        )


class Numbering:
    """The numbers of a source's rows in its copy, which has one lane.

    Args:
        cuts: positions, none of which is before the one before it: what is before one comes before
            what is not. The last one is behind every row.
    """

    def __init__(self, *cuts: Position) -> None:
        self._pieces: list[tuple[Position, Position, int, dict[int, int]]] = []
        base, before = 0, START
        for cut in cuts:
            order = {lane: place for place, (lane, _) in enumerate(sorted(cut.lanes()))}
            self._pieces.append((before, cut, base, order))
            base += len(order) * max(
                (seq - before.of(lane) for lane, seq in cut.lanes()), default=0
            )
            before = cut
        self.end = base
        """The last number."""

    def of(self, lane: int, seq: int) -> int:
        """The number of a row."""
        for before, cut, base, order in self._pieces:
            if seq <= cut.of(lane):
                return base + (seq - before.of(lane) - 1) * len(order) + order[lane] + 1
        raise AssertionError("a row is behind the last position")

    def behind(self, cut: int) -> int:
        """The last number before a cut, by its place among the arguments."""
        return self._pieces[cut + 1][2] if cut + 1 < len(self._pieces) else self.end


class Copy:
    """One copy of a ledger into another database.

    Args:
        now_ns: the time, for leases.
        verify: of the target.
        progress: called with the requests done, and about how many there are.
    """

    def __init__(
        self,
        source: Tables,
        target: Tables,
        now_ns: Callable[[], int],
        verify: Callable[[], Verification],
        progress: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._verify = verify
        self._now_ns = now_ns
        self._progress = progress
        self._done = 0
        self._total = source.sums()["requests"]

    def begin(self) -> None:
        """Make the target ours.

        Raises:
            UsageError: it holds something else, or the source is itself an incomplete copy.
            LedgerUnavailableError: the source was pruned since the copy began.
        """
        here, there = self._source.state(), self._target.state()
        if UNFINISHED in here:
            raise UsageError(
                "the source is a copy that is not complete: copy from the ledger that it was copied from"
            )
        identity = self._source.identity()
        if _SOURCE not in there:
            if not self._target.empty():
                raise UsageError("the target holds another ledger: name an empty one")
            cursor = self._source.cursor()
            upto = cursor if here.get("ships", 1) else self._source.ends()
            self._target.write_state(
                {
                    _SOURCE: identity,
                    UNFINISHED: 1,
                    _PRUNED: here.get("pruned_ns", 0),
                    **{f"{_CURSOR}{lane}": seq for lane, seq in cursor.lanes()},
                    **{f"{_UPTO}{lane}": seq for lane, seq in upto.lanes()},
                }
            )
            return
        if there[_SOURCE] != identity:
            raise UsageError("the target holds a copy of another ledger: name an empty one")
        if UNFINISHED not in there:
            raise UsageError("the target already is a whole copy of this ledger: name an empty one")
        if there[_PRUNED] != here.get("pruned_ns", 0):
            raise LedgerUnavailableError(
                "the source was pruned since this copy began, so the copy has too much: name an empty"
                " target, and prune before or after copying"
            )

    def main(self) -> None:
        """Copy what is final, while the source is in use."""
        state = self._target.state()
        if _MAIN in state:
            self._done = self._target.sums()["requests"]
            return
        cursor, upto = _positions(state)
        numbering = Numbering(cursor, upto)
        after = self._target.last_request()
        self._done = self._target.sums()["requests"] if after else 0
        while requests := self._source.requests_after(after, CHUNK):
            last = requests[-1]["request_id"]
            attempts = self._source.attempts_between(after, last)
            rows = [[row for row in some if _within(row, upto)] for some in (requests, attempts)]
            self._write(numbering, *rows)
            self._advance(len(requests))
            after = last
        self._target.write_state({_MAIN: 1})

    def finish(self) -> Verification:
        """Copy the rest while nobody uses the source, and check the whole.

        Raises:
            InUseError: a gateway is using the source; what is final has been copied.
            SpanledgerError: the copy differs from the source, or does not add up.
        """
        with self._source.alone():
            if (until_ns := self._source.lease_ns(self._now_ns())) > 0:
                left_s = (until_ns - self._now_ns()) // NANOS + 1
                raise InUseError(f"a gateway (or one that was killed, for another {left_s} s)")
            cursor, upto = _positions(self._target.state())
            ends, moved = self._source.ends(), self._source.cursor()
            if moved == cursor:
                numbering, shipped = Numbering(cursor, upto, ends), 0
            elif all(moved.of(lane) >= seq for lane, seq in upto.lanes()):
                numbering, shipped = Numbering(cursor, upto, moved, ends), 2
            else:
                raise LedgerUnavailableError(
                    "a shipper has begun to ship since this copy began: name an empty target"
                )
            self._target.remove_after(numbering.behind(1))
            self._late_rows(numbering, upto)
            self._small_tables(numbering, shipped)
            found = self._checked()
            with self._target.alone():
                marks = [n for n in self._target.state() if n.startswith("copy_")]
                self._target.forget_state(name for name in marks if name != _SOURCE)
        return found

    def _late_rows(self, numbering: Numbering, upto: Position) -> None:
        """Copy what was not copied before, or may have changed since."""
        request = ""
        while requests := self._source.late_requests(upto, request, CHUNK):
            self._write(numbering, requests, [])
            self._advance(len(requests))
            request = requests[-1]["request_id"]
        attempt = ("", 0)
        while attempts := self._source.late_attempts(upto, attempt, CHUNK):
            self._write(numbering, [], attempts)
            attempt = (attempts[-1]["request_id"], attempts[-1]["number"])

    def _small_tables(self, numbering: Numbering, shipped: int) -> None:
        source, target = self._source, self._target
        last = numbering.end
        state = {
            name: value
            for name, value in source.state().items()
            if name not in _OWN_STATE and not name.startswith("copy_")
        }
        with target.alone():
            for name in SMALL_TABLES:
                target.replace(name, source.table(name))
            target.replace_balances(self._opened(numbering))
            target.write_state(state)
            target.set_position(last, numbering.behind(shipped))

    def _opened(self, numbering: Numbering) -> list[Balance]:
        """The source's balances, opened at numbers of the copy.

        A position in several lanes may not be one in the copy. Then attempts that an account counts by
        their subjects name it instead.
        """
        balances = self._source.balances()
        lanes = [lane for lane, _ in self._source.ends().lanes()]
        openings = self._source.openings()
        if len(lanes) > 1:
            self._name_accounts(Opened(balances, openings))
        for balance in balances:
            if balance.opened_seq:
                seq = 0 if len(lanes) != 1 else openings(balance.opened_seq).of(lanes[0])
                balance.opened_seq = numbering.of(lanes[0], seq) if seq else 0
        return balances

    def _name_accounts(self, opened: Opened) -> None:
        changed: list[tuple[str, int, str]] = []
        for attempt in self._source.settled(columns_for(opened.scopes)):
            keys = account_keys(attempt.accounts)
            place = (attempt.lane, attempt.seq)
            more = opened.counting(place, attempt.started_ns, attempt.dimensions, keys)
            if more:
                accounts = json.dumps((*keys, *more))
                changed.append((attempt.request_id, attempt.number, accounts))
            if len(changed) >= CHUNK:
                self._target.add_accounts(changed)
                changed = []
        self._target.add_accounts(changed)

    def _checked(self) -> Verification:
        """Compare the target with the source, and verify it."""
        expected, actual = self._source.sums(), self._target.sums()
        for name, value in expected.items():
            if actual[name] != value:
                raise SpanledgerError(
                    f"the copy differs from the source in {name}: {actual[name]} instead of {value}"
                )
        found = self._verify()
        if found.problems:
            raise SpanledgerError(
                "the copy does not add up, so the source does not either; run `spanledger ledger"
                f" verify` on it for all problems: {found.problems[0]}"
            )
        return found

    def _write(
        self, numbering: Numbering, requests: Sequence[RawRow], attempts: Sequence[RawRow]
    ) -> None:
        for row in (*requests, *attempts):
            if row["seq"] is not None:
                row["seq"] = numbering.of(row["lane"], row["seq"])
                row["lane"] = 0
        self._target.write_rows(requests, attempts)

    def _advance(self, requests: int) -> None:
        self._done += requests
        self._progress(self._done, max(self._total, self._done))


def _within(row: RawRow, position: Position) -> bool:
    """Whether a row has ended before a position."""
    return row["seq"] is not None and row["seq"] <= position.of(row["lane"])


def _positions(state: Mapping[str, int]) -> tuple[Position, Position]:
    """The cursor and the end of what is final, as they were when the copy began."""
    cursor, upto = (
        Position(
            {
                int(name.removeprefix(prefix)): seq
                for name, seq in state.items()
                if name.startswith(prefix)
            }
        )
        for prefix in (_CURSOR, _UPTO)
    )
    return cursor, upto


def copy_ledger(
    source: Store,
    target: Store,
    progress: Callable[[int, int], None],
    now_ns: Callable[[], int] = time_ns,
) -> Verification:
    """Copy a ledger into an empty database, or go on with a copy that was interrupted.

    Args:
        progress: called with the requests done, and about how many there are.

    Raises:
        UsageError: both are the same, or the target holds something else.
        InUseError: the rest has to wait until nobody uses the source.
        SpanledgerError: the copy differs from the source, or does not add up.
    """
    if source.url == target.url:
        raise UsageError("source and target are the same ledger")
    source.require()
    source.migrate(now_ns)
    target.migrate(now_ns)
    with (
        closing(target.exclusive("copy")) as mine,
        closing(source.exclusive("ship")) as shipping,
        closing(source.tables()) as rows,
        closing(target.tables()) as copies,
    ):
        if not mine.acquire():
            raise LedgerUnavailableError("another process is copying into the target")

        def verify() -> Verification:
            with target.reports(incomplete=True) as reports:
                return reports.verify()

        copy = Copy(rows, copies, now_ns, verify, progress)
        copy.begin()
        copy.main()
        if not shipping.acquire():
            raise InUseError("a shipper")
        return copy.finish()
