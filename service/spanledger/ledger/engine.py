"""The decisions of a ledger, once for all databases: what is held, how it ends, and what expires.

A batch of operations is decided in order over what a transaction has read: first everything the
batch needs is collected, so that a database is asked once, then each operation is decided on the
balances in memory, and all changes are written at the end. No SQL, no clock, no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec

from spanledger.budgets.accounts import Account, AccountKey, Balance, blocking, decide, remaining
from spanledger.budgets.matching import BudgetIndex, Matched
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import dimensions_of
from spanledger.budgets.steering import Incoming, admit, check_route
from spanledger.clock import NANOS
from spanledger.errors import SpanledgerError, UnboundedCostError, UnpricedModelError
from spanledger.ledger.books import Accounts, Book, earlier_of
from spanledger.ledger.changes import Changes, StaleError
from spanledger.ledger.charges import charge_of
from spanledger.ledger.model import (
    AttemptEnd,
    ChangeKept,
    EndRequest,
    Hold,
    Journaled,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    Reservation,
    Settled,
    Sweep,
)

MAX_BOOKS = 20_000
"""Beyond this many, balances are asked for again; each takes about half a kilobyte."""


class Booked(msgspec.Struct, frozen=True):
    """What is recorded for an attempt: its state, money, and the balances it changes."""

    state: str
    hold_nano: int
    cost_nano: int
    overrun_nano: int
    accounts: Accounts
    charge_rule: str = ""


class LapsedHold(NamedTuple):
    """A held attempt whose time is over, and what it costs then."""

    request_id: str
    number: int
    hold_nano: int
    cost_nano: int
    accounts: Accounts
    charge_rule: str


class Lapsed(NamedTuple):
    """What has been left behind.

    Attributes:
        requests: ids of requests that have not ended.
    """

    holds: Sequence[LapsedHold]
    requests: Sequence[str]


class ReadBudgets(NamedTuple):
    """Budgets as of a change in their history.

    Attributes:
        names: of those that changed, some of which may be gone; None if these are all budgets.
    """

    last_change: int
    names: Collection[str] | None
    budgets: Collection[Budget]


MAX_READ_CHANGES = 500
"""Beyond this many changed budgets, all are read."""
NOTHING_LAPSED = Lapsed((), ())


class Transaction(Protocol):
    """A write transaction of a database. What it has read stays as it was read until it ends."""

    seq: int
    """The last number that an ended row has got from this writer."""
    budgets_version: int
    """Increases when a budget changes."""
    epoch: int
    """While it stays, the balances that were read before are still the latest."""

    def budgets(self, since: int) -> ReadBudgets:
        """The budgets that changed after a change, or all of them: if `since` is 0, or too long ago."""
        ...

    def booked(self, ids: Collection[str]) -> Mapping[str, Booked]:
        """What is recorded for attempts; without those that are not."""
        ...

    def lapsed(self, sweep: Sweep) -> Lapsed:
        """Holds and requests of owners without a lease, except ours, and those held for too long.

        A lease that ends later than any hold may live was taken before the clock was set back; its
        owner, if still running, has a new one by now. A hold that outlives its request has a time of
        its own, and what it then costs was decided with it.
        """
        ...

    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """At least these balances; the engine changes them. A new account starts at zero."""
        ...

    def write(self, changes: Changes) -> None:
        """Write the changes.

        Raises:
            StaleError: an attempt is not in the state that it was believed to be in.
        """
        ...


class Engine:
    """Decides for one writer, which is an owner of holds, and remembers its open attempts.

    Ending one of ours needs no look-up. If another process has ended it, the transaction raises
    `StaleError`, and the rows are read.
    """

    def __init__(self, owner: str, lease_ns: int) -> None:
        self.owner = owner
        self.lease_ns = lease_ns
        self.lease_until_ns = 0
        self.budgets = BudgetIndex(())
        self.rolls_over = False
        """Whether the rest of a budget's period may add to the next one's limit."""
        self.open: dict[str, Booked] = {}
        self.books: dict[int, Book] = {}
        self._budgets_version = self._epoch = -1
        self._last_change = 0

    def commit(
        self,
        transaction: AbstractContextManager[Transaction],
        operations: Sequence[LedgerOperation],
    ) -> list[LedgerResult]:
        """Run all operations in one transaction; a refused one returns its error.

        Args:
            transaction: begins with each `with`, commits if nothing is raised, and else leaves
                nothing behind.
        """
        try:
            batch, results = self._run(transaction, operations)
        except StaleError:
            self.open.clear()
            batch, results = self._run(transaction, operations)
        self.open.update(batch.reserved)
        for attempt_id in batch.ended:
            self.open.pop(attempt_id, None)
        return results

    def _run(
        self,
        transaction: AbstractContextManager[Transaction],
        operations: Sequence[LedgerOperation],
    ) -> tuple[_Batch, list[LedgerResult]]:
        try:
            with transaction as tx:
                return self._apply(tx, operations)
        except BaseException:
            self.lease_until_ns = 0  # what was rolled back may have renewed the lease
            raise

    def read_ahead(self, tx: Transaction) -> None:
        """Read the budgets outside a transaction: the first one then reads only what changed since, and
        keeps nobody waiting while a large number is read."""
        self._read_budgets(tx)

    def _read_budgets(self, tx: Transaction) -> None:
        last, names, budgets = tx.budgets(self._last_change)
        if names is None:
            self.budgets = BudgetIndex(budgets)
            self.rolls_over = False
        else:
            self.budgets = self.budgets.with_changes(names, budgets)
        self.rolls_over = self.rolls_over or any(budget.rolls_over for budget in budgets)
        self._last_change = last

    def _apply(
        self, tx: Transaction, operations: Sequence[LedgerOperation]
    ) -> tuple[_Batch, list[LedgerResult]]:
        """Decide all operations and write what follows."""
        if tx.budgets_version != self._budgets_version:
            self._read_budgets(tx)
            self._budgets_version = tx.budgets_version
            self.open.clear()  # a new budget's accounts were added to held attempts
            self.books.clear()
        if tx.epoch != self._epoch or len(self.books) > MAX_BOOKS:
            self.books.clear()
            self._epoch = tx.epoch
        batch = _Batch(self, tx.seq)
        batch.read(tx, operations)
        results = [batch.run(operation) for operation in operations]
        batch.finish()
        tx.write(batch.changes)
        return batch, results


class _Batch:
    """The operations of one transaction."""

    def __init__(self, engine: Engine, seq: int) -> None:
        self.changes = Changes(seq)
        self.reserved: dict[str, Booked] = {}
        self.ended: dict[str, Booked] = {}
        self._engine = engine
        self._matches: list[Matched] = []
        self._next_match = iter(self._matches)
        self._looked_up: Mapping[str, Booked] = {}
        self._lapsed = NOTHING_LAPSED
        self._books = engine.books
        self._unread: dict[int, Accounts] = {}
        self._changed: set[int] = set()
        self._put_off: set[str] = set()

    # before ---------------------------------------------------------------------------------

    def read(self, tx: Transaction, operations: Sequence[LedgerOperation]) -> None:
        """Read everything that the operations need."""
        budgets, open_ = self._engine.budgets, self._engine.open
        unknown = []
        sweep = None
        for operation in operations:
            if isinstance(operation, Reservation):
                matched = budgets.matched(dimensions_of(operation), operation.now_ns // NANOS)
                self._matches.append(matched)
                self._need(matched.keys)
                if operation.repeat:
                    unknown.append(operation.attempt_id)
            elif isinstance(operation, AttemptEnd):
                booked = open_.get(operation.attempt_id)
                if booked is None:
                    unknown.append(operation.attempt_id)
                else:
                    self._need(booked.accounts)
            elif isinstance(operation, Sweep):
                sweep = operation
            elif isinstance(operation, Journaled):
                began = operation.reservation
                matched = budgets.matched(dimensions_of(began), began.now_ns // NANOS)
                self._matches.append(matched)
                self._need(matched.keys)
                unknown.append(began.attempt_id)
        if unknown:
            self._looked_up = tx.booked(unknown)
            for booked in self._looked_up.values():
                self._need(booked.accounts)
        if sweep is not None:
            self._lapsed = tx.lapsed(sweep)
            for hold in self._lapsed.holds:
                self._need(hold.accounts)
        if self._unread:
            wanted = {key for keys in self._unread.values() for key in keys}
            earlier = earlier_of(wanted, budgets) if self._engine.rolls_over else {}
            found = tx.balances({*wanted, *earlier.values()} if earlier else wanted)
            for place, keys in self._unread.items():
                self._books[place] = Book(keys, found, earlier)

    def _need(self, keys: Accounts) -> None:
        if id(keys) not in self._books:
            self._unread[id(keys)] = keys

    # after ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Add the changed balances to the changes."""
        books = self._books
        changed = {id(b): b for place in self._changed for b in books[place].balances}
        self.changes.balances = list(changed.values())

    # each -----------------------------------------------------------------------------------

    def run(self, operation: LedgerOperation) -> LedgerResult:
        """Decide one operation."""
        try:
            if isinstance(operation, Reservation):
                return self._reserve(operation, next(self._next_match))
            if isinstance(operation, AttemptEnd):
                return self._finish(operation)
            if isinstance(operation, Sweep):
                return self._sweep(operation)
            if isinstance(operation, Journaled):
                self._record(operation, next(self._next_match))
                return None
        except SpanledgerError as refusal:
            return refusal
        if isinstance(operation, ChangeKept):
            self.changes.kept.append(operation)
        else:
            self._end_request(operation)
        return None

    def _reserve(self, reservation: Reservation, matched: Matched) -> Hold:
        keys = matched.keys
        book = self._books[id(keys)]
        accounts = book.counted_by(matched, reservation.now_ns)
        attempt_id = reservation.attempt_id
        held = self._engine.open.get(attempt_id) or self.reserved.get(attempt_id)
        if held is None and reservation.repeat:
            held = self._looked_up.get(attempt_id)
        if held is not None:  # a repeat: return the first hold
            return Hold(attempt_id, held.hold_nano, "allow", (), remaining(accounts))
        if not reservation.priced or reservation.unbounded:
            _require_bound(reservation, accounts)
        if book.steers:
            asked = asked_by(reservation)
            check_route(accounts, asked)
            grant = decide(accounts, reservation.sizes)
            admit(accounts, asked)
        else:
            grant = decide(accounts, reservation.sizes)
        decision = ("warn" if grant.warned else "allow") if accounts else ""
        if reservation.moved_by and decision == "allow" and _was_moved(reservation):
            decision = "degrade"
        self._renew_lease(reservation.now_ns)
        changes, owner = self.changes, self._engine.owner
        if reservation.number == 1:
            changes.begin_request(reservation.request, owner, decision)
        elif decision:
            changes.decisions.append((decision, reservation.request.request_id))
        changes.hold(reservation, owner, grant.hold_nano, decision, matched.text)
        self.reserved[attempt_id] = Booked(
            "held", grant.hold_nano, 0, 0, keys, reservation.charge_rule
        )
        for balance in book.balances:
            balance.held_nano += grant.hold_nano
        self._changed.add(id(keys))
        return Hold(
            attempt_id,
            grant.hold_nano,
            "warn" if grant.warned else "allow",
            grant.warned,
            grant.remaining_nano,
        )

    def _record(self, journaled: Journaled, matched: Matched) -> None:
        """Hold what a journal held: it is spent or may be, so no budget is asked."""
        reservation, hold, keys = journaled.reservation, journaled.hold_nano, matched.keys
        attempt_id, open_ = reservation.attempt_id, self._engine.open
        if attempt_id in open_ or attempt_id in self.reserved or attempt_id in self._looked_up:
            return
        book = self._books[id(keys)]
        accounts = book.counted_by(matched, reservation.now_ns)
        over = any(a.budget.action == "warn" and a.in_excess(hold) for a in accounts)
        decision = ("warn" if over else "allow") if accounts else ""
        owner, changes = journaled.owner or self._engine.owner, self.changes
        changes.begin_request(reservation.request, owner, decision)
        if decision:
            changes.decisions.append((decision, reservation.request.request_id))
        changes.hold(reservation, owner, hold, decision, matched.text)
        self.reserved[attempt_id] = Booked("held", hold, 0, 0, keys, reservation.charge_rule)
        for balance in book.balances:
            balance.held_nano += hold
        self._changed.add(id(keys))

    def _finish(self, end: AttemptEnd) -> Settled:
        attempt_id = end.attempt_id
        booked = (
            self.ended.get(attempt_id)
            or self.reserved.get(attempt_id)
            or self._engine.open.get(attempt_id)
            or self._looked_up.get(attempt_id)
        )
        if booked is None:
            raise SpanledgerError(f"attempt {attempt_id!r} was never reserved")
        request_id, _, number = attempt_id.rpartition(".")
        state, hold, keys = booked.state, booked.hold_nano, booked.accounts
        cost, overrun = booked.cost_nano, booked.overrun_nano
        book = self._books[id(keys)]
        if state in ("held", "expired"):  # otherwise a repeat: the first end stands
            cost = end.cost_nano or 0
            overrun = cost - hold if keys and cost > hold else 0
            rule = booked.charge_rule
            charge = charge_of(rule, cost, end.list_nano) if rule else None
            self.changes.end_attempt(end, request_id, int(number), state, overrun, charge)
            for balance in book.balances:
                balance.held_nano -= hold if state == "held" else 0
                balance.spent_nano += cost - booked.cost_nano
                balance.overrun_nano += overrun - booked.overrun_nano
            self._changed.add(id(keys))
            self.ended[attempt_id] = Booked("ended", hold, cost, overrun, keys, rule)
        if end.request is not None:
            self.changes.end_request(request_id, end.request)
        elif state == "expired" or (end.late and state == "held"):
            self.changes.correct_request(request_id)
        return Settled(
            cost, overrun, remaining(book.limited_by(self._engine.budgets, end.ended_ns))
        )

    def _end_request(self, operation: EndRequest) -> None:
        request_id = operation.start.request_id
        self.changes.begin_request(operation.start, self._engine.owner, "")
        self.changes.end_request(request_id, operation.end)
        if operation.later is not None:
            self.changes.put_off.append((request_id, operation.later))
            self._put_off.add(request_id)
        if operation.kept is not None:
            self.changes.kept.append(operation.kept)

    # leases ---------------------------------------------------------------------------------

    def _renew_lease(self, now_ns: int) -> None:
        """Keep a lease that lasts long enough: a process that slept past its lease takes a new one
        with its next hold, and so does one whose clock was set back."""
        engine = self._engine
        if not engine.lease_ns // 2 <= engine.lease_until_ns - now_ns <= engine.lease_ns:
            engine.lease_until_ns = self.changes.lease_until_ns = now_ns + engine.lease_ns

    def _sweep(self, sweep: Sweep) -> int:
        """Expire holds whose lease lapsed: charged in full, because the outcome is unknown.

        An ended lease is kept for a while, because the clock may have been ahead.
        """
        changes = self.changes
        self._engine.lease_until_ns = 0  # ours may have been removed, for the same reason
        self._renew_lease(sweep.now_ns)
        changes.sweep = sweep
        expired = 0
        for request_id, number, hold, cost, keys, rule in self._lapsed.holds:
            attempt_id = f"{request_id}.{number}"
            if attempt_id in self.ended or request_id in self._put_off:
                continue
            expired += 1
            charge = charge_of(rule, cost, None)
            changes.expire(request_id, number, sweep.now_ns, cost, charge)
            for balance in self._books[id(keys)].balances:
                balance.held_nano -= hold
                balance.spent_nano += cost
            self._changed.add(id(keys))
            self.ended[attempt_id] = Booked("expired", hold, cost, 0, keys, rule)
            changes.correct_request(request_id)  # if it has ended before
        for request_id in self._lapsed.requests:
            changes.end_request(request_id, RequestEnd("abandoned", "abandoned", 0, sweep.now_ns))
        return expired


def _was_moved(reservation: Reservation) -> bool:
    """Whether a budget's other route serves it, rather than the one that it asked for."""
    return reservation.route != reservation.request.route


def asked_by(reservation: Reservation) -> Incoming:
    """What budgets that steer have to know of an attempt."""
    return Incoming(
        route=reservation.route or reservation.request.route,
        movable=reservation.movable,
        moved_by=reservation.moved_by,
        first=reservation.number == 1,
        now_ns=reservation.now_ns,
    )


def _require_bound(reservation: Reservation, accounts: Sequence[Account]) -> None:
    """If a budget blocks, refuse an attempt whose cost no hold can bound."""
    limit = next((account.budget.name for account in blocking(accounts)), None)
    if limit is None:
        return
    if not reservation.priced:
        raise UnpricedModelError(
            f"model {reservation.model!r} has no price, so budget {limit!r} cannot limit it: set"
            " input_cost_per_token and output_cost_per_token on deployment"
            f" {reservation.deployment!r}"
        )
    raise UnboundedCostError(f"{reservation.unbounded}; budget {limit!r} applies")
