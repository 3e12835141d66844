"""Rates in a real ledger of each kind, and the limiter in front of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from spanledger.budgets.model import HoldSizes
from spanledger.clock import NANOS, Clock
from spanledger.errors import (
    BudgetExceededError,
    LedgerUnavailableError,
    RateExceededError,
    UsageError,
)
from spanledger.ledger.model import AttemptEnd, Later, RequestEnd, Reservation
from spanledger.ledger.ports import Store
from spanledger.ledger.rating.limiter import EXCHANGE_TIMEOUT_S, Limiter
from spanledger.ledger.rating.ports import RateRows
from spanledger.ledger.rating.rated import RatedLedger
from spanledger.ledger.sqlite.store import SqliteStore
from spanledger.rates.model import NO_AMOUNTS, Amounts, Rate, RateAccount, RateLimits
from spanledger.rates.shares import KEPT_S, Claim
from tests.service.ledger.conftest import NOON, Book
from tests.service.ledger.stores import cut_off

ACME = Rate("acme", "customer", "acme", RateLimits(requests=3))
UNTIL = NOON + int(KEPT_S * NANOS)


class Steady:
    """A monotonic clock that moves only when set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def clock(self) -> Clock:
        """As the limiter gets it."""
        return Clock(now_ns=lambda: NOON + int(self.now * 1e9), monotonic=lambda: self.now)


@pytest.fixture
def rows(store: Store) -> Iterator[RateRows]:
    """The rates of a new ledger."""
    rows = store.rates("create")
    yield rows
    rows.close()


@pytest.fixture
def steady() -> Steady:
    """A clock."""
    return Steady()


def set_rates(store: Store, *rates: Rate) -> None:
    """Set rates as commands do."""
    rows = store.rates("create")
    for rate in rates:
        rows.set_rate(rate)
    rows.close()


@asynccontextmanager
async def limiting(book: Book, steady: Steady, name: str = "p1") -> AsyncIterator[Rated]:
    """A process with rates in front of the ledger."""
    limiter = Limiter(book.store.rates("create"), name, steady.clock(), longest_request_s=3_600)
    limiter.load()
    try:
        yield Rated(limiter, RatedLedger(book.ledger, limiter))
    finally:
        await limiter.close()


class Rated:
    """A limiter and the ledger behind it."""

    def __init__(self, limiter: Limiter, ledger: RatedLedger) -> None:
        self.limiter = limiter
        self.ledger = ledger

    def used(self, rate: str = "acme", subject: str = "acme", scope: str = "customer") -> Amounts:
        """What an account has used in this process."""
        meter = self.limiter._meters[RateAccount(rate, scope, subject)]
        return meter.used(self.limiter._clock.monotonic())

    async def refused(self, reservation: Reservation) -> RateExceededError:
        """The error of a refused attempt."""
        with pytest.raises(RateExceededError) as caught:
            await self.ledger.reserve(reservation)
        return caught.value


# rows -------------------------------------------------------------------------------------


def test_rates_are_stored_as_they_are(rows: RateRows) -> None:
    """Every field, and the version tells of each change."""
    rate = Rate("r", "customer,model", "*,gpt-4o", RateLimits(1, 2, 3, 4), True, "")
    began = rows.version()

    assert rows.set_rate(rate) is None
    assert rows.set_rate(rate) == rate
    assert rows.rates() == [rate]
    assert rows.version() == began + 1
    assert rows.remove_rate("r") == rate
    assert rows.remove_rate("r") is None
    assert (rows.rates(), rows.version()) == ([], began + 2)


def test_a_file_replaces_what_it_had_before(rows: RateRows) -> None:
    """Other files' rates and those set by command stay."""
    rows.set_rate(Rate("mine", "global", "*", RateLimits(9)))
    rows.apply_file("b", [Rate("other", "global", "*", RateLimits(8), source="b")])
    first = [Rate(n, "team", n, RateLimits(1), source="a") for n in ("x", "y")]
    rows.apply_file("a", first)
    version = rows.version()

    assert rows.apply_file("a", first) == []
    assert rows.version() == version
    changed = Rate("x", "team", "x", RateLimits(2), source="a")
    assert {rate.name for rate in rows.apply_file("a", [changed])} == {"x", "y"}
    assert {rate.name: rate.limits.requests for rate in rows.rates()} == {
        "mine": 9,
        "other": 8,
        "x": 2,
    }
    assert rows.version() > version
    rows.apply_file("a", [])
    assert {rate.name for rate in rows.rates()} == {"mine", "other"}


