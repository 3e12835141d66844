"""The ledger on SQLite: one connection that writes, every batch of operations one transaction.

Synchronous on purpose: `group.py` runs it in a thread of its own and groups concurrent callers.
Several processes may share the file; each batch takes the write lock before it reads a balance,
so a decision never rests on a stale figure. WAL with `synchronous=FULL`: when `commit` returns,
the rows survive a power cut.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from spanledger.errors import (
    ConfigError,
    LedgerUnavailableError,
    SpanledgerError,
    UnpricedModelError,
)
from spanledger.ledger.accounts import (
    Account,
    AccountKey,
    Balance,
    BudgetIndex,
    decide,
    dimensions_of,
    room,
)
from spanledger.ledger.store import (
    AttemptEnd,
    Budget,
    Hold,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
)

BUSY_TIMEOUT_S = 5.0
"""How long a batch waits for another process's transaction before it reports the ledger as down."""

NANOS = 1_000_000_000
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class EndRequest:
    """End a request outside a try."""

    start: RequestStart
    end: RequestEnd


@dataclass(frozen=True, slots=True)
class Sweep:
    """Renew this process's lease, and expire the holds of owners whose lease has ended."""

    now_ns: int
    max_hold_ns: int
    """No hold outlives this, whoever owns it."""


Operation = Reservation | AttemptEnd | EndRequest | Sweep
Result = Hold | Settled | int | None | SpanledgerError


def sqlite_path(url: str) -> Path:
    """The file a ledger URL means. Raises ConfigError for anything but `sqlite:///PATH`."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise ConfigError(
            f"ledger URL {url!r} is not supported; write sqlite:///PATH"
            " (four slashes for an absolute path)"
        )
    return Path(path)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database file with our settings; creates it unless `read_only`.

    Raises:
        LedgerUnavailableError: it cannot be opened or is not a database.
    """
    try:
        if read_only:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                timeout=BUSY_TIMEOUT_S,
                check_same_thread=False,
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailableError(f"cannot open the ledger {str(path)!r}: {error}") from error
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; each migration is one transaction, and runs once.

    Raises:
        LedgerUnavailableError: the file is newer than this program.
    """
    scripts = sorted(
        (
            f
            for f in files("spanledger.ledger").joinpath("migrations").iterdir()
            if f.name.endswith(".sql")
        ),
        key=lambda f: f.name,
    )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise LedgerUnavailableError(
            f"the ledger has schema version {version}, this program knows {len(scripts)}: upgrade it"
        )
    if version == len(scripts):
        return
    begin_immediate(connection)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for number, script in enumerate(scripts[version:], start=version + 1):
            for statement in _statements(script.read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def begin_immediate(connection: sqlite3.Connection, timeout_s: float = BUSY_TIMEOUT_S) -> None:
    """Take the write lock, asking often: SQLite's own waiting sleeps up to 100 ms at a time.

    Raises:
        LedgerUnavailableError: another process kept it longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                raise LedgerUnavailableError(
                    f"the ledger was locked by another process for {timeout_s:g} s"
                ) from error
            time.sleep(random.uniform(0.0002, 0.001))
        else:
            return


def _statements(script: str) -> list[str]:
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found


def budget_from_row(row: Sequence[object]) -> Budget:
    """A budget from `SELECT_BUDGETS`."""
    name, scope, subject, limit, period, timezone, action, thresholds, strict = row
    return Budget(
        name=str(name),
        scope=scope,  # type: ignore[arg-type]  # the table holds only what Budget allowed in
        subject=str(subject),
        limit_nano=limit,  # type: ignore[arg-type]  # INTEGER NOT NULL
        period=period,  # type: ignore[arg-type]  # as scope
        timezone=str(timezone),
        action=action,  # type: ignore[arg-type]  # as scope
        thresholds=tuple(json.loads(str(thresholds))),
        strict=bool(strict),
    )


SELECT_BUDGETS = """
SELECT name, scope, subject, limit_nano, period, timezone, action, thresholds, strict
FROM budgets"""

_INSERT_REQUEST = """
INSERT OR IGNORE INTO requests (request_id, trace_id, span_id, parent_span_id, owner, started_ns,
    customer, team, key_id, route, operation, stream, decision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_INSERT_ATTEMPT = """
INSERT INTO attempts (request_id, number, span_id, owner, state, started_ns, customer, team,
    key_id, deployment, provider, model, fallback_from, reason, hold_nano, price_id, decision,
    accounts)
