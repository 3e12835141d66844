"""Processes that share a rate by the rules of `shares`, against a list of everything they admitted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.clock import NANOS
from spanledger.rates.meter import FRESH_S, RateMeter
from spanledger.rates.model import (
    MEASURES,
    NO_AMOUNTS,
    WINDOW_S,
    Amounts,
    Rate,
    RateAccount,
    RateLimits,
)
from spanledger.rates.shares import (
    KEPT_S,
    Leased,
    SharesNow,
    others_of,
    share_of,
    unused_at_most,
)

ACCOUNT = RateAccount("r", "customer", "acme")
START_S = 1_000.0
NOON_NS = 1_795_435_200 * NANOS


@dataclass
class Shared:
    """The ledger's rows of one account, and the time."""

    limits: RateLimits
    now: float = START_S
    rows: dict[int, Leased] = field(default_factory=dict)

    def now_ns(self) -> int:
        """The wall clock."""
        return NOON_NS + int(self.now * NANOS)

    def exchange(self, meter: RateMeter, owner: int, needs: Amounts = NO_AMOUNTS) -> None:
        """What a limiter does, at once."""
        ask = meter.ask(self.now, needs)
        others = others_of([row for who, row in self.rows.items() if who != owner], self.now_ns())
        share = share_of(ask, others)
        self.rows[owner] = Leased(share, self.now_ns() + int(KEPT_S * NANOS))
        meter.got(self.now, SharesNow(share, others))

    def meter(self) -> RateMeter:
        """A process begins."""
        return RateMeter(ACCOUNT, Rate("r", "customer", "acme", self.limits))

    def admit(self, meter: RateMeter, owner: int, needs: Amounts) -> bool:
        """As a limiter admits a request."""
        while True:
            if meter.excess(self.now, needs) is not None:
                return False
            if meter.fits(self.now, needs):
                meter.take(self.now, needs)
                return True
            self.exchange(meter, owner, needs)

    def look(self, meter: RateMeter, owner: int) -> None:
        """As a limiter does every second."""
        if meter.is_due(self.now):
            self.exchange(meter, owner)


