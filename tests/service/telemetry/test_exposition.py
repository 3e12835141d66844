"""`/metrics` as a Prometheus server reads it."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from prometheus.src.thresholds import DEFAULT
from spanledger.budgets.accounts import AccountKey
from spanledger.clock import Clock
from spanledger.ledger.notices import DeliveryEnd, NewNotice, Notice
from spanledger.telemetry.exposition import TOLD_OF, CommitTimes, Exposition
from spanledger.telemetry.signals import SCRAPED, prometheus_series
from tests.service.telemetry.conftest import HOLD, SECOND, Book, Ship
from tests.support.ledgers import store_at

Samples = dict[tuple[str, ...], float]


class Deployment(NamedTuple):
    """A deployment's state as routing reports it."""

    deployment: str
    route: str
    until_s: float
    limits: tuple[tuple[str, float], ...] = ()
    state: str = "up"


class Scraper:
    """An exposition whose clock stands still."""

    def __init__(self, path: Path, max_budgets: int = 10, few_budgets: int = 10) -> None:
        self.now_ns = 1_795_435_200 * SECOND
        self.commits = CommitTimes()
        self.deployments: list[Deployment] = []
        self.exposition = Exposition(
            store_at(path),
            lambda: self.deployments,
            self.commits,
            Clock(now_ns=lambda: self.now_ns),
            price_book="2026-11-01",
            max_budgets=max_budgets,
            few_budgets=few_budgets,
        )

    async def scrape(self) -> Samples:
        """Every sample, by name and label values."""
        text = (await self.exposition.render()).decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def scraper(book: Book) -> Scraper:
    """A scraper of the test's ledger."""
    return Scraper(book.path)


async def test_only_budgets_that_count_are_exported(book: Book, scraper: Scraper) -> None:
    """A one-time budget is shown from its beginning to its end, with its period in words."""
    for name, period in {
        "before": "once@2026-11-24..2026-12-01",
        "during": "once@2026-11-20..2026-12-01",
        "for-good": "once@2026-11-20",
        "after": "once@2026-11-01..2026-11-20",
    }.items():
        book.budget(name, 1_000_000_000, period=period, timezone="Asia/Tokyo")

    samples = await scraper.scrape()

    about = {key[1]: (key[2], key[5]) for key in samples if key[0] == "spanledger_budget_info"}
    assert about == {
        "during": ("once from 2026-11-20 until 2026-12-01", "Asia/Tokyo"),
        "for-good": ("once from 2026-11-20", "Asia/Tokyo"),
    }
    assert samples["spanledger_budgets_left_out",] == 0


async def test_a_budgets_figures_are_the_ledgers(book: Book, scraper: Scraper) -> None:
    """Limit, spent, held, what remains, the period and the forecast are exported."""
    book.budget("b", 1_000_000_000)
    at = {"started_ns": scraper.now_ns - 3600 * SECOND}
    book.call(cost=100_000_000, **at)
    book.reserve(book.start(**at))

    samples = await scraper.scrape()

    labels = ("b", "customer", "acme")
    assert samples["spanledger_budget_limit_usd", *labels] == 1.0
    assert samples["spanledger_budget_spent_usd", *labels] == 0.1
    assert samples["spanledger_budget_held_usd", *labels] == HOLD / 1e9
    assert samples["spanledger_budget_remaining_usd", *labels] == pytest.approx(0.89)
    start = samples["spanledger_budget_period_start_seconds", *labels]
    assert samples["spanledger_budget_period_end_seconds", *labels] - start == 86400
    # A tenth was spent by noon: nine times half a day remain.
    assert samples["spanledger_budget_exhaustion_seconds", *labels] == 9 * 43200
    assert samples["spanledger_budget_blocks", *labels] == 1
    steps = {k[-1]: v for k, v in samples.items() if k[0] == "spanledger_budget_threshold_ratio"}
    assert steps == {"50": 0.5, "80": 0.8, "95": 0.95}
    assert samples["spanledger_budget_info", "b", "day", "customer", "acme", "UTC"] == 1
    assert samples["spanledger_budgets_shown",] == 1
    assert samples["spanledger_holds_open",] == 1
    assert samples["spanledger_oldest_hold_seconds",] == 3600


