"""Gateways whose clocks differ, jump, and cross the edges of the calendar.

Two shapes. In one, a few gateways of one process take turns as the seed says, each with a clock of
its own, so the ledger's answers can be compared with a model one by one. In the other, eight
processes reserve at once while their clocks pass midnight.

The model knows periods from the hands of a wall clock alone: it shares no code with the ledger.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import structs

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import (
    AttemptEnd,
    Hold,
    RequestEnd,
    RequestStart,
    Reservation,
    Sweep,
)
from spanledger.ledger.ports import LedgerWriter, Store
from tests.prove.proof import Counts, Scenario, promise
from tests.prove.writer import Got, Order
from tests.prove.writers import Writers
from tests.service.budgets.wall_clock import WEEKDAYS, Label, label
from tests.service.ledger.stores import new_store, raw

NANOS = 10**9
HOUR_NS = 3_600 * NANOS
LEASE_NS = 30 * NANOS
MAX_HOLD_NS = 6 * HOUR_NS
STEPS = 140
GATEWAYS = 3
PROCESSES = 8
MIDNIGHT_CALLERS = 8

EDGES = (
    # Leap days, and years that look like leap years.
    ("2028-02-29T00:00", "UTC"), ("2028-03-01T00:00", "Europe/Berlin"),
    ("2100-03-01T00:00", "UTC"), ("2000-02-29T12:00", "America/New_York"),
    # Daylight saving begins and ends: by an hour, by half of one, at midnight.
    ("2026-03-29T02:00", "Europe/Berlin"), ("2026-10-25T03:00", "Europe/Berlin"),
    ("2026-03-08T02:00", "America/New_York"), ("2026-11-01T02:00", "America/New_York"),
    ("2026-04-05T02:00", "Australia/Lord_Howe"), ("2026-10-04T02:00", "Australia/Lord_Howe"),
    ("2026-09-06T00:00", "America/Santiago"), ("2026-04-05T00:00", "America/Santiago"),
    ("2018-11-04T00:00", "America/Sao_Paulo"), ("2018-02-18T00:00", "America/Sao_Paulo"),
    ("2026-03-08T00:00", "America/Havana"), ("2026-11-01T01:00", "America/Havana"),
    # A day that a zone skipped, and one that has two midnights.
    ("2011-12-31T00:00", "Pacific/Apia"), ("2010-11-07T00:01", "America/St_Johns"),
    # The ends of days, weeks, months and years, in zones far apart.
    ("2026-11-30T00:00", "Pacific/Kiritimati"), ("2026-12-01T00:00", "Asia/Kathmandu"),
    ("2027-01-01T00:00", "UTC"), ("2027-01-01T00:00", "Pacific/Pago_Pago"),
    ("2026-12-28T00:00", "Asia/Kolkata"), ("2021-01-04T00:00", "Europe/London"),
)  # fmt: skip
"""A moment on a wall clock near which something changes, and its zone."""

JUMPS_NS = (HOUR_NS, -HOUR_NS, NANOS, -NANOS, HOUR_NS // 2, -HOUR_NS // 2, 5 * NANOS)
"""By daylight saving taken for a correction, by a leap second, and by less."""
WAITS_NS = (0, 1, 10**6, 10**8, NANOS, 20 * NANOS, 60 * NANOS, 20 * 60 * NANOS, HOUR_NS)


def period_near(dice: random.Random, edge: datetime) -> str:
    """The text of a kind of period. Those that have a reading of their own begin or end near the edge."""
    close = [
        (edge + timedelta(minutes=minutes)).replace(tzinfo=None).isoformat()
        for minutes in (-1_500, -61, -1, 0, 0, 1, 59, 1_440)
    ]
    since, until = sorted(dice.sample(sorted(set(close)), 2))
    kind = dice.choice(("day", "day", "week", "month", "quarter", "year", "hours", "days", "once"))
    text = {
        "week": dice.choice(("week", *(f"week/{day}" for day in WEEKDAYS[1:]))),
        "month": dice.choice(
            ("month", f"month/{edge.day}", "month/31", f"month/{dice.randrange(2, 32)}")
        ),
        "hours": f"{dice.choice((1, 2, 5, 24, dice.randrange(1, 400)))}h@{since}",
        "days": f"{dice.choice((1, 7, 30, dice.randrange(1, 400)))}d@{since}",
        "once": dice.choice((f"once@{since}", f"once@{since}..{until}")),
    }.get(kind, kind)
    text = text.removesuffix("/1")
    if kind == "once" or dice.random() < 0.7:
        return text
    return text + dice.choice((f"[{since}..]", f"[..{until}]", f"[{since}..{until}]"))


class Place(NamedTuple):
    """An account in the model."""

    budget: str
    subject: str
    period: Label


@dataclass(slots=True)
class Known:
    """An attempt in the model; until it ends it counts what it holds, expired or not."""

    reservation: Reservation
    writer: int
    hold: int
    places: list[Place]
    cost: int | None = None
    ends: int = 0

    @property
    def counts(self) -> int:
        """What its accounts have of it."""
        return self.hold if self.cost is None else self.cost


@dataclass(slots=True)
class Model:
    """What the ledger must say."""

    budgets: list[Budget]
    known: list[Known] = field(default_factory=list)
    used: Counter[Place] = field(default_factory=Counter)

    def places(self, customer: str, now_ns: int) -> list[Place]:
        """The accounts that count a request at a time."""
        found = []
        for budget in self.budgets:
            subject = customer if budget.scope == "customer" else "*"
            if budget.subject in ("*", subject):
                period = label(budget.period, budget.timezone, now_ns // NANOS)
                if period is not None:
                    found.append(Place(budget.name, subject, period))
        return found

    def has_room(self, places: list[Place], hold: int) -> bool:
        """Whether every one of these accounts has room."""
        limits = {budget.name: budget.limit_nano for budget in self.budgets}
        return all(self.used[place] + hold <= limits[place.budget] for place in places)

    def count(self, attempt: Known, more: int) -> None:
        """Its accounts get more, or less."""
        for place in attempt.places:
            self.used[place] += more


class Clocks(Scenario):
    """The scenario."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._writers: Writers | None = None

    def close(self) -> None:
        """See `Scenario`."""
        if self._writers is not None:
            self._writers.close()

    def run(self, seed: int, folder: Path) -> Counts:
        """See `Scenario`."""
        store = new_store(self.kind, folder)
        if seed % 5 == 0:
            return self._midnight(store, seed)
        return Turns(store, seed).run()

    # at midnight --------------------------------------------------------------------------

    def _midnight(self, store: Store, seed: int) -> Counts:
        """Eight processes at 23:59:59.9: every hold counts on the day on which it was asked for."""
        dice = random.Random(f"midnight {seed}")
        text, zone = dice.choice(EDGES)
        midnight = datetime.fromisoformat(text[:10]).replace(tzinfo=ZoneInfo(zone))
        midnight_ns = round(midnight.timestamp()) * NANOS
        hold, room = dice.randrange(1, 10**6), dice.randrange(1, PROCESSES * MIDNIGHT_CALLERS)
        limit = room * hold + dice.randrange(hold)
        budget = Budget("day", "customer", "acme", limit, "day", zone)
        budgets = [budget, Budget("month", "global", "*", 10**15, "month", zone)]
        with store.records("create") as records:
            records.set_budgets(budgets, midnight_ns - HOUR_NS)
        if self._writers is None:
            self._writers = Writers(PROCESSES)
        then = dice.choice(("keep", "settle"))
        self._writers.open(
            [
                Order(
                    store.url, seed, process, MIDNIGHT_CALLERS, "acme", hold, hold, then,
                    midnight_ns - dice.randrange(1, 40) * 10**6, 0.05,
                )
                for process in range(PROCESSES)
            ]
        )  # fmt: skip
        got = [caller for process in self._writers.go() for caller in process]
        _check_days(store, budget, hold, got)
        return Counter({"at midnight": 1, "requests": len(got)})