VALUES (?, ?, ?, ?, 'held', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_FINISH_ATTEMPT = """
UPDATE attempts SET state = ?, ended_ns = ?, first_chunk_ns = ?, chunks = ?, response_model = ?,
    cost_nano = ?, overrun_nano = ?, estimated = ?, unpriced = ?, error_type = ?, http_status = ?,
    input_tokens = ?, output_tokens = ?, cache_read_tokens = ?, cache_write_tokens = ?,
    reasoning_tokens = ?, detail = ?, content = ?, corrected = ?, seq = ?
WHERE request_id = ? AND number = ? AND state = ?"""

_END_REQUEST = """
UPDATE requests SET outcome = ?, error_type = ?, http_status = ?, ended_ns = ?, refused_by = ?,
    refused_scope = ?, decision = CASE WHEN ? THEN 'deny' ELSE decision END, seq = ?,
    attempts = (SELECT count(*) FROM attempts a WHERE a.request_id = requests.request_id),
    cost_nano = (SELECT coalesce(sum(cost_nano), 0) FROM attempts a
                 WHERE a.request_id = requests.request_id)
WHERE request_id = ? AND (seq IS NULL OR outcome = 'abandoned')
RETURNING cost_nano"""


class SqliteStore:
    """The writing connection of one process, its identity as an owner of holds included."""

    def __init__(self, path: Path, owner: str, lease_ns: int, now_ns: Callable[[], int]) -> None:
        self.path = path
        self.owner = owner
        self._lease_ns = lease_ns
        self._lease_until_ns = 0
        self._now_ns = now_ns
        self._connection = connect(path)
        migrate(self._connection)
        self._budgets = BudgetIndex(())
        self._budgets_version = -1
        self._seq = 0
        self._balances: dict[AccountKey, Balance] = {}
        self._dirty: set[AccountKey] = set()

    def close(self) -> None:
        """Give up the lease when nothing is held any more, and close the file."""
        with suppress(sqlite3.Error):  # else the sweep of another process does it a lease later
            self._connection.execute(
                "DELETE FROM owners WHERE id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM attempts WHERE owner = ?1 AND state = 'held')",
                (self.owner,),
            )
        self._connection.close()

    def commit(self, operations: Sequence[Operation]) -> list[Result]:
        """Do all operations in one durable transaction; a refused one is its own result.

        Raises:
            LedgerUnavailableError: nothing was done.
        """
        try:
            return self._transaction(operations)
        except sqlite3.Error as error:
            self._rollback()
            raise LedgerUnavailableError(f"the ledger could not commit: {error}") from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _transaction(self, operations: Sequence[Operation]) -> list[Result]:
        begin_immediate(self._connection)
        self._balances.clear()
        self._dirty.clear()
        self._load_versions()
        first_seq = self._seq
        results = [self._apply(operation) for operation in operations]
        if self._dirty:
            self._connection.executemany(
                "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?, ?, ?, ?)",
                [self._balance_row(self._balances[key]) for key in self._dirty],
            )
        if self._seq != first_seq:
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'seq'", (self._seq,))
        self._connection.execute("COMMIT")
        return results

    @staticmethod
    def _balance_row(balance: Balance) -> tuple[object, ...]:
        return (
            *balance.key,
            balance.period_end_s,
            balance.spent_nano,
            balance.held_nano,
            balance.overrun_nano,
        )

    def _load_versions(self) -> None:
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        self._seq = meta["seq"]
        if meta["budgets_version"] != self._budgets_version:
            rows = self._connection.execute(SELECT_BUDGETS)
            self._budgets = BudgetIndex(budget_from_row(row) for row in rows)
            self._budgets_version = meta["budgets_version"]

    def _apply(self, operation: Operation) -> Result:
        try:
            match operation:
                case Reservation():
                    return self._reserve(operation)
                case AttemptEnd():
                    return self._finish(operation)
                case EndRequest():
                    self._end_request(operation.start, operation.end)
                    return None
                case Sweep():
                    return self._sweep(operation)
        except SpanledgerError as refusal:
            return refusal

    # reserve ------------------------------------------------------------------------------

    def _reserve(self, reservation: Reservation) -> Hold:
        request = reservation.request
        accounts = self._accounts(reservation)
        if accounts and not reservation.priced:
            raise UnpricedModelError(
                f"model {reservation.model!r} has no price and a budget applies"
                f" ({accounts[0].budget.name!r}): set input_cost_per_token and"
                f" output_cost_per_token on deployment {reservation.deployment!r}"
            )
        grant = decide(accounts, reservation.sizes)
        decision = ("warn" if grant.warned else "allow") if accounts else ""
        self._renew_lease(reservation.now_ns)
        if reservation.number == 1:
            self._insert_request(request, decision)
        elif decision == "warn":
            self._connection.execute(
                "UPDATE requests SET decision = 'warn' WHERE request_id = ?", (request.request_id,)
            )
        try:
            self._insert_attempt(reservation, grant.hold_nano, decision, accounts)
        except sqlite3.IntegrityError:
            return self._existing_hold(reservation, accounts)
        for account in accounts:
            account.balance.held_nano += grant.hold_nano
            self._dirty.add(account.balance.key)
        return Hold(
            attempt_id=reservation.attempt_id,
            hold_nano=grant.hold_nano,
            decision="warn" if grant.warned else "allow",
            warned=grant.warned,
            remaining_nano=grant.remaining_nano,
        )

    def _existing_hold(self, reservation: Reservation, accounts: Sequence[Account]) -> Hold:
        """A repeated reserve: what the first one held."""
        row = self._connection.execute(
            "SELECT hold_nano, decision FROM attempts WHERE request_id = ? AND number = ?",
            (reservation.request.request_id, reservation.number),
        ).fetchone()
        return Hold(
            attempt_id=reservation.attempt_id,
            hold_nano=row[0],
            decision="warn" if row[1] == "warn" else "allow",
            warned=(),
            remaining_nano=room(accounts),
        )

    def _accounts(self, reservation: Reservation) -> list[Account]:
        at_s = reservation.now_ns // NANOS
        accounts = []
        for budget, subject in self._budgets.match(dimensions_of(reservation)):
            period = self._budgets.period(budget, at_s)
            key = AccountKey(budget.name, subject, period.start_s)
            accounts.append(Account(budget, self._balance(key, period.end_s)))
        return accounts

    def _balance(self, key: AccountKey, period_end_s: int) -> Balance:
        """The balance as of this transaction; a new account starts at nothing."""
        balance = self._balances.get(key)
        if balance is None:
            row = self._connection.execute(
                "SELECT period_end_s, spent_nano, held_nano, overrun_nano FROM balances"
                " WHERE budget = ? AND subject = ? AND period_start_s = ?",
                key,
            ).fetchone()
            balance = Balance(key, *row) if row else Balance(key, period_end_s)
            if period_end_s > balance.period_end_s:  # the budget's period was changed since
                balance.period_end_s = period_end_s
            self._balances[key] = balance
        return balance

    def _insert_request(self, start: RequestStart, decision: str) -> None:
        self._connection.execute(
            _INSERT_REQUEST,
            (
                start.request_id,
                start.trace_id,
                start.span_id,
                start.parent_span_id,
                self.owner,
                start.started_ns,
                start.customer,
                start.team,
                start.key_id,
                start.route,
                start.operation,
                start.stream,
                decision,
            ),
        )

    def _insert_attempt(
        self, r: Reservation, hold_nano: int, decision: str, accounts: Sequence[Account]
    ) -> None:
        self._connection.execute(
            _INSERT_ATTEMPT,
            (
                r.request.request_id,
                r.number,
                r.span_id,
                self.owner,
                r.now_ns,
                r.request.customer,
                r.request.team,
                r.request.key_id,
                r.deployment,
                r.provider,
                r.model,
                r.fallback_from,
                r.reason,
                hold_nano,
                r.price_id,
                decision,
                json.dumps([account.balance.key for account in accounts]) if accounts else "[]",
            ),
        )

    # finish -------------------------------------------------------------------------------

    def _finish(self, end: AttemptEnd) -> Settled:
        request_id, _, number = end.attempt_id.rpartition(".")
        row = self._connection.execute(
            "SELECT state, hold_nano, cost_nano, overrun_nano, accounts FROM attempts"
            " WHERE request_id = ? AND number = ?",
            (request_id, int(number)),
        ).fetchone()
        if row is None:
            raise SpanledgerError(f"attempt {end.attempt_id!r} was never reserved")
        state, hold, charged, overran, accounts_json = row
        accounts = self._load_accounts(accounts_json)
        if state in ("held", "expired"):
            cost = end.cost_nano or 0
            overrun = max(0, cost - hold) if accounts else 0
            self._write_finish(end, request_id, int(number), state, cost, overrun)
            for balance in accounts:
                balance.held_nano -= hold if state == "held" else 0
                balance.spent_nano += cost - charged
                balance.overrun_nano += overrun - overran
                self._dirty.add(balance.key)
        else:  # a repeat: the first word stands
            cost, overrun = charged, overran
        request_cost = cost
        if end.request is not None:
            request_cost = self._close_request(request_id, end.request)
        elif state == "expired":
            self._correct_request(request_id)
        return Settled(cost, overrun, request_cost, self._remaining(accounts))

    def _write_finish(
        self, end: AttemptEnd, request_id: str, number: int, state: str, cost: int, overrun: int
    ) -> None:
        self._seq += 1
        self._connection.execute(
            _FINISH_ATTEMPT,
            (
                "released" if end.cost_nano is None else "settled",
                end.ended_ns,
                end.first_chunk_ns,
                end.chunks,
                end.response_model,
                cost,
                overrun,
                end.estimated,
                end.unpriced,
                end.error_type,
                end.http_status,
                end.input_tokens,
                end.output_tokens,
                end.cache_read_tokens,
                end.cache_write_tokens,
                end.reasoning_tokens,
                end.detail,
                end.content,
                state == "expired",
                self._seq,
                request_id,
                number,
                state,
            ),
        )

    def _load_accounts(self, accounts_json: str) -> list[Balance]:
        if accounts_json == "[]":
            return []
        return [self._balance(AccountKey(*key), 0) for key in json.loads(accounts_json)]

    def _remaining(self, balances: Sequence[Balance]) -> int | None:
        budgets = self._budgets.by_name
        return room(
            [Account(budgets[b.key.budget], b) for b in balances if b.key.budget in budgets]
        )

    # requests -----------------------------------------------------------------------------

    def _end_request(self, start: RequestStart, end: RequestEnd) -> None:
        self._insert_request(start, "")
        self._close_request(start.request_id, end)

    def _close_request(self, request_id: str, end: RequestEnd) -> int:
        self._seq += 1
        row = self._connection.execute(
            _END_REQUEST,
            (
                end.outcome,
                end.error_type,
                end.http_status,
                end.ended_ns,
                end.refused_by,
                end.refused_scope,
                end.outcome == "refused",
                self._seq,
                request_id,
            ),
        ).fetchone()
        return row[0] if row else 0

    def _correct_request(self, request_id: str) -> None:
        """A try was corrected after its request had ended: the total follows, and ships again."""
        self._seq += 1
        self._connection.execute(
            "UPDATE requests SET seq = ?1, cost_nano = (SELECT sum(cost_nano) FROM attempts a"
            " WHERE a.request_id = requests.request_id) WHERE request_id = ?2 AND seq IS NOT NULL",
            (self._seq, request_id),
        )

    # leases -------------------------------------------------------------------------------

    def _renew_lease(self, now_ns: int) -> None:
        """Hold a lease that lasts: a process that slept past it takes a new one with its hold."""
        if self._lease_until_ns - now_ns < self._lease_ns // 2:
            self._lease_until_ns = now_ns + self._lease_ns
            self._connection.execute(
                "INSERT OR REPLACE INTO owners VALUES (?, ?)", (self.owner, self._lease_until_ns)
            )

    def _sweep(self, sweep: Sweep) -> int:
        """Expire holds nobody renews: charged in full, as the outcome is unknown."""
        self._renew_lease(sweep.now_ns)
        lapsed = self._connection.execute(
            "SELECT request_id, number, hold_nano, accounts FROM attempts WHERE state = 'held'"
            " AND (started_ns < ?1 OR owner NOT IN (SELECT id FROM owners WHERE lease_ns >= ?2))",
            (sweep.now_ns - sweep.max_hold_ns, sweep.now_ns),
        ).fetchall()
        for request_id, number, hold, accounts_json in lapsed:
            self._seq += 1
            self._connection.execute(
                "UPDATE attempts SET state = 'expired', ended_ns = ?, cost_nano = hold_nano,"
                " estimated = 1, error_type = 'expired', seq = ?"
                " WHERE request_id = ? AND number = ?",
                (sweep.now_ns, self._seq, request_id, number),
            )
            for balance in self._load_accounts(accounts_json):
                balance.held_nano -= hold
                balance.spent_nano += hold
                self._dirty.add(balance.key)
        running = self._connection.execute(
            "SELECT request_id FROM requests WHERE seq IS NULL AND (started_ns < ?1"
            " OR owner NOT IN (SELECT id FROM owners WHERE lease_ns >= ?2))",
            (sweep.now_ns - sweep.max_hold_ns, sweep.now_ns),
        ).fetchall()
        for (request_id,) in running:
            self._close_request(request_id, RequestEnd("abandoned", "abandoned", 0, sweep.now_ns))
        self._connection.execute("DELETE FROM owners WHERE lease_ns < ?", (sweep.now_ns,))
        return len(lapsed)