async def test_a_budgets_own_terms_are_shown(book: Book, scraper: Scraper) -> None:
    """A budget's own thresholds are exported, and one that only warns is not marked as blocking."""
    book.budget("soft", 10**9, action="warn", thresholds=(70, 100))

    samples = await scraper.scrape()

    name = "spanledger_budget_threshold_ratio"
    assert {key[-1]: value for key, value in samples.items() if key[0] == name} == {
        "70": 0.7,
        "100": 1.0,
    }
    assert samples["spanledger_budget_blocks", "soft", "customer", "acme"] == 0


async def test_nothing_spent_has_no_forecast(book: Book, scraper: Scraper) -> None:
    """Without spending there is no rate, and no invented number."""
    book.budget("b", 1_000_000_000)

    samples = await scraper.scrape()

    assert samples["spanledger_budget_spent_usd", "b", "customer", "acme"] == 0
    assert not [key for key in samples if key[0] == "spanledger_budget_exhaustion_seconds"]


async def test_those_nearest_their_limit_are_shown(book: Book) -> None:
    """With more budgets than fit, those nearest their limit are kept."""
    scraper = Scraper(book.path, few_budgets=2)
    for number, limit in enumerate((10**12, 10**8, 10**9, 10**11)):
        book.budget(f"b{number}", limit)
    book.call(cost=50_000_000, started_ns=scraper.now_ns)

    samples = await scraper.scrape()

    shown = {key[1] for key in samples if key[0] == "spanledger_budget_limit_usd"}
    assert shown == {"b1", "b2"}
    assert samples["spanledger_budgets_shown",] == 2
    assert samples["spanledger_budgets_left_out",] == 2


async def test_an_account_that_alerts_tell_of_stays(book: Book) -> None:
    """An account past a third, or past its first threshold, is exported however many are nearer;
    above the cap, those nearest their limit are."""
    spent = 50_000_000
    for name, share, steps in (
        *(("full", 0.99, (50,)), ("half", 0.5, (50,)), ("third", 0.34, (50,))),
        *(("early", 0.1, (10, 80)), ("none", 0.3, ()), ("under", 0.3, (50,))),
    ):
        book.budget(name, round(spent / share), thresholds=steps)
    scraper = Scraper(book.path, max_budgets=10, few_budgets=1)
    book.call(cost=spent, started_ns=scraper.now_ns)

    assert await shown(scraper) == {"full", "half", "third", "early"}
    assert await shown(Scraper(book.path, max_budgets=2, few_budgets=1)) == {"full", "half"}


async def test_who_may_spend_nothing_hides_nobody(book: Book) -> None:
    """Zero budgets, used to block customers, give way to those with a limit."""
    scraper = Scraper(book.path, few_budgets=2)
    for name, limit in (("a", 10**12), ("b", 10**11), ("stop-1", 0), ("stop-2", 0)):
        book.budget(name, limit)

    assert await shown(scraper) == {"a", "b"}


async def test_who_alerts_tell_of_comes_and_goes_with_nobody(book: Book) -> None:
    """With random spending, no account past a third is ever missing."""
    scraper = Scraper(book.path, max_budgets=30, few_budgets=3)
    book.budget("each", 10**9, subject="*", thresholds=())
    spent = Counter[str]()
    chance = random.Random(7)
    for _ in range(60):
        who = f"c{chance.randrange(30)}"
        cost = chance.randrange(10**8, 3 * 10**8)
        if spent[who] + HOLD + cost < 10**9:
            spent[who] += cost
            book.call(cost=cost, started_ns=scraper.now_ns, customer=who)
        past = {name for name, usd in spent.items() if usd > 10**9 / 3}
        samples = await scraper.scrape()

        assert past <= {key[3] for key in samples if key[0] == "spanledger_budget_spent_usd"}
    assert len(past) > 10


async def shown(scraper: Scraper) -> set[str]:
    """The budgets in a scrape."""
    return {key[1] for key in await scraper.scrape() if key[0] == "spanledger_budget_limit_usd"}


def test_alerts_tell_of_nobody_who_is_not_shown() -> None:
    """The forecast alert needs no less use than what is always exported; thresholds are exported."""
    told = DEFAULT.forecast_min_used, DEFAULT.refused_ratio, DEFAULT.exhausted_ratio

    assert min(told) >= TOLD_OF


async def test_the_outbox_shows_what_is_not_shipped(
    book: Book, scraper: Scraper, ship: Ship
) -> None:
    """Rows and age of the outbox rise with ended rows and drop to zero once shipped."""
    book.call(started_ns=scraper.now_ns - 11 * SECOND)

    before = await scraper.scrape()
    assert ship()
    after = await scraper.scrape()

    assert before["spanledger_outbox_rows",] == 2
    assert before["spanledger_outbox_age_seconds",] == 10
    assert after["spanledger_outbox_rows",] == after["spanledger_outbox_age_seconds",] == 0