def _check_days(store: Store, budget: Budget, hold: int, got: list[Got]) -> None:
    errors = [caller.error for caller in got if caller.error]
    promise(not errors, f"callers got errors: {errors[:3]}")
    charged: Counter[Label | None] = Counter()
    refused: Counter[Label | None] = Counter()
    for caller in got:
        day = label("day", budget.timezone, caller.now_ns // NANOS)
        charged[day] += max(0, caller.hold)
        refused[day] += caller.hold < 0
    for day, total in charged.items():
        said = f"on {day}, {total} were charged of {budget.limit_nano}, {refused[day]} refused"
        promise(total <= budget.limit_nano, said)
        promise(not refused[day] or total + hold > budget.limit_nano, said)
    stored: Counter[Label | None] = Counter()
    for name, _, start_s, spent, held in balances(store):
        if name == "day":
            stored[label("day", budget.timezone, start_s)] += spent + held
    promise(+stored == +charged, f"the days have {+stored}, the callers {+charged}")
    check_sums(store)


def balances(store: Store) -> list[tuple[str, str, int, int, int]]:
    """Budget, subject, start, spent and held of every account."""
    query = "SELECT budget, subject, period_start_s, spent_nano, held_nano FROM balances"
    return [(str(row[0]), str(row[1]), *map(int, row[2:])) for row in raw(store, query)]  # type: ignore[misc]  # three integers


def check_sums(store: Store) -> None:
    """The ledger verifies."""
    reports = store.reports()
    try:
        found = reports.verify()
    finally:
        reports.close()
    promise(not found.problems, f"the ledger does not add up: {found.problems[:3]}")


class Turns:
    """Gateways that take turns, and the model that they are compared with."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.dice = dice = random.Random(f"clocks {seed}")
        text, zone = dice.choice(EDGES)
        edge = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
        self.now_ns = round((edge - timedelta(minutes=dice.randrange(150))).timestamp()) * NANOS
        apart = dice.choice((0, HOUR_NS, -HOUR_NS))
        self.ahead_ns = [0, apart, dice.choice((0, HOUR_NS, 7 * NANOS))]
        others = [dice.choice(EDGES)[1] for _ in range(2)]
        self.model = Model(
            [
                Budget("day", "customer", "*", 4_000, "day", zone),
                Budget("all", "global", "*", 9_000, period_near(dice, edge), zone),
                Budget("far", "customer", "acme", 6_000, period_near(dice, edge), others[0]),
                Budget("team", "team", "*", 10**9, period_near(dice, edge), others[1]),
            ]
        )
        self.counts: Counts = Counter({"in turns": 1})

    def clock(self, writer: int) -> int:
        """What a gateway's clock shows."""
        return self.now_ns + self.ahead_ns[writer]

    def run(self) -> Counts:
        """All turns, then every attempt ends and everything is compared."""
        with self.store.records("create") as records:
            records.set_budgets(self.model.budgets, self.now_ns)
        writers = [
            self.store.writer(f"gateway{n}", LEASE_NS, lambda n=n: self.clock(n))  # type: ignore[misc]  # its default
            for n in range(GATEWAYS)
        ]
        try:
            for _ in range(STEPS):
                self._turn(writers, self.dice.randrange(GATEWAYS))
            for attempt in self.model.known:
                if attempt.cost is None:
                    self._end(writers, attempt)
            self._compare()
        finally:
            for writer in writers:
                writer.close()
        return self.counts

    def _turn(self, writers: list[LedgerWriter], number: int) -> None:
        dice = self.dice
        self.now_ns += dice.choice(WAITS_NS) if dice.random() < 0.4 else 0
        what = dice.random()
        if what < 0.08:
            self.ahead_ns[number] += dice.choice(JUMPS_NS)
            self.counts["jumps"] += 1
        elif what < 0.2:
            sweep = Sweep(self.clock(number), MAX_HOLD_NS)
            (swept,) = writers[number].commit([sweep])
            assert isinstance(swept, int)
            self.counts["expired"] += swept
        elif what < 0.6 or not self.model.known:
            self._reserve(writers, number)
        else:
            attempt = dice.choice(self.model.known)
            self._end(writers, attempt)

    def _reserve(self, writers: list[LedgerWriter], number: int) -> None:
        dice, model, now_ns = self.dice, self.model, self.clock(number)
        customer, hold = dice.choice(("acme", "red")), dice.randrange(0, 900)
        unique = len(model.known) + self.counts["refused"] + 1
        start = RequestStart(
            f"req_{now_ns // 10**6:012x}{unique:012x}", f"{unique:032x}", f"{unique:016x}", "", now_ns, customer,
            "team", "key", "chat", "chat", False,
        )  # fmt: skip
        sizes = HoldSizes(hold, hold, hold)
        reservation = Reservation(
            start, 1, f"{unique + 2**32:016x}", now_ns, "d", "openai", "m", sizes, True, "p"
        )
        attempt = Known(reservation, number, hold, model.places(customer, now_ns))
        (got,) = writers[number].commit([reservation])
        if model.has_room(attempt.places, hold):
            promise(isinstance(got, Hold) and got.hold_nano == hold, f"{attempt} got {got!r}")
            model.known.append(attempt)
            model.count(attempt, hold)
            self.counts["held"] += 1
        else:
            promise(isinstance(got, BudgetExceededError), f"{attempt} got {got!r}")
            self.counts["refused"] += 1

    def _end(self, writers: list[LedgerWriter], attempt: Known) -> None:
        """End it, or end it again, which changes nothing."""
        dice = self.dice
        cost = dice.choice((None, 0, attempt.hold, dice.randrange(attempt.hold + 1)))
        writer = attempt.writer if dice.random() < 0.9 else dice.randrange(GATEWAYS)
        now_ns = self.clock(writer)
        end = AttemptEnd(
            attempt.reservation.attempt_id, now_ns, cost, request=RequestEnd("ok", "", 200, now_ns)
        )
        writers[writer].commit([end, structs.replace(end, cost_nano=0)])
        self.counts["ends"] += 1
        if attempt.cost is None:
            self.model.count(attempt, (cost or 0) - attempt.hold)
            attempt.cost = cost or 0

    def _compare(self) -> None:
        """Each account has what the model has of it, in the period of the hold."""
        budgets = {budget.name: budget for budget in self.model.budgets}
        stored: Counter[tuple[str, Label | None]] = Counter()
        for name, _, start_s, spent, held in balances(self.store):
            budget = budgets[name]
            promise(held == 0, f"{held} are still held on {name}")
            stored[name, label(budget.period, budget.timezone, start_s)] += spent
        wanted: Counter[tuple[str, Label | None]] = Counter()
        for place, used in self.model.used.items():
            wanted[place.budget, place.period] += used
        promise(+stored == +wanted, f"the ledger has {+stored}, the model {+wanted}")
        check_sums(self.store)
