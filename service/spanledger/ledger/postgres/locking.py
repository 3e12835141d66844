"""A batch that locks the balances, reads them, and decides on what they are: two round trips.

The first locks the owner's row and the balances, in one order everywhere; decisions are made while they
are locked. The second writes all rows and commits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

from spanledger.budgets.accounts import AccountKey, Balance, account_keys
from spanledger.budgets.periods import period_at
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.budget_rows import budget_from_row
from spanledger.ledger.changes import Changes
from spanledger.ledger.engine import (
    MAX_READ_CHANGES,
    Booked,
    Lapsed,
    LapsedHold,
    ReadBudgets,
)
from spanledger.ledger.model import Sweep
from spanledger.ledger.postgres import statements
from spanledger.ledger.postgres.arrays import integers, texts
from spanledger.ledger.postgres.batch import NOT_READ, Batch, Cursor, KnownBalance
from spanledger.ledger.postgres.errors import BeginAgainError
from spanledger.ledger.postgres.migrate import known_version


class LockingBatch(Batch):
    """Balances stay locked from when they are read until the transaction ends."""

    _state: Cursor | None = None
    _changed: Iterable[Balance] = ()

    def _begin(self) -> None:
        owner = self._owner
        self._changed = ()
        self._open()
        self._execute(statements.BEGIN_BATCH, (owner.lane, owner.id, owner.batch, 1))
        self._state = self._execute(statements.SELECT_STATE)
        if self.budgets_version == NOT_READ:
            self._check_state()

    def _check_state(self) -> None:
        """Look at what was believed when the batch began, with the next answer that is waited for."""
        if self._state is None:
            return
        state: dict[str, int] = dict(self._state.fetchall())
        self._state = None
        if state["schema_version"] > known_version():
            raise LedgerUnavailableError(
                f"the ledger was upgraded to schema version {state['schema_version']}, but this"
                f" program only knows {known_version()}: restart it with the new version"
            )
        version = self._memory.budgets_version = state["budgets_version"]
        if self.budgets_version not in (NOT_READ, version):
            raise BeginAgainError
        self.budgets_version = version

    # reads --------------------------------------------------------------------------------

    def budgets(self, since: int) -> ReadBudgets:
        """See `Transaction`."""
        [(last,)] = self._execute(statements.LAST_CHANGE).fetchall()
        names: list[str] | None = None
        if 0 < since <= last:
            found = self._execute(statements.CHANGED_BUDGETS, (since, MAX_READ_CHANGES + 1))
            names = [name for (name,) in found.fetchall()]
        if names is None or len(names) > MAX_READ_CHANGES:
            names, cursor = None, self._execute(statements.READ_BUDGETS)
        else:
            cursor = self._execute(statements.READ_THESE_BUDGETS, (texts(names),))
        return ReadBudgets(last, names, [budget_from_row(row) for row in cursor.fetchall()])

    def booked(self, ids: Collection[str]) -> Mapping[str, Booked]:
        """See `Transaction`."""
        parts = [attempt_id.rpartition(".") for attempt_id in ids]
        cursor = self._execute(
            statements.BOOKED,
            (texts(part[0] for part in parts), integers(part[2] for part in parts)),
        )
        self._check_state()
        return {
            f"{request_id}.{number}": Booked(
                state, hold, cost, overrun, account_keys(accounts), rule
            )
            for request_id, number, state, hold, cost, overrun, accounts, rule in cursor.fetchall()
        }

    def lapsed(self, sweep: Sweep) -> Lapsed:
        """See `Transaction`."""
        moments = {
            "oldest": sweep.now_ns - sweep.max_hold_ns,
            "now": sweep.now_ns,
            "latest": sweep.now_ns + sweep.max_hold_ns,
            "owner": self._owner.id,
        }
        holds = self._execute(statements.LAPSED, moments)
        requests = self._execute(statements.LEFT, moments)
        self._check_state()
        return Lapsed(
            [
                LapsedHold(request_id, number, hold, cost, account_keys(accounts), rule)
                for request_id, number, hold, cost, accounts, rule in holds.fetchall()
            ],
            [request_id for (request_id,) in requests.fetchall()],
        )

    def balances(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Balance]:
        """See `Transaction`."""
        known = self._memory.accounts
        new = [key for key in keys if key not in known]
        found = {} if new else self._lock({known[key].id: key for key in keys})
        if len(found) < len(keys):  # new ones, or the ledger was restored from a backup
            found = self._lock_new(keys, new or keys)
        self._read.update(found)
        return {key: balance.of(key) for key, balance in found.items()}

    def _lock(self, by_id: Mapping[int, AccountKey]) -> dict[AccountKey, KnownBalance]:
        cursor = self._execute(statements.LOCK_BALANCES, (integers(by_id),))
        self._check_state()
        return {by_id[row[0]]: KnownBalance(*row) for row in cursor.fetchall()}

    def _lock_new(
        self, keys: Collection[AccountKey], new: Collection[AccountKey]
    ) -> dict[AccountKey, KnownBalance]:
        """The same for accounts that nobody may have opened yet."""
        ends = [period_at(key.period, key.timezone, key.period_start_s).end_s for key in new]
        self._execute(statements.OPEN_ACCOUNTS, (*_key_columns(new), integers(ends)))
        cursor = self._execute(statements.LOCK_NEW_BALANCES, _key_columns(keys))
        self._check_state()
        width = len(AccountKey._fields)
        return {AccountKey(*row[:width]): KnownBalance(*row[width:]) for row in cursor.fetchall()}

    # writes -------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """See `Transaction`."""
        self._check_state()
        self._write_rows(changes)
        if moved := self._moved(changes.balances):
            keys, *amounts = zip(*moved, strict=True)
            ids = integers(self._read[key].id for key in keys)
            self._execute(statements.CHANGE_BALANCES, (ids, *map(integers, amounts)))
        self._changed = changes.balances
        self._pace(changes.balances)
        if changes.sweep is not None and changes.sweep.used:
            used = dict(changes.sweep.used)
            self._execute(statements.USE_KEYS, (texts(used), integers(used.values())))
        if changes.seq != self.seq or changes.lease_until_ns:
            self.seq = changes.seq
            lease = changes.lease_until_ns or None
            self._execute(statements.END_BATCH, (self.seq, lease, self._owner.lane))

    def _pace(self, balances: Iterable[Balance]) -> None:
        """Write when accounts near their limit let requests through; they are locked."""
        found = [b for b in balances if b.paced != self._read[b.key].paced]
        if found:
            ids = integers(self._read[balance.key].id for balance in found)
            self._execute(statements.PACE, (ids, texts(balance.paced for balance in found)))

    def _remember(self) -> None:
        self._memory.accounts.update(self._read)
        for balance in self._changed:
            key = balance.key
            self._memory.accounts[key] = self._read[key]._replace(
                spent_nano=balance.spent_nano,
                held_nano=balance.held_nano,
                overrun_nano=balance.overrun_nano,
                paced=balance.paced,
            )


def _key_columns(keys: Collection[AccountKey]) -> list[str]:
    return [
        integers(values) if name == "period_start_s" else texts(cast("Iterable[str]", values))
        for name, values in zip(AccountKey._fields, zip(*keys, strict=True), strict=True)
    ]
