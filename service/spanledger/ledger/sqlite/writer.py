"""The ledger on SQLite: one writing connection, every batch of operations one transaction.

Synchronous on purpose: `group.py` runs it in a thread and groups concurrent callers. Several
processes may share the file; each batch takes the write lock before it reads a balance, so a
decision never uses a stale figure. WAL with `synchronous=FULL`: once `commit` returns, the rows
survive a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from spanledger.budgets.accounts import (
    Account,
    AccountKey,
    Balance,
    BudgetIndex,
    account_keys,
    blocking,
    decide,
    remaining,
)
from spanledger.budgets.scopes import Dimensions
from spanledger.clock import NANOS
from spanledger.errors import (
    LedgerUnavailableError,
    SpanledgerError,
    UnboundedCostError,
    UnpricedModelError,
)
from spanledger.ledger.model import (
    AttemptEnd,
    ChangeKept,
    EndRequest,
    Hold,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    Reservation,
    Settled,
    Sweep,
)
from spanledger.ledger.sqlite import kept
from spanledger.ledger.sqlite.connection import (
    SELECT_BUDGETS,
    WRITE_BALANCE,
    begin_immediate,
    budget_from_row,
)
from spanledger.ledger.sqlite.files import LedgerFiles
from spanledger.ledger.sqlite.pending import Pending, StaleError

MAX_CACHED_BALANCES = 20_000
"""Beyond this many, balances are read again; each takes about half a kilobyte."""
_UNKNOWN = -1


class _Booked(NamedTuple):
    """What is recorded for an attempt: its state, money, and the balances it changes."""

    state: str
    hold_nano: int
    cost_nano: int
    overrun_nano: int
    accounts: tuple[AccountKey, ...]


class SqliteWriter:
    """The writing connection of one process, including its identity as an owner of holds."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, owner: str, lease_ns: int
    ) -> None:
        self.owner = owner
        self._lease_ns = lease_ns
        self._lease_until_ns = 0
        self._connection = connection
        self._files = LedgerFiles(path)
        self._moved = False
        self._budgets = BudgetIndex(())
        self._budgets_version = -1
        # Our open attempts, so ending one needs no look-up. If another process has ended one, we
        # get a `StaleError` and read the rows.
        self._open: dict[str, _Booked] = {}
        # As stored in the file, until another connection writes to it.
        self._file_version = _UNKNOWN
        self._seq = 0
        self._balances: dict[AccountKey, Balance] = {}
        # State of the transaction being written:
        self._dirty: set[AccountKey] = set()
        self._pending = Pending()
        self._reserved: dict[str, _Booked] = {}
        self._ended: dict[str, _Booked] = {}

    def close(self) -> None:
        """Give up the lease if nothing is held, and close the file."""
        with suppress(sqlite3.Error):  # otherwise another process's sweep does it one lease later
            self._connection.execute(
                "DELETE FROM owners WHERE id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM attempts WHERE owner = ?1 AND state = 'held')",
                (self.owner,),
            )
        self._connection.close()

    def commit(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        """Run all operations in one durable transaction; a refused one returns its error.

        Raises:
            LedgerUnavailableError: nothing was done.
            Exception: nothing was done, and one of the operations is at fault.
        """
        try:
            try:
                results = self._transaction(operations)
            except StaleError:
                self._rollback()
                self._open.clear()
                results = self._transaction(operations)
        except sqlite3.Error as error:
            self._rollback()
            if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
                raise  # the data to be written is at fault, and waiting does not fix it
            raise LedgerUnavailableError(f"the ledger could not commit: {error}") from error
        except BaseException:
            self._rollback()
            raise
        self._open.update(self._reserved)
        for attempt_id in self._ended:
            self._open.pop(attempt_id, None)
        self._check_committed()
        return results

    def _check_committed(self) -> None:
        """Raises LedgerUnavailableError if the commit just made is in a file that was deleted or
        replaced, and cannot be saved from there."""
        try:
            self._files.check()
            self._moved = False
        except LedgerUnavailableError:
            self._moved = True  # later operations are refused before they are written
            try:
                saved = self._files.save(self._connection)
            except sqlite3.Error:
                saved = False
            if not saved:
                raise

    def check(self) -> None:
        """Raises LedgerUnavailableError if the file is not the one that was opened."""
        self._files.check_database()

    def _rollback(self) -> None:
        self._lease_until_ns = 0  # the rolled-back transaction may have renewed the lease
        self._file_version = _UNKNOWN  # and moved balances
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _transaction(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        if self._moved:
            self._files.check()
        else:
            self._files.check_database()
        begin_immediate(self._connection)
        for state in (self._dirty, self._pending, self._reserved, self._ended):
            state.clear()
        self._refresh()
        first_seq = self._seq
        results = [self._apply(operation) for operation in operations]
        self._pending.flush(self._connection)
        if self._dirty:
            self._connection.executemany(
                WRITE_BALANCE, [self._balances[key].row for key in self._dirty]
            )
        if self._seq != first_seq:
            self._connection.execute("UPDATE state SET value = ? WHERE key = 'seq'", (self._seq,))
        self._connection.execute("COMMIT")
        return results

    def _refresh(self) -> None:
        """Forget what was read before, if another connection has written since.

        SQLite counts the commits of others in `data_version`. Asked with the write lock held, it says
        whether what this connection knows is still so, and saves a query for each balance.
        """
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._file_version or len(self._balances) > MAX_CACHED_BALANCES:
            self._balances.clear()
            self._load_state()
            self._file_version = version

    def _load_state(self) -> None:
        state = dict(self._connection.execute("SELECT key, value FROM state"))
        self._seq = state["seq"]
        if state["budgets_version"] != self._budgets_version:
            rows = self._connection.execute(SELECT_BUDGETS)
            self._budgets = BudgetIndex(budget_from_row(row) for row in rows)
            self._budgets_version = state["budgets_version"]
            self._open.clear()  # a new budget's accounts were added to held attempts

    def _apply(self, operation: LedgerOperation) -> LedgerResult:
        try:
            match operation:
                case Reservation():
                    return self._reserve(operation)
                case AttemptEnd():
                    return self._finish(operation)
                case EndRequest():
                    self._pending.add_request(operation.start, self.owner, "")
                    self._end_request(operation.start.request_id, operation.end)
                    self._leave_behind(operation)
                    return None
                case ChangeKept():
                    kept.change(self._connection, operation.request_id, operation.about)
                    return None
                case Sweep():
                    return self._sweep(operation)
        except SpanledgerError as refusal:
            return refusal

    # reserve ------------------------------------------------------------------------------

    def _reserve(self, reservation: Reservation) -> Hold:
        matched = self._budgets.matched(_dimensions_of(reservation), reservation.now_ns // NANOS)
        accounts = [
            Account(budget, self._balance(key, end_s)) for budget, key, end_s in matched.counted
        ]
        attempt_id = reservation.attempt_id
        held = self._open.get(attempt_id) or self._reserved.get(attempt_id)
        if held is None and reservation.repeat:
            held = self._look_up(attempt_id)
        if held is not None:  # a repeat: return the first hold
            return Hold(attempt_id, held.hold_nano, "allow", (), remaining(accounts))
        if not reservation.priced or reservation.unbounded:
            _require_bound(reservation, accounts)
        grant = decide(accounts, reservation.sizes)
        decision = ("warn" if grant.warned else "allow") if accounts else ""
        self._renew_lease(reservation.now_ns)
        request = reservation.request
        if reservation.number == 1:
            self._pending.add_request(request, self.owner, decision)
        elif decision:
            self._connection.execute(
                "UPDATE requests SET decision = ? WHERE request_id = ? AND decision != 'warn'",
                (decision, request.request_id),
            )
        self._pending.add_attempt(reservation, self.owner, grant.hold_nano, decision, matched.text)
        self._reserved[attempt_id] = _Booked("held", grant.hold_nano, 0, 0, matched.keys)
        for account in accounts:
            account.balance.held_nano += grant.hold_nano
        self._dirty.update(matched.keys)
        return Hold(
            attempt_id,
            grant.hold_nano,
            "warn" if grant.warned else "allow",
            grant.warned,
            grant.remaining_nano,
        )

    def _balance(self, key: AccountKey, period_end_s: int) -> Balance:
        """The balance in this transaction; a new account starts at zero."""
        balance = self._balances.get(key)
        if balance is None:
            row = self._connection.execute(_READ_BALANCE, key).fetchone()
            balance = Balance(key, *row) if row else Balance(key, period_end_s)
            self._balances[key] = balance
        return balance

    # finish -------------------------------------------------------------------------------

    def _finish(self, end: AttemptEnd) -> Settled:
        booked = self._booked(end.attempt_id)
        request_id, _, number = end.attempt_id.rpartition(".")
        balances = [self._balance(key, 0) for key in booked.accounts]
        cost, overrun = booked.cost_nano, booked.overrun_nano
        if booked.state in ("held", "expired"):  # otherwise a repeat: the first end stands
            cost = end.cost_nano or 0
            overrun = max(0, cost - booked.hold_nano) if balances else 0
            self._seq += 1
            self._pending.end_attempt(
                end, request_id, int(number), booked.state, overrun, self._seq
            )
            for balance in balances:
                balance.held_nano -= booked.hold_nano if booked.state == "held" else 0
                balance.spent_nano += cost - booked.cost_nano
                balance.overrun_nano += overrun - booked.overrun_nano
            self._dirty.update(booked.accounts)
            self._ended[end.attempt_id] = _Booked(
                "ended", booked.hold_nano, cost, overrun, booked.accounts
            )
        if end.request is not None:
            self._end_request(request_id, end.request)
        elif booked.state == "expired" or (end.late and booked.state == "held"):
            self._correct_request(request_id)
        return Settled(cost, overrun, self._remaining(balances))

    def _booked(self, attempt_id: str) -> _Booked:
        """What is recorded for an attempt, from memory or from its row."""
        booked = self._ended.get(attempt_id) or self._open.get(attempt_id)
        if booked is None:
            booked = self._look_up(attempt_id)
        if booked is None:
            raise SpanledgerError(f"attempt {attempt_id!r} was never reserved")
        return booked

    def _look_up(self, attempt_id: str) -> _Booked | None:
        """An attempt's row."""
        self._pending.flush(self._connection)
        request_id, _, number = attempt_id.rpartition(".")
        row = self._connection.execute(
            "SELECT state, hold_nano, cost_nano, overrun_nano, accounts FROM attempts"
            " WHERE request_id = ? AND number = ?",
            (request_id, int(number)),
        ).fetchone()
        if row is None:
            return None
        state, hold, cost, overrun, accounts = row
        return _Booked(state, hold, cost, overrun, account_keys(accounts))

    def _remaining(self, balances: Sequence[Balance]) -> int | None:
        limits = [(self._budgets.limiting(balance.key), balance) for balance in balances]
        return remaining([Account(budget, b) for budget, b in limits if budget is not None])

    # requests -----------------------------------------------------------------------------

    def _end_request(self, request_id: str, end: RequestEnd) -> None:
        self._seq += 1
        self._pending.end_request(request_id, end, self._seq)

    def _leave_behind(self, operation: EndRequest) -> None:
        """What remains of a request after its end."""
        if operation.later is None and operation.kept is None:
            return
        self._pending.flush(self._connection)
        if operation.later is not None:
            kept.hold_on(self._connection, operation.start.request_id, operation.later)
        if operation.kept is not None:
            kept.keep(self._connection, operation.kept)

    def _correct_request(self, request_id: str) -> None:
        """Update and reship the total of a request whose attempt was corrected after it ended."""
        self._pending.flush(self._connection)
        self._seq += 1
        self._connection.execute(
            "UPDATE requests SET seq = ?1, cost_nano = (SELECT sum(cost_nano) FROM attempts a"
            " WHERE a.request_id = requests.request_id) WHERE request_id = ?2 AND seq IS NOT NULL",
            (self._seq, request_id),
        )

    # leases -------------------------------------------------------------------------------

    def _renew_lease(self, now_ns: int) -> None:
        """Keep a lease that lasts long enough: a process that slept past its lease takes a new one
        with its next hold, and so does one whose clock was set back."""
        if not self._lease_ns // 2 <= self._lease_until_ns - now_ns <= self._lease_ns:
            self._lease_until_ns = now_ns + self._lease_ns
            self._connection.execute(
                "INSERT OR REPLACE INTO owners VALUES (?, ?)", (self.owner, self._lease_until_ns)
            )

    def _sweep(self, sweep: Sweep) -> int:
        """Expire holds whose lease lapsed: charged in full, because the outcome is unknown. One that
        outlives its request has a time of its own, and what it then costs was decided with it.

        A lease that ends later than any hold may live was taken before the clock was set back; its
        owner, if still running, has a new one by now. An ended lease is kept for a while, because
        the clock may have been ahead.
        """
        self._lease_until_ns = 0  # ours may have been removed from the file, for the same reason
        self._renew_lease(sweep.now_ns)
        self._pending.flush(self._connection)
        forgotten_ns = sweep.now_ns - sweep.max_hold_ns
        moments = (forgotten_ns, sweep.now_ns, sweep.now_ns + sweep.max_hold_ns)
        lapsed = self._connection.execute(
            "SELECT request_id, number, hold_nano,"
            " CASE WHEN held_until_ns THEN expected_nano ELSE hold_nano END, accounts"
            " FROM attempts WHERE state = 'held' AND CASE WHEN held_until_ns THEN"
            " held_until_ns < ?2 ELSE started_ns < ?1 OR owner NOT IN"
            " (SELECT id FROM owners WHERE lease_ns BETWEEN ?2 AND ?3) END",
            moments,
        ).fetchall()
        for request_id, number, hold, cost, accounts in lapsed:
            self._seq += 1
            self._connection.execute(
                "UPDATE attempts SET state = 'expired', ended_ns = ?, cost_nano = ?,"
                " estimated = 1, error_type = 'expired', seq = ?"
                " WHERE request_id = ? AND number = ?",
                (sweep.now_ns, cost, self._seq, request_id, number),
            )
            for key in account_keys(accounts):
                balance = self._balance(key, 0)
                balance.held_nano -= hold
                balance.spent_nano += cost
                self._dirty.add(key)
            self._open.pop(f"{request_id}.{number}", None)
            self._correct_request(request_id)  # if it has ended before
        running = self._connection.execute(
            "SELECT request_id FROM requests WHERE seq IS NULL"
            " AND (started_ns < ?1 OR owner NOT IN"
            " (SELECT id FROM owners WHERE lease_ns BETWEEN ?2 AND ?3))",
            moments,
        ).fetchall()
        for (request_id,) in running:
            self._end_request(request_id, RequestEnd("abandoned", "abandoned", 0, sweep.now_ns))
        self._connection.execute("DELETE FROM owners WHERE lease_ns NOT BETWEEN ?1 AND ?3", moments)
        return len(lapsed)


def _dimensions_of(reservation: Reservation) -> Dimensions:
    """The dimensions an attempt counts under."""
    request = reservation.request
    return (
        request.customer,
        request.key_id,
        request.team,
        reservation.model,
        reservation.provider,
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


_READ_BALANCE = """
SELECT period_end_s, spent_nano, held_nano, overrun_nano, opened_seq FROM balances
WHERE budget = ? AND scope = ? AND period = ? AND timezone = ? AND period_start_s = ?
    AND subject = ?"""