REQUEST = st.tuples(
    st.floats(0, 12),  # seconds since the one before
    st.integers(0, 3),  # the process
    st.integers(1, 30),  # tokens held
    st.integers(0, 30),  # tokens used in the end
    st.floats(0, 90),  # how long it takes
    st.sampled_from(["ends", "ends", "ends", "its process is killed"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUEST, max_size=80), st.integers(1, 40), st.integers(30, 300), st.integers(1, 10))
def test_never_more_than_the_limit_in_any_minute(
    requests: list[tuple[float, int, int, int, float, str]], rpm: int, tpm: int, at_once: int
) -> None:
    """Whatever processes are asked, however long requests take, and if processes are killed."""
    shared = Shared(RateLimits(rpm, tpm, None, at_once))
    meters, owners = [shared.meter() for _ in range(4)], [0, 1, 2, 3]
    flying: list[tuple[float, int, float, int, int]] = []
    admitted: list[tuple[float, int]] = []
    for passes, who, held, used, takes, then in requests:
        shared.now += passes
        for ends, process, at, before, after in [f for f in flying if f[0] <= shared.now]:
            flying.remove((ends, process, at, before, after))
            if process in owners:
                meter = meters[owners.index(process)]
                meter.correct(at, 0, min(after, before) - before, 0)
                meter.in_flight -= 1
                place = admitted.index((at, before))
                admitted[place] = (at, min(after, before))
        for meter, owner in zip(meters, owners, strict=True):
            shared.look(meter, owner)

        if shared.admit(meters[who], owners[who], Amounts(1, held, 0, 1)):
            admitted.append((shared.now, held))
            flying.append((shared.now + takes, owners[who], shared.now, held, used))
        if then != "ends":  # its row stays, and what it has in flight is cut off
            owners[who] = max(owners) + 1
            meters[who] = shared.meter()

        since = [n for at, n in admitted if at > shared.now - WINDOW_S]
        assert len(since) <= rpm
        assert sum(since) <= tpm
        assert sum(f[1] in owners for f in flying) <= at_once


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [10, 16, 60, 1_000, 100_000])
def test_four_processes_never_refuse_below_half_of_the_limit(limit: int, seed: int) -> None:
    """A load of just under half of the limit in any minute, at random times and at random processes."""
    rng = random.Random(seed)
    shared = Shared(RateLimits(None, limit))
    meters = [shared.meter() for _ in range(4)]
    admitted: list[tuple[float, int]] = []
    looked = asked = 0.0
    favoured = 0
    most = max(1, limit // 40)
    for _ in range(6_000 if limit > 60 else 2_000):
        shared.now += rng.expovariate(1 / (60 * most / limit))
        if rng.random() < 0.01:
            favoured = rng.randrange(4)
        while looked + 1 < shared.now:
            looked = shared.now
            for owner, meter in enumerate(meters):
                shared.look(meter, owner)
        amount = rng.randint(1, most)
        admitted = [(at, n) for at, n in admitted if at > shared.now - WINDOW_S - FRESH_S]
        if sum(n for _, n in admitted) + amount > limit // 2:
            continue
        who = favoured if rng.random() < 0.7 else rng.randrange(4)
        asked += 1

        assert shared.admit(meters[who], who, Amounts(0, amount))

        admitted.append((shared.now, amount))
    assert asked > 500


@pytest.mark.parametrize("limit", [60, 1_000, 100_000])
def test_a_share_is_not_asked_for_at_each_request(limit: int) -> None:
    """One process that uses half of a limit in small requests asks the ledger for few of them."""
    shared = Shared(RateLimits(limit))
    meter, asked, count = shared.meter(), 0, 0
    while shared.now < START_S + 600:
        shared.now += 120 / limit
        before = shared.rows.get(0)
        assert shared.admit(meter, 0, Amounts(1))
        shared.look(meter, 0)
        asked += shared.rows.get(0) != before
        count += 1

    assert (
        asked <= 600 / 10 + 3 * 16
    )  # a renewal every ten seconds, and spare parts at the beginning
    assert asked < count / 2


def test_what_is_left_over_is_given_back() -> None:
    """A process that was busy a minute ago leaves its share to others."""
    shared = Shared(RateLimits(100))
    busy, other = shared.meter(), shared.meter()
    for _ in range(100):
        assert shared.admit(busy, 0, Amounts(1))
    assert not shared.admit(other, 1, Amounts(1))

    shared.now += WINDOW_S + FRESH_S
    shared.look(busy, 0)

    assert shared.rows[0].amounts.requests <= unused_at_most(100)
    for _ in range(85):
        assert shared.admit(other, 1, Amounts(1))


def test_a_killed_process_holds_only_what_it_had_used() -> None:
    """Its successor gets the rest at once, and all of it when the minute is over."""
    shared = Shared(RateLimits(100, None, None, 20))
    killed = shared.meter()
    for _ in range(20):
        assert shared.admit(killed, 0, Amounts(1, 0, 0, 1))

    successor = shared.meter()
    admitted = sum(shared.admit(successor, 1, Amounts(1)) for _ in range(100))
    assert 100 - 20 - unused_at_most(100) <= admitted <= 80
    assert not shared.admit(successor, 1, Amounts(0, 0, 0, 1))

    shared.now += KEPT_S + 1
    assert shared.admit(successor, 1, Amounts(1, 0, 0, 20))


def test_a_clock_that_was_set_back_keeps_no_share_forever() -> None:
    """A share that would count for longer than any can is not counted."""
    leased = [Leased(Amounts(5, 5, 5, 5), NOON_NS + int(10 * KEPT_S * NANOS))]

    assert others_of(leased, NOON_NS) == Amounts()


def test_a_request_that_never_fits_is_told_so() -> None:
    """Nobody waits for it."""
    shared = Shared(RateLimits(None, 10))
    meter = shared.meter()

    excess = meter.excess(shared.now, Amounts(1, 11, 0, 1))

    assert excess is not None
    assert (excess.measure, excess.limit, excess.wait_s) == (MEASURES[1], 10, None)


def test_the_wait_is_until_there_is_room() -> None:
    """One process alone: after the wait it says, the request fits, and before it does not."""
    shared = Shared(RateLimits(3))
    meter = shared.meter()
    for _ in range(3):
        assert shared.admit(meter, 0, Amounts(1))
        shared.now += 10
    excess = meter.excess(shared.now, Amounts(1))
    assert excess is not None
    assert excess.wait_s is not None

    shared.now += excess.wait_s - 0.5
    assert not shared.admit(meter, 0, Amounts(1))
    shared.now += 0.5
    assert shared.admit(meter, 0, Amounts(1))


def test_nothing_is_used_while_the_ledger_is_asked() -> None:
    """The new share may be smaller; without an answer, the old one stands."""
    shared = Shared(RateLimits(100))
    meter = shared.meter()
    assert shared.admit(meter, 0, Amounts(1))
    assert meter.fits(shared.now, Amounts(1))

    meter.ask(shared.now)
    assert not meter.fits(shared.now, Amounts(1))
    meter.got_none()
    assert meter.fits(shared.now, Amounts(1))