def test_a_file_does_not_take_over_what_a_command_set(rows: RateRows) -> None:
    """Which of the two counts would depend on who started last."""
    rows.set_rate(Rate("mine", "global", "*", RateLimits(9)))

    with pytest.raises(UsageError, match="rate remove mine"):
        rows.apply_file("a", [Rate("mine", "global", "*", RateLimits(1), source="a")])

    assert rows.rates()[0].limits.requests == 9


def test_shares_are_never_more_than_the_limit(store: Store) -> None:
    """Sixteen connections ask at once, each for more than its part."""
    store.rates("create").close()
    account = RateAccount("acme", "customer", "acme")
    got: list[int] = []

    def ask(number: int) -> None:
        rows = store.rates("create")
        used = 0
        for _ in range(5):
            [share] = rows.exchange(
                f"p{number}",
                [Claim(account, RateLimits(100), Amounts(used), Amounts(3))],
                NOON,
                UNTIL,
            )
            used = share.own.requests
        got.append(share.own.requests)
        rows.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(got) == 16
    assert sum(got) <= 100
    assert sum(got) >= 90


def test_many_accounts_in_one_question(rows: RateRows) -> None:
    """Each is answered for itself, and an empty share leaves no row."""
    asks = [
        Claim(
            RateAccount("each", "user", f"u{n}"),
            RateLimits(16, None, None, 4),
            NO_AMOUNTS,
            Amounts(n, 5, 5, 1),
        )
        for n in range(50)
    ]

    shares = rows.exchange("p", asks, NOON, UNTIL)

    assert [share.own.requests for share in shares[:3]] == [1, 2, 3]
    assert max(share.own.requests for share in shares) == 16
    assert all(share.own.tokens == 0 for share in shares)
    rows.exchange("p", [ask._replace(needs=NO_AMOUNTS, spare=False) for ask in asks], NOON, UNTIL)
    [share] = rows.exchange("q", asks[:1], NOON, UNTIL)
    assert share.others == NO_AMOUNTS


# the limiter ------------------------------------------------------------------------------


async def test_requests_of_a_minute(book: Book, steady: Steady) -> None:
    """The fourth request is refused until the first one is a minute old; other customers are not."""
    set_rates(book.store, ACME)
    async with limiting(book, steady) as rated:
        for _ in range(3):
            hold = await rated.ledger.reserve(book.reservation())
            steady.now += 10
        assert hold.standing is not None
        assert hold.standing.requests is not None
        assert hold.standing.requests.remaining == 0
        error = await rated.refused(book.reservation())
        await rated.ledger.reserve(book.reservation(customer="other"))

        assert (error.by, error.scope, error.overuse.measure) == ("acme", "customer", "requests")
        assert error.overuse.retry_after_s == 31
        assert rated.limiter.refused == {("acme", "customer", "requests"): 1}
        steady.now += error.overuse.retry_after_s
        await rated.ledger.reserve(book.reservation())