async def test_the_processs_own_figures(scraper: Scraper) -> None:
    """Commits, cooldowns, requests in flight and the process itself are exported."""
    scraper.commits.observe(0.0015, 3)
    scraper.commits.observe(99.0, 1)
    scraper.exposition.overhead.observe(0.004)
    scraper.deployments = [
        Deployment("a", "smart", 0.0),
        Deployment("b", "smart", scraper.now_ns / 1e9 + 4, (("rpm", 0.25),)),
        Deployment("c", "smart", 0.0, state="off"),
    ]
    scraper.exposition.in_flight = lambda: 7
    scraper.exposition.waiting = lambda: 3

    samples = await scraper.scrape()

    assert samples["spanledger_ledger_commit_seconds_bucket", "0.001"] == 0
    assert samples["spanledger_ledger_commit_seconds_bucket", "0.002"] == 1
    assert samples["spanledger_ledger_commit_seconds_bucket", "+Inf"] == 2
    assert samples["spanledger_ledger_commit_seconds_sum",] == 99.0015
    assert samples["spanledger_ledger_operations_total",] == 4
    assert samples["spanledger_gateway_overhead_seconds_bucket", "0.002"] == 0
    assert samples["spanledger_gateway_overhead_seconds_bucket", "0.005"] == 1
    assert samples["spanledger_gateway_overhead_seconds_sum",] == 0.004
    assert samples["spanledger_deployment_up", "a", "smart"] == 1
    assert samples["spanledger_deployment_up", "b", "smart"] == 0
    assert samples["spanledger_deployment_up", "c", "smart"] == 0
    assert samples["spanledger_deployment_cooldown_seconds", "c", "smart"] == 0
    assert samples["spanledger_deployment_cooldown_seconds", "b", "smart"] == 4
    assert samples["spanledger_deployment_limit_used_ratio", "b", "rpm", "smart"] == 0.25
    assert samples["spanledger_price_book_info", "2026-11-01"] == 1
    assert samples["spanledger_requests_in_flight",] == 7
    assert samples["spanledger_requests_waiting",] == 3
    assert samples["process_resident_memory_bytes",] > 0


async def test_a_ledger_that_cannot_be_read_is_a_figure(tmp_path: Path) -> None:
    """A scrape works without the ledger, and reports that it is down."""
    samples = await Scraper(tmp_path / "missing.db").scrape()

    assert samples["spanledger_ledger_up",] == 0
    assert any(key[0] == "spanledger_build_info" for key in samples)


def waiting_since(book: Book, at_ns: int) -> None:
    """Two notices for a destination, found then; one has been accepted."""
    account = AccountKey("b", "customer", "month", "UTC", 0, "acme")
    with closing(store_at(book.path).notices()) as notices:
        found = [Notice(f"notice_{n}", account, str(n), at_ns, 2**31, "{}") for n in (50, 80)]
        notices.record([NewNotice(notice, ["hook"]) for notice in found], at_ns)
        notices.settle([DeliveryEnd("notice_50", "hook", "sent", at_ns)])


async def test_notices_are_figures_of_their_destination(book: Book, scraper: Scraper) -> None:
    """How many it got, and since when something waits; a mark that comes twice counts once."""
    waiting_since(book, scraper.now_ns - 90 * SECOND)
    waiting_since(book, scraper.now_ns - 90 * SECOND)
    samples = await scraper.scrape()
    assert samples["spanledger_notices_sent_total", "hook"] == 1
    assert samples["spanledger_notices_waiting", "hook"] == 1
    assert samples["spanledger_notices_waiting_seconds", "hook"] == 90
    assert samples["spanledger_notices_failed", "hook"] == 0


async def test_every_metric_is_in_the_registry(book: Book, scraper: Scraper) -> None:
    """Everything in the registry is exported, and nothing else of ours."""
    book.budget("b", 10**9)
    book.call(started_ns=scraper.now_ns)
    scraper.deployments = [Deployment("a", "smart", 0.0, (("rpm", 0.0),))]
    scraper.exposition.in_flight = lambda: 0
    scraper.exposition.waiting = lambda: 0
    waiting_since(book, scraper.now_ns - 90 * SECOND)

    samples = await scraper.scrape()

    promised = {name for scraped in SCRAPED for name in prometheus_series(scraped)}
    assert {key[0] for key in samples if key[0].startswith("spanledger_")} == promised
