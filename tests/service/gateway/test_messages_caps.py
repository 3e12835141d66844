"""Messages near a budget's limit: a lower `max_tokens` instead of a refusal, as for chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from spanledger.budgets.model import Budget
from spanledger.sim.server import sim_in_thread
from tests.support.ledgers import store_at

from .test_clients import Running
from .test_messages import HELLO, Site, configuration

CENT = 10_000_000
LARGE = 60_000
"""A `max_tokens` that costs 0.30 USD at claude-haiku-4-5."""
BUDGETS = {
    "ample": (200 * CENT, False),
    "tight": (5 * CENT, False),
    "strict": (CENT, True),
    "poor": (CENT, False),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway whose customers have little left."""
    ledger: Path = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in BUDGETS}
    budgets = [
        Budget(name, "customer", name, limit, "day", strict=strict)
        for name, (limit, strict) in BUDGETS.items()
    ]
    records.set_budgets(budgets, 1)
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield Site(url, sim.url, ledger, keys)


def thinking(tokens: int) -> Any:
    """Thinking with a budget of tokens."""
    return {"type": "enabled", "budget_tokens": tokens}


def asked(site: Site, customer: str, **more: Any) -> tuple[Any, dict[str, str], int]:
    """A long request's answer and headers, and what was held for it."""
    before = len(site.billed())
    with site.messages(customer, timeout=30) as client:
        raw = client.messages.with_raw_response.create(
            **{"model": "claude", "messages": HELLO, "max_tokens": LARGE, **more}
        )
    site.check(raw.headers["request-id"], before)
    ((_, held, *_),) = site.attempts(raw.headers["request-id"])
    return raw.parse(), dict(raw.headers), held


def test_with_room_the_callers_own_cap_is_held(site: Site) -> None:
    """Even where that is more than a tenth of what is left: the caller named it."""
    _, headers, held = asked(site, "ample")

    assert held >= LARGE * 5_000
    assert "x-spanledger-changed" not in headers


@pytest.mark.parametrize("route", ["claude", "gpt"])
def test_near_the_limit_a_lower_cap_is_sent(site: Site, route: str) -> None:
    """The hold covers what the route usually needs, and the answer is served."""
    answer, _, held = asked(site, "tight", model=route)

    assert answer.content[0].text
    assert 0 < held <= 5 * CENT


def test_a_budget_for_thinking_stays_below_the_cap(site: Site) -> None:
    """The usual hold has room for all of it, so the request is served as it was asked."""
    answer, headers, held = asked(site, "tight", thinking=thinking(6_000))

    assert answer.content[-1].text
    assert "x-spanledger-changed" not in headers
    assert held >= 6_000 * 5_000


def test_a_strict_budget_lowers_thinking_too(site: Site) -> None:
    """What is left pays for less than the budget for thinking; the caller is told."""
    answer, headers, held = asked(site, "strict", thinking=thinking(20_000))

    assert answer.content
    assert headers["x-spanledger-changed"] == "thinking"
    assert held <= CENT


def test_thinking_that_does_not_fit_is_refused(site: Site) -> None:
    """Half of the thinking would be another answer, so only a strict budget lowers it."""
    with (
        site.messages("poor", timeout=30) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(
            model="claude", messages=HELLO, max_tokens=LARGE, thinking=thinking(20_000)
        )

    assert caught.value.type == "billing_error"


def test_a_small_cap_of_the_callers_is_never_raised(site: Site) -> None:
    """The usual length of answers says nothing of a request that wants less."""
    answer, _, held = asked(site, "tight", max_tokens=3)

    assert answer.usage.output_tokens <= 3
    assert held < CENT