async def test_tokens_are_held_at_the_bound_and_settled(book: Book, steady: Steady) -> None:
    """What an attempt does not use is free again at once."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(tokens=1_000)))
    sizes = HoldSizes(10, 10, 10, False, False, 800, 800)
    async with limiting(book, steady) as rated:
        first = book.reservation(sizes)
        await rated.ledger.reserve(first)
        assert rated.used().tokens == 800
        error = await rated.refused(book.reservation(sizes))
        assert (error.overuse.used, error.overuse.needed) == (800, 800)

        end = book.end(first, 5)
        await rated.ledger.finish(
            AttemptEnd(
                end.attempt_id, NOON, 5, input_tokens=100, output_tokens=50, request=end.request
            )
        )

        assert rated.used().tokens == 150
        await rated.ledger.reserve(book.reservation(sizes))


async def test_an_attempt_without_a_cap_gets_what_is_usual(book: Book, steady: Steady) -> None:
    """Its whole bound would be most of the limit, so its output is to be capped."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(tokens=10_000)))
    async with limiting(book, steady) as rated:
        small = await rated.ledger.reserve(
            book.reservation(HoldSizes(90, 20, 5, False, False, 900, 200))
        )
        assert not small.only_usual
        assert rated.used().tokens == 900
        large = await rated.ledger.reserve(
            book.reservation(HoldSizes(90, 20, 5, False, False, 9_000, 2_000))
        )
        assert large.only_usual
        assert rated.used().tokens == 2_900


async def test_a_request_that_is_too_large_is_told_so(book: Book, steady: Steady) -> None:
    """Waiting would not help."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(tokens=100)))
    async with limiting(book, steady) as rated:
        error = await rated.refused(book.reservation(HoldSizes(1, 1, 1, False, False, 500, 500)))

    assert error.overuse.retry_after_s is None
    assert "this request alone may use 500 tokens" in str(error)


async def test_dollars_of_a_minute(book: Book, steady: Steady) -> None:
    """Held at the bound, settled at the cost."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(nano=10**9)))
    async with limiting(book, steady) as rated:
        first = book.reservation(8 * 10**8)
        await rated.ledger.reserve(first)
        error = await rated.refused(book.reservation(3 * 10**8))
        assert "allows $1.00 a minute" in str(error)
        await rated.ledger.finish(book.end(first, 10**8))
        await rated.ledger.reserve(book.reservation(9 * 10**8))


async def test_a_refusal_uses_nothing_up(book: Book, steady: Steady) -> None:
    """Of several rates, none counts a request that one refuses; nor if a budget or the ledger does."""
    set_rates(
        book.store,
        Rate("acme", "customer", "acme", RateLimits(requests=10)),
        Rate("everybody", "global", "*", RateLimits(in_flight=1)),
    )
    book.budget(limit_nano=100)
    async with limiting(book, steady) as rated:
        with pytest.raises(BudgetExceededError):
            await rated.ledger.reserve(book.reservation(200))
        assert rated.used() == NO_AMOUNTS
        await rated.ledger.reserve(book.reservation(10))
        error = await rated.refused(book.reservation(10))
        assert error.by == "everybody"
        assert rated.used().requests == 1
        assert not rated.limiter.open.keys() - {"req_000000000000000000000002"}


@pytest.mark.parametrize("way", ["settled", "released", "ended", "later", "lost"])
async def test_a_request_is_in_flight_until_it_ends_in_any_way(
    book: Book, steady: Steady, way: str
) -> None:
    """Answered, failed, refused after a failure, in the background, or never heard of again."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(in_flight=1)))
    async with limiting(book, steady) as rated:
        first = book.reservation()
        await rated.ledger.reserve(first)
        error = await rated.refused(book.reservation())
        assert error.overuse.retry_after_s == 1
        if way == "settled":
            await rated.ledger.finish(book.end(first, 10))
        elif way == "released":
            await rated.ledger.finish(book.end(first, None))
        elif way == "ended":
            await rated.ledger.finish(book.end(first, None, last=False))
            assert rated.used().in_flight == 1  # between two attempts
            await rated.ledger.end_request(first.request, RequestEnd("error", "timeout", 504, NOON))
        elif way == "later":
            end = RequestEnd("ok", "", 200, NOON)
            await rated.ledger.end_request(first.request, end, later=Later(NOON + NANOS, 1))
        else:
            steady.now += 3_601
            await rated.limiter.look()

        assert rated.limiter.open == {}
        await rated.ledger.reserve(book.reservation())


async def test_a_request_counts_once_however_many_attempts_it_makes(
    book: Book, steady: Steady
) -> None:
    """Its tokens count with each, and a rate of another model counts from the attempt there on."""
    set_rates(
        book.store,
        Rate("acme", "customer", "acme", RateLimits(requests=2, tokens=10_000)),
        Rate("fallback", "model", "other", RateLimits(requests=1)),
    )
    sizes = HoldSizes(1, 1, 1, False, False, 100, 100)
    async with limiting(book, steady) as rated:
        first = book.reservation(sizes)
        await rated.ledger.reserve(first)
        await rated.ledger.finish(book.end(first, None, last=False))
        second = book.reservation(sizes, number=2, request=first.request, model="other")
        await rated.ledger.reserve(second)

        assert rated.used() == Amounts(1, 100, 1, 1)
        assert rated.used("fallback", "other", "model") == Amounts(1, 100, 1, 1)
        await rated.ledger.finish(book.end(second, 0))
        assert rated.used() == Amounts(1, 0, 0, 0)
        assert rated.used("fallback", "other", "model") == Amounts(1, 0, 0, 0)


async def test_a_caller_that_leaves_while_it_is_admitted_leaves_nothing(
    book: Book, steady: Steady
) -> None:
    """The answer that it waited for is for others, too."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(in_flight=5)))
    async with limiting(book, steady) as rated:
        waiting = [asyncio.create_task(rated.limiter.admit(book.reservation())) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:3]:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)

        admitted = [result for result in results if not isinstance(result, BaseException)]
        assert len(admitted) == 2
        assert rated.used().in_flight == 2
        assert len(rated.limiter.open) == 2


