"""Random operations on budgets, compared with a model too simple to be wrong."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import AttemptEnd, Hold, RequestEnd, RequestStart, Reservation, Sweep
from tests.service.budgets.wall_clock import WEEKDAYS, Label, label, shown_label
from tests.service.ledger.stores import KINDS, new_store, raw, remove_store

EXAMPLES = {"sqlite": 60, "postgres": 12}
"""Courses of events; `make prove` runs more."""
LIMIT = 1_000
LEASE_NS = 30 * 10**9
SECOND = 10**9
DAY_S = 86_400
MOMENTS = [
    int(datetime.fromisoformat(text).timestamp()) * SECOND
    for text in (
        "2026-11-23T12:00Z",
        "2026-11-30T22:59Z",  # Berlin's month ends, an hour before UTC's
        "2026-12-31T23:59Z",  # within ISO week 53
        "2026-03-28T22:30Z",  # Berlin's day of 23 hours begins
        "2026-10-24T21:30Z",  # and that of 25
    )
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Abidjan"]
PERIODS = [
    "day",
    "week",
    "month",
    "week/sunday",
    "month/24",
    "month/31",
    "quarter",
    "year",
    "5h@2026-11-23T08:30",
    "10d@2026-03-24",
    "once@2026-11-23..2026-11-30",
    "once@2026-11-24",
    "day[2026-11-24..]",
    "week[..2026-11-25T10:00]",
]
ANCHORS = [
    "2026-03-24",
    "2026-03-28T23:30",
    "2026-10-25T02:30:30",
    "2026-11-23T08:30",
    "2026-11-26",
    "2026-12-01",
    "2027-01-01T00:00:01",
]
"""What clocks show, in order, near those moments."""


@st.composite
def any_period(draw: st.DrawFn) -> str:
    """The text of any kind of period, which may begin or end near one of the moments."""
    since, until = sorted(
        draw(st.lists(st.sampled_from(ANCHORS), min_size=2, max_size=2, unique=True))
    )
    kind = draw(st.sampled_from(["word", "week", "month", "hours", "days", "once"]))
    text = {
        "word": draw(st.sampled_from(["day", "week", "month", "quarter", "year"])),
        "week": f"week/{draw(st.sampled_from(WEEKDAYS[1:]))}",
        "month": f"month/{draw(st.integers(2, 31))}",
        "hours": f"{draw(st.integers(1, 200))}h@{since}",
        "days": f"{draw(st.integers(1, 50))}d@{since}",
        "once": draw(st.sampled_from([f"once@{since}", f"once@{since}..{until}"])),
    }[kind]
    valid = ["", "", f"[{since}..]", f"[..{until}]", f"[{since}..{until}]"]
    return text if kind == "once" else text + draw(st.sampled_from(valid))


SUBJECTS: dict[str, list[str]] = {
    "customer": ["*", "acme", "red"],
    "team": ["*", "red"],
    "model": ["*", "m1"],
    "global": ["*"],
}


class Account(NamedTuple):
    """An account in the model, with its key spelled out independently."""

    budget: str
    scope: str
    period: str
    timezone: str
    counts: Label
    """Its period, as a wall clock shows it."""
    subject: str


@dataclass
class Tracked:
    """An attempt in the model: what it held, how it ended, and what counts it."""

    reservation: Reservation
    owner: int
    hold: int
    accounts: set[Account] = field(default_factory=set)
    state: str = "held"
    cost: int = 0
    overrun: int = 0

    @property
    def subjects(self) -> dict[str, str]:
        """The dimensions it counts under."""
        request = self.reservation.request
        return {
            "customer": request.customer,
            "team": request.team,
            "model": self.reservation.model,
            "global": "*",
        }


class LedgerMachine(RuleBasedStateMachine):
    """Two gateways on one ledger reserve, finish, repeat, die and sleep, in any order, while people
    set, change and remove budgets and the clock moves either way."""

    kind = KINDS[0]
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = new_store(self.kind, Path(self.folder.name))
        self.now = MOMENTS[0]
        self.went_back = False
        self.records = self.store.records("create")
        self.stores = [self.store.writer(f"owner{n}", LEASE_NS, lambda: self.now) for n in range(2)]
        self.model: list[Tracked] = []
        self.budgets: dict[str, Budget] = {}

    def teardown(self) -> None:
        """Close both gateways."""
        for store in self.stores:
            store.close()
        self.records.close()
        remove_store(self.store)
        self.folder.cleanup()

    # time ---------------------------------------------------------------------------------

    @initialize(moment=st.sampled_from(MOMENTS))
    def begin(self, moment: int) -> None:
        """Jump to a calendar edge."""
        self.now = moment
        self.set_budget("each", "customer", 0, LIMIT, "day", "UTC", "block")
        self.set_budget("all", "global", 0, LIMIT * 3 // 2, "month", "UTC", "block")

    @rule(seconds=st.sampled_from([1, 20, 40, 3_600, DAY_S, 6 * DAY_S]))
    def sleep(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds * SECOND

    @rule(seconds=st.sampled_from([5, 25, 3_600, DAY_S]))
    def set_back(self, seconds: int) -> None:
        """The clock is corrected."""
        self.now -= seconds * SECOND
        self.went_back = True

    # budgets ------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(["each", "all", "other"]),
        scope=st.sampled_from(["customer", "team", "model", "global"]),
        which=st.integers(0, 2),
        limit=st.integers(0, 3 * LIMIT),
        period=st.sampled_from(PERIODS) | any_period(),
        timezone=st.sampled_from(ZONES),
        action=st.sampled_from(["block", "block", "warn"]),
    )
    def set_budget(
        self,
        name: str,
        scope: str,
        which: int,
        limit: int,
        period: str,
        timezone: str,
        action: str,
    ) -> None:
        """A budget is new or replaced: it counts the entire period, including attempts in flight."""
        subject = SUBJECTS[scope][which % len(SUBJECTS[scope])]
        budget = Budget(name, scope, subject, limit, period, timezone, action)  # type: ignore[arg-type]  # one of two words
        self.put(budget)

    @rule(
        name=st.sampled_from(["each", "all", "other"]),
        change=st.sampled_from(
            [
                {"limit_nano": 0},
                {"limit_nano": LIMIT},
                {"period": "day"},
                {"period": "week"},
                {"period": "month"},
                *({"period": period} for period in PERIODS),
                {"timezone": "UTC"},
                {"timezone": "Africa/Abidjan"},
            ]
        ),
    )
    def change_budget(self, name: str, change: dict[str, object]) -> None:
        """One field of a budget changes."""
        if name in self.budgets:
            self.put(replace(self.budgets[name], **change))  # type: ignore[arg-type]  # fields of Budget

    def put(self, budget: Budget) -> None:
        """Set it in the ledger and in the model."""
        self.records.set_budgets([budget], self.now)
        before = self.budgets.get(budget.name)
        self.budgets[budget.name] = budget
        if (
            before is None
            or before.subject != budget.subject
            or budget_key(before) != budget_key(budget)
        ):
            for attempt in self.model:
                account = self.account(budget, attempt, attempt.reservation.now_ns)
                if account and account == self.account(budget, attempt, self.now):
                    attempt.accounts.add(account)

    @rule(name=st.sampled_from(["each", "all", "other"]))
    def remove_budget(self, name: str) -> None:
        """Remove a budget: it limits nothing anymore."""
        removed = self.records.remove_budget(name, self.now)
        assert removed == self.budgets.pop(name, None)

    @staticmethod
    def account(budget: Budget, attempt: Tracked, at_ns: int) -> Account | None:
        """The account of a budget that an attempt at a given time would count on."""
        subject = attempt.subjects[budget.scope]
        if not subject or budget.subject not in ("*", subject):
            return None
        counts = label(budget.period, budget.timezone, at_ns // SECOND)
        return Account(*budget_key(budget), counts, subject) if counts else None

    # attempts --------------------------------------------------------------------------------

    @rule(
        target=attempts,
        owner=st.integers(0, 1),
        customer=st.sampled_from(["acme", "globex", "red"]),
        team=st.sampled_from(["", "red"]),
        model=st.sampled_from(["m1", "m2"]),
        full=st.integers(0, LIMIT),
        usual=st.integers(0, LIMIT),
    )
    def reserve(
        self, owner: int, customer: str, team: str, model: str, full: int, usual: int
    ) -> int:
        """Request a hold; the answer must match the model's sums."""
        number = len(self.model)
        usual = min(full, usual)
        start = RequestStart(
            f"req_{number:024x}", f"{number:032x}", f"{number:016x}", "", self.now, customer, team, "",
            "chat", "chat", False,
        )  # fmt: skip
        sizes = HoldSizes(full, usual, usual)
        reservation = Reservation(
            start, 1, f"{number:016x}", self.now, "d", "openai", model, sizes, True, "p"
        )
        attempt = Tracked(reservation, owner, 0)
        room = None
        for budget in self.budgets.values():
            account = self.account(budget, attempt, self.now)
            if account is None:
                continue
            attempt.accounts.add(account)
            if budget.action == "block":
                left = budget.limit_nano - self.used(account)
                room = left if room is None else min(room, left)
        [result] = self.stores[owner].commit([reservation])
        if room is not None and usual > room:
            assert isinstance(result, BudgetExceededError)
            attempt.state = "refused"
            attempt.accounts.clear()
        else:
            assert isinstance(result, Hold)
            roomy = room is None or (full <= room and (full == usual or full * 10 <= room))
            assert result.hold_nano == (full if roomy else usual)
            self.check_remaining(
                result.remaining_nano, None if room is None else room - result.hold_nano
            )
            attempt.hold = result.hold_nano
        self.model.append(attempt)
        return number

    def check_remaining(self, told: int | None, left: int | None) -> None:
        """What is left after a hold is right; where gateways share a database, as of their last batch."""
        if self.kind == "sqlite":
            assert told == left
        else:
            assert (told is None) == (left is None)
            assert told is None or told >= 0

    def used(self, account: Account) -> int:
        """Spent and held of an account, from the model alone."""
        spent, held, _ = sums(self.counted(account))
        return spent + held

    def counted(self, account: Account) -> list[Tracked]:
        """The attempts an account counts."""
        return [attempt for attempt in self.model if account in attempt.accounts]

    @rule(number=attempts, cost=st.none() | st.integers(0, LIMIT))
    def finish(self, number: int, cost: int | None) -> None:
        """End an attempt, possibly one already ended or expired, possibly above its hold."""
        attempt = self.model[number]
        if attempt.state == "refused":
            return
        end = AttemptEnd(
            attempt.reservation.attempt_id,
            self.now,
            cost,
            request=RequestEnd("ok", "", 200, self.now),
        )
        self.stores[attempt.owner].commit([end, structs.replace(end, cost_nano=0)])
        if attempt.state in ("held", "expired"):
            attempt.state = "ended"
            attempt.cost = cost or 0
            attempt.overrun = max(0, attempt.cost - attempt.hold) if attempt.accounts else 0

    @rule(number=consumes(attempts))
    def forget(self, number: int) -> None:
        """Abandon an attempt: only the sweep can end it."""

    @rule(by=st.integers(0, 1))
    def sweep(self, by: int) -> None:
        """One gateway renews its lease and expires what the other left."""
        lapsed = not self.now <= self.lease_of(1 - by)
        self.stores[by].commit([Sweep(self.now, 10**18)])
        if lapsed:
            for attempt in self.model:
                if attempt.owner == 1 - by and attempt.state == "held":
                    attempt.state = "expired"
                    attempt.cost = attempt.hold

    def lease_of(self, owner: int) -> int:
        """The lease as it is stored, as the sweep sees it; a gateway itself may know less."""
        query = "SELECT coalesce(max(lease_ns), 0) FROM owners WHERE id = ?"
        ((until_ns,),) = raw(self.store, query, f"owner{owner}")
        return int(until_ns)

    # invariants --------------------------------------------------------------------------

    @invariant()
    def adds_up(self) -> None:
        """The ledger verifies, and its sums are the model's."""
        reports = self.store.reports()
        found = reports.verify()
        states = reports.budget_states(self.now // SECOND)
        reports.close()
        assert found.problems == []
        assert found.spent_nano == sum(t.cost for t in self.model)
        assert found.held_nano == sum(t.hold for t in self.model if t.state == "held")

        shown: dict[str, dict[str, tuple[int, int, int]]] = defaultdict(dict)
        for state in states:
            about = (state.budget.period, state.budget.timezone, self.now // SECOND)
            assert state.counts_at(self.now // SECOND) == (label(*about) is not None)
            figures = (state.spent_nano, state.held_nano, state.overrun_nano)
            if any(figures):
                shown[state.budget.name][state.subject] = figures
        for budget in self.budgets.values():
            assert shown[budget.name] == self.expected(budget)

    def expected(self, budget: Budget) -> dict[str, tuple[int, int, int]]:
        """The accounts of a budget now; unless the clock was changed, all its subjects' attempts in
        the period, whenever it was set. A one-time budget has its own accounts before and after, too."""
        found = {}
        about = (budget.period, budget.timezone, self.now // SECOND)
        shown, counts = shown_label(*about), label(*about) is not None
        subjects = {attempt.subjects[budget.scope] for attempt in self.model} - {""}
        for subject in subjects if budget.subject == "*" else subjects & {budget.subject}:
            account = Account(*budget_key(budget), shown, subject)
            counted = self.counted(account)
            if counts and not self.went_back:
                assert sums(counted) == sums(
                    [
                        attempt
                        for attempt in self.model
                        if attempt.subjects[budget.scope] == subject
                        and label(*about[:2], attempt.reservation.now_ns // SECOND) == shown
                    ]
                )
            if any(sums(counted)):
                found[subject] = sums(counted)
        return found


def sums(attempts: list[Tracked]) -> tuple[int, int, int]:
    """Spent, held and overrun of some attempts."""
    return (
        sum(attempt.cost for attempt in attempts),
        sum(attempt.hold for attempt in attempts if attempt.state == "held"),
        sum(attempt.overrun for attempt in attempts),
    )


def budget_key(budget: Budget) -> tuple[str, str, str, str]:
    """The fields of a budget that are part of its accounts' key."""
    return budget.name, budget.scope, budget.period, budget.timezone


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_the_ledger_is_the_model(kind: str) -> None:
    """After every step of any course of events, each balance is what the model says."""
    machine: type[LedgerMachine] = type("Machine", (LedgerMachine,), {"kind": kind})
    one = settings(max_examples=EXAMPLES[kind], stateful_step_count=40)
    run_state_machine_as_test(machine, settings=one)
