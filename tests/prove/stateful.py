"""The random operations of the ledger's property test, for longer and with more that may happen.

Besides what that test has (reservations, ends, sweeps, budgets and periods that change, clocks that
jump): reservations that are asked again, further attempts of a request, holds that outlive their
request, gateways that start again, several operations in one transaction, a shipper, and copies into
the other kind of database. A copy begins while gateways serve, may be killed, and is the ledger from
then on; the model does not know about it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from spanledger.budgets.model import HoldSizes
from spanledger.errors import BudgetExceededError, SpanledgerError
from spanledger.ledger import copying
from spanledger.ledger.copying import InUseError, copy_ledger
from spanledger.ledger.model import (
    AttemptEnd,
    EndRequest,
    Hold,
    Later,
    RequestEnd,
    Settled,
    Sweep,
)
from spanledger.ledger.ports import Store
from spanledger.ledger.rows import Advance, AttemptRow, EndedRow
from tests.prove.proof import BrokenPromiseError, Counts, Scenario
from tests.service.ledger.stores import new_store, raw, remove_store
from tests.service.ledger.test_properties import (
    LEASE_NS,
    LIMIT,
    SECOND,
    LedgerMachine,
    Tracked,
)
from tests.support import postgres

EXAMPLES = 20
STEPS = 60
COPY_CHUNK = 3
"""Requests in one transaction of a copy, so that one takes several."""


class KilledError(Exception):
    """The process that copies is gone."""


class Machine(LedgerMachine):
    """The property test's machine, with more rules."""

    steps: ClassVar[Counts] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.names = ["owner0", "owner1"]
        self.started = 0
        self.owners: dict[int, str] = {}
        """The name of an attempt's gateway, once it has another one."""
        self.late: dict[int, Later] = {}
        self.followed: set[int] = set()
        """Attempts after which their request went on with another one."""
        self.ships = True
        self.target: Store | None = None
        """A copy that is not complete."""

    def teardown(self) -> None:
        """Delete the copy as well."""
        super().teardown()
        if self.target is not None:
            remove_store(self.target)

    def owner_of(self, number: int) -> str:
        """The name under which an attempt was reserved."""
        return self.owners.get(number, self.names[self.model[number].owner])

    def held(self, number: int) -> bool:
        """Whether an attempt is held."""
        return self.model[number].state == "held"

    # what may happen besides --------------------------------------------------------------

    @rule(number=LedgerMachine.attempts, by=st.integers(0, 1))
    def ask_again(self, number: int, by: int) -> None:
        """A reservation whose answer was lost is repeated: it gets the first hold."""
        attempt = self.model[number]
        if attempt.state == "refused":
            return
        again = structs.replace(attempt.reservation, repeat=True, now_ns=self.now)
        [hold] = self.stores[by].commit([again])
        assert isinstance(hold, Hold)
        assert hold.hold_nano == attempt.hold
        self.count("asked again")

    @rule(number=LedgerMachine.attempts, share=st.floats(0, 1), hours=st.sampled_from([1, 24]))
    def put_off(self, number: int, share: float, hours: int) -> None:
        """A request ends while its attempt stays held, until a time of its own."""
        attempt = self.model[number]
        if not self.held(number) or number in self.late:
            return
        self.count("put off")
        later = Later(self.now + hours * 3_600 * SECOND, int(attempt.hold * share))
        end = RequestEnd("ok", "", 200, self.now)
        self.stores[attempt.owner].commit(
            [EndRequest(attempt.reservation.request, end, later=later)]
        )
        self.late[number] = later

    @rule(number=LedgerMachine.attempts, by=st.integers(0, 1), cost=st.integers(0, LIMIT))
    def learn(self, number: int, by: int, cost: int) -> None:
        """Whichever gateway reads a late answer settles its attempt."""
        attempt = self.model[number]
        if number not in self.late:
            return
        end = AttemptEnd(attempt.reservation.attempt_id, self.now, cost, late=True)
        [settled] = self.stores[by].commit([end])
        assert isinstance(settled, Settled)
        if attempt.state in ("held", "expired"):
            attempt.state, attempt.cost = "ended", cost
            attempt.overrun = max(0, cost - attempt.hold) if attempt.accounts else 0
        assert settled.cost_nano == attempt.cost
        self.count("learned late")

    @rule(
        target=LedgerMachine.attempts,
        number=LedgerMachine.attempts,
        cost=st.none() | st.integers(0, LIMIT),
        hold=st.integers(0, LIMIT),
    )
    def fall_back(self, number: int, cost: int | None, hold: int) -> object:
        """An attempt fails, and its request goes on with another one, if there is room for that."""
        failed = self.model[number]
        if not self.held(number) or number in self.late:
            return multiple()
        by, first = failed.owner, failed.reservation
        self.stores[by].commit([AttemptEnd(first.attempt_id, self.now, cost, error_type="503")])
        failed.state, failed.cost = "ended", cost or 0
        failed.overrun = max(0, failed.cost - failed.hold) if failed.accounts else 0
        sizes = HoldSizes(hold, hold, hold)
        span_id = f"{2**32 + len(self.model):016x}"
        second = structs.replace(
            first, number=first.number + 1, span_id=span_id, now_ns=self.now, sizes=sizes
        )
        attempt = Tracked(second, by, hold)
        rooms = []
        for budget in self.budgets.values():
            if account := self.account(budget, attempt, self.now):
                attempt.accounts.add(account)
                if budget.action == "block":
                    rooms.append(budget.limit_nano - self.used(account))
        [result] = self.stores[by].commit([second])
        if hold > min(rooms, default=hold):
            assert isinstance(result, BudgetExceededError)
            end = RequestEnd("refused", "budget_exceeded", 429, self.now)
            self.stores[by].commit([EndRequest(first.request, end)])
            return multiple()
        assert isinstance(result, Hold)
        self.followed.add(number)
        self.model.append(attempt)
        self.count("fell back")
        return len(self.model) - 1

    @precondition(lambda self: self.model)
    @rule(number=st.integers(0, 1))
    def start_again(self, number: int) -> None:
        """A gateway stops, and its successor has another name."""
        self.take_off(number)
        self.open_writer(number)
        self.count("started again")

    @rule(
        numbers=st.lists(LedgerMachine.attempts, min_size=2, max_size=5, unique=True),
        by=st.integers(0, 1),
        cost=st.none() | st.integers(0, LIMIT),
    )
    def finish_some(self, numbers: list[int], by: int, cost: int | None) -> None:
        """One transaction ends several attempts of both gateways, some for the second time."""
        odd = self.followed | self.late.keys()
        known = [n for n in numbers if self.model[n].state != "refused" and n not in odd]
        leases = self.leases()
        request = RequestEnd("ok", "", 200, self.now)
        ends = [
            AttemptEnd(self.model[n].reservation.attempt_id, self.now, cost, request=request)
            for n in known
        ]
        results = self.stores[by].commit([*ends, Sweep(self.now, 10**18)])
        assert not [result for result in results if isinstance(result, SpanledgerError)]
        for number in known:
            attempt = self.model[number]
            if attempt.state in ("held", "expired"):
                attempt.state, attempt.cost = "ended", cost or 0
                attempt.overrun = max(0, attempt.cost - attempt.hold) if attempt.accounts else 0
        self.count("ended together")
        self.expire(by, leases)

    # shipper and copies -------------------------------------------------------------------

    @initialize(ships=st.booleans())
    def choose(self, ships: bool) -> None:
        """Some ledgers have no shipper, so that all that has ended is final."""
        self.ships = ships
        self.records.set_ships(ships=ships)

    @rule(most=st.sampled_from([1, 3, 1_000]))
    def ship(self, most: int) -> None:
        """A collector accepts the next rows."""
        if not self.ships:
            return
        with closing(self.store.outbox()) as outbox:
            cursor = outbox.cursor()
            rows = outbox.read_after(cursor, most)
            if rows:
                again = [row for row in rows if _may_be_corrected(row)]
                outbox.advance(Advance(cursor, cursor.past(rows), remembered=again))
        self.count("shipped")

    @rule(stop=st.booleans(), killed_after=st.sampled_from([0, 1, 2, 100, 100]))
    def copy(self, stop: bool, killed_after: int) -> None:
        """The ledger moves into the other kind of database, once its gateways have stopped."""
        if self.target is None:
            folder = tempfile.mkdtemp(dir=self.folder.name)
            self.target = new_store(other_kind(self.kind), Path(folder))
        if stop:
            self.stop_all()
        last_lease = max(self.leases().values(), default=0)
        left = killed_after

        def progress(_done: int, _total: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        try:
            found = copy_ledger(self.store, self.target, progress, lambda: self.now)
        except KilledError:
            self.count("copies killed")
        except InUseError:
            assert self.now < last_lease
            self.count("copied while serving")
        else:
            assert not stop or last_lease < self.now
            assert found.problems == []
            self.go_on_with(self.target)
            return
        if stop:
            self.open_writers()

    def stop_all(self) -> None:
        """Both gateways stop, and what they have left is nobody's any more."""
        for number in range(2):
            self.take_off(number)
        latest = max(self.leases().values(), default=0)
        self.now = max(self.now, latest + SECOND)

    def go_on_with(self, copy: Store) -> None:
        """The copy is the ledger now."""
        self.count(f"moved from {self.kind}")
        for number in range(2):
            self.take_off(number)
        self.records.close()
        remove_store(self.store)
        self.store, self.target, self.kind = copy, None, other_kind(self.kind)
        self.records = self.store.records("create")
        self.open_writers()

    def take_off(self, number: int) -> None:
        """A gateway stops; its successor is to have another name."""
        for known, attempt in enumerate(self.model):
            if attempt.owner == number:
                self.owners.setdefault(known, self.names[number])
        self.stores[number].close()

    def open_writers(self) -> None:
        """Both gateways start again."""
        for number in range(2):
            self.open_writer(number)

    def open_writer(self, number: int) -> None:
        """A gateway starts under a new name."""
        self.started += 1
        self.names[number] = f"owner{number}.{self.started}"
        self.stores[number] = self.store.writer(self.names[number], LEASE_NS, lambda: self.now)

    # what is different then ---------------------------------------------------------------

    @rule(number=LedgerMachine.attempts, cost=st.none() | st.integers(0, LIMIT))
    def finish(self, number: int, cost: int | None) -> None:
        """End an attempt whose request has not ended before it."""
        if number not in self.late and number not in self.followed:
            super().finish(number, cost)

    @rule(by=st.integers(0, 1))
    def sweep(self, by: int) -> None:
        """One gateway renews its lease and expires what others left."""
        leases = self.leases()
        self.stores[by].commit([Sweep(self.now, 10**18)])
        self.expire(by, leases)

    def expire(self, by: int, leases: dict[str, int]) -> None:
        """Expire in the model what a sweep has expired, by the leases before it."""
        for number, attempt in enumerate(self.model):
            if attempt.state != "held":
                continue
            if number in self.late:
                if self.late[number].until_ns < self.now:
                    attempt.state, attempt.cost = "expired", self.late[number].expected_nano
            else:
                name = self.owner_of(number)
                if name != self.names[by] and not self.now <= leases.get(name, 0):
                    attempt.state, attempt.cost = "expired", attempt.hold

    def leases(self) -> dict[str, int]:
        """Until when each gateway is known to live."""
        return {str(name): int(until) for name, until in raw(self.store, LEASES)}

    def count(self, what: str) -> None:
        """Count a step."""
        type(self).steps[what] += 1


def other_kind(kind: str) -> str:
    """The kind of database that a copy is made in; files alone if there is no server."""
    return "postgres" if kind == "sqlite" and postgres.binaries() else "sqlite"


def _may_be_corrected(row: EndedRow) -> bool:
    """Whether a row may come again with another cost."""
    if isinstance(row, AttemptRow):
        return row.state == "expired"
    return row.outcome == "abandoned" or bool(row.open)


LEASES = "SELECT id, lease_ns FROM owners WHERE id IS NOT NULL"


class Stateful(Scenario):
    """The scenario: a seed is a number of examples."""

    def __init__(self, kind: str, examples: int = EXAMPLES) -> None:
        self.kind, self.examples = kind, examples

    def run(self, seed: int, folder: Path) -> Counts:  # noqa: ARG002 - hypothesis has folders of its own
        """See `Scenario`."""
        steps: Counts = Counter()
        machine = type("Machine", (Machine,), {"kind": self.kind, "steps": steps})
        machine._hypothesis_internal_use_seed = seed  # type: ignore[attr-defined]  # as `@seed` does
        options = settings(
            max_examples=self.examples,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            with patch.object(copying, "CHUNK", COPY_CHUNK):
                run_state_machine_as_test(machine, settings=options)
        except AssertionError as error:
            raise BrokenPromiseError(
                "\n".join([str(error), *getattr(error, "__notes__", ())])
            ) from error
        return Counter({"examples": self.examples}) + steps