async def test_a_changed_rate_applies_within_a_look(book: Book, steady: Steady) -> None:
    """What was used before counts on."""
    set_rates(book.store, ACME)
    async with limiting(book, steady) as rated:
        for _ in range(3):
            await rated.ledger.reserve(book.reservation())
        await rated.refused(book.reservation())
        set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(requests=4)))
        await rated.limiter.look()
        await rated.ledger.reserve(book.reservation())
        await rated.refused(book.reservation())

        rows = book.store.rates("change")
        rows.remove_rate("acme")
        rows.close()
        await rated.limiter.look()
        assert not rated.limiter.on
        await rated.ledger.reserve(book.reservation())


async def test_without_rates_nothing_is_counted(book: Book, steady: Steady) -> None:
    """The ledger's own coroutines are returned as they are."""
    async with limiting(book, steady) as rated:
        coroutine = rated.ledger.reserve(book.reservation())
        assert getattr(coroutine, "__qualname__") == "GroupLedger.reserve"  # noqa: B009 - of coroutines alone
        await coroutine
        assert rated.limiter.open == {}


async def test_two_processes_share(book: Book, steady: Steady) -> None:
    """Together they admit exactly the limit, and who gives up its share leaves it to the other."""
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(requests=100)))

    async def admitted(rated: Rated, most: int) -> int:
        for count in range(most):
            try:
                await rated.ledger.reserve(book.reservation())
            except RateExceededError:
                return count
            steady.now += 0.01
        return most

    async with limiting(book, steady, "p1") as first, limiting(book, steady, "p2") as second:
        await admitted(first, 30)
        rest = await admitted(second, 100)
        assert 100 - 30 - 6 <= rest <= 70
        assert await admitted(first, 100) == 70 - rest


async def test_while_the_ledger_is_unavailable(book: Book, steady: Steady) -> None:
    """Our share is all that can be used; beyond it, callers get 503 and not a refusal."""
    if isinstance(book.store, SqliteStore):
        pytest.skip("a file that was moved can still be written")
    set_rates(book.store, Rate("acme", "customer", "acme", RateLimits(requests=100)))
    async with limiting(book, steady) as rated:
        await rated.limiter.admit(book.reservation())
        with cut_off(book.store):
            steady.now += 1
            for _ in range(6):
                await rated.limiter.admit(book.reservation())
            with pytest.raises(LedgerUnavailableError):
                await rated.limiter.admit(book.reservation())
        await rated.limiter.admit(book.reservation())
        assert rated.used().requests == 8


def test_the_ledger_is_waited_for_longer_than_for_a_lock() -> None:
    """Else a slow neighbour would look like an outage."""
    assert EXCHANGE_TIMEOUT_S > 5
