"""Contract prices: which rule applies, and what it makes of a price."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.config import Config, parse_config
from spanledger.errors import ConfigError
from spanledger.money import WHOLE_SHARE, format_share, parse_percent, share_of
from spanledger.pricing.book import PriceBook
from spanledger.pricing.contracts import Prices
from spanledger.pricing.price import Price, Rates, Terms
from spanledger.pricing.rules import FOR_GOOD_NS, PriceRule, PriceRules
from spanledger.pricing.usage import Usage
from spanledger.routing.plan import Plan
from tests.service.routing.rig import Site

PROPERTIES = ("first", "second")
NAMES = ("a", "ab", "abc", "b")
PATTERNS = ("a", "ab", "abc", "b", "*", "a*", "ab*", "*b", "a*c")
BOOK = PriceBook.load()
DAY_NS = 86_400 * 10**9


def _fits(pattern: str, name: str) -> bool:
    """By recursion over characters, unlike the code under test."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_fits(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return bool(name) and pattern[0] == name[0] and _fits(pattern[1:], name[1:])


def _beats(one: PriceRule[int], other: PriceRule[int]) -> bool:
    """Whether a later rule applies in place of an earlier one, property by property."""
    for name in PROPERTIES:
        mine, theirs = one.names.get(name, "*"), other.names.get(name, "*")
        exact = ("*" not in mine, "*" not in theirs)
        if exact[0] != exact[1]:
            return exact[0]
        if not exact[0] and len(mine.replace("*", "")) != len(theirs.replace("*", "")):
            return len(mine.replace("*", "")) > len(theirs.replace("*", ""))
        if not exact[0] and (mine == "*") != (theirs == "*"):
            return theirs == "*"
    return True


_rules = st.builds(
    lambda names, since, length, what: PriceRule("r", names, since, since + length, what),
    st.dictionaries(st.sampled_from(PROPERTIES), st.sampled_from(PATTERNS)),
    st.integers(0, 5),
    st.sampled_from([1, 3, FOR_GOOD_NS]),
    st.integers(0, 10**9),
)


@given(
    st.lists(_rules, max_size=8),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.integers(0, 9),
)
def test_the_most_specific_rule_applies_and_then_the_last(
    rules: list[PriceRule[int]], subject: tuple[str, str], at: int
) -> None:
    """Of the rules that match by name and time, none beats the one that is found."""
    named = dict(zip(PROPERTIES, subject, strict=True))
    best: PriceRule[int] | None = None
    for rule in rules:
        matches = all(_fits(rule.names.get(name, "*"), named[name]) for name in PROPERTIES)
        if matches and rule.since_ns <= at < rule.until_ns and (not best or _beats(rule, best)):
            best = rule

    assert PriceRules(PROPERTIES, rules).find(named, at) is best


@given(st.lists(_rules, max_size=6), st.integers(0, 9))
def test_nothing_changes_while_rules_last(rules: list[PriceRule[int]], at: int) -> None:
    """A moment is within the time that it lasts, and the same rules match throughout."""
    found = PriceRules(PROPERTIES, rules)
    since, until = found.lasting(at)

    assert since <= at < until
    named = dict.fromkeys(PROPERTIES, "ab")
    for moment in range(since, min(until, 12)):
        assert found.matching(named, moment) == found.matching(named, at)


_pico = st.integers(0, 10**8)
_shares = st.integers(0, 11 * WHOLE_SHARE)


@given(_pico, _pico, st.integers(0, 10**7), st.integers(0, 10**6), _shares)
def test_a_share_of_a_cost_is_exact_and_rounded_up_once(
    given_pico: int, taken_pico: int, tokens: int, output: int, share: int
) -> None:
    """Fractions give the same figure to the nano-dollar, and the hold for these tokens covers it."""
    rates = Rates(given_pico, taken_pico, given_pico, given_pico, given_pico, taken_pico)
    price = Price("p", rates, share=share)
    usage = Usage(input_tokens=tokens, output_tokens=output)

    cost = price.cost_nano(usage)

    exact = Fraction(tokens * given_pico + output * taken_pico, 1000) * Fraction(share, WHOLE_SHARE)
    assert cost == ceil(exact)
    assert price.bound_nano(tokens, output) >= cost
    assert price.bound_nano(tokens, output, Terms(sound=True)) >= cost


@given(st.integers(0, 2**50), _shares)
def test_a_share_of_an_amount_is_exact_and_rounded_up(nano: int, share: int) -> None:
    """Fractions give the same figure."""
    assert share_of(nano, share) == ceil(Fraction(nano) * Fraction(share, WHOLE_SHARE))


@pytest.mark.parametrize(
    ("text", "share"), [("12.5%", 125_000), ("0.0001 %", 1), ("100%", WHOLE_SHARE), ("0%", 0)]
)
def test_a_percentage_is_read_exactly(text: str, share: int) -> None:
    """In millionths of a whole."""
    assert parse_percent(text) == share


@pytest.mark.parametrize("text", ["12.5", "0.00001%", "-1%", "%", "x%", 5, 0.5, None])
def test_what_is_not_a_percentage_is_refused(text: object) -> None:
    """Also a bare number, which could be a share or a percentage."""
    with pytest.raises(ValueError, match=r"%|percentage|amount|negative"):
        parse_percent(text)


def test_a_share_is_written_as_a_decimal() -> None:
    """Without zeros at its end."""
    assert [format_share(s) for s in (875_000, WHOLE_SHARE, 1_200_000, 1, 0)] == [
        *("0.875", "1", "1.2"),
        *("0.000001", "0"),
    ]


def _config(*contracts: dict[str, Any], **more: Any) -> Config:
    entry = {
        "model_name": "chat",
        "litellm_params": {"model": "openai/gpt-4o", "api_key": "k"},
        "model_info": {"id": "main"},
    }
    pricing = {"contracts": list(contracts), **more}
    return parse_config({"model_list": [entry], "pricing": pricing}, {}, "c.yaml")


def _price(*contracts: dict[str, Any], at_ns: int = 0) -> Price:
    config = _config(*contracts)
    (deployment,) = Plan.from_config(config, {}, BOOK).deployments
    price = Prices(BOOK, config.pricing).price_of(deployment, at_ns)
    assert price is not None
    return price


USAGE = Usage(input_tokens=1_000, output_tokens=100)


def test_a_contract_bills_a_share_of_the_list_price() -> None:
    """Its price id says which share of which line of the price book."""
    listed = BOOK.price("gpt-4o")
    assert listed is not None

    price = _price({"name": "c", "provider": "openai", "discount": "12.5%"})

    assert price.cost_nano(USAGE) == ceil(listed.cost_nano(USAGE) * Fraction(7, 8))
    assert price.list_nano(USAGE) == listed.cost_nano(USAGE)
    assert price.id == f"{listed.id}*0.875"


def test_a_contract_may_have_prices_of_its_own() -> None:
    """The list price is still that of the price book."""
    listed = BOOK.price("gpt-4o")
    assert listed is not None
    own = {"input_cost_per_token": "1e-6", "output_cost_per_token": "2e-6"}

    price = _price({"name": "c", "model": "gpt-4*", **own})

    assert price.cost_nano(USAGE) == 1_000 * 1_000 + 100 * 2_000
    assert price.list_nano(USAGE) == listed.cost_nano(USAGE)


def test_batches_have_the_share_too() -> None:
    """Half the price in a batch is half the contract's price."""
    price, listed = _price({"name": "c", "discount": "50%"}), BOOK.price("gpt-4o")
    assert listed is not None

    assert price.batched.cost_nano(USAGE) == ceil(listed.batched.cost_nano(USAGE) * Fraction(1, 2))
    assert price.batched.list_nano(USAGE) == listed.batched.cost_nano(USAGE)


def test_without_contracts_there_is_no_list_price_to_store() -> None:
    """The cost is the list price then."""
    assert _price().list_nano(USAGE) is None


def test_a_date_is_read_in_utc_unless_it_has_an_offset() -> None:
    """`from` is within the time, `to` is not."""
    rule = {"name": "c", "discount": "50%", "from": "1970-01-02", "to": "1970-01-03T02:00+02:00"}

    shares = [_price(rule, at_ns=at).share for at in (DAY_NS - 1, DAY_NS, 2 * DAY_NS - 1)]

    assert shares == [WHOLE_SHARE, WHOLE_SHARE // 2, WHOLE_SHARE // 2]
    assert _price(rule, at_ns=2 * DAY_NS).share == WHOLE_SHARE


async def test_a_price_changes_while_the_gateway_runs() -> None:
    """A request that begins after the contract does is held and charged by it, without a restart."""
    half = {"name": "half", "discount": "50%", "from": "2026-11-23T12:30+00:00"}
    site = Site({"a": ["one"]}, {}, pricing={"contracts": [half]})
    site.time.now = 0.0
    await site.ask()
    before = site.last.cost_nano
    early = site.exchange()

    site.time.now = 3_600.0
    early.deadline = site.time.now + 60
    await site.ask()
    after = site.last.cost_nano
    await site.ask(early)

    assert before is not None
    assert after == before // 2
    assert site.last.cost_nano == before
    holds = [hold_nano for _, hold_nano in site.ledger.held.values()]
    assert holds[1] < holds[0] == holds[2]


def test_all_mistakes_of_rules_are_reported_at_once() -> None:
    """Each with its place."""
    with pytest.raises(ConfigError) as caught:
        _config(
            {"name": "a", "discount": "12.5"},
            {"name": "b", "discount": "5%", "markup": "5%"},
            {"name": "c", "discount": "5%", "from": "2026-02-01", "to": "2026-01-01"},
            {"name": "d", "input_cost_per_token": 1e-6},
            {"name": "e", "discount": "101%"},
            {"name": "f", "markup": "1%", "from": "soon"},
            {"name": "g", "discont": "1%"},
            charges=[{"name": "h"}, {"name": "i", "markup": "9999%"}],
        )

    text = str(caught.value)
    for place in range(7):
        assert f"pricing.contracts.{place}" in text
    for place in range(2):
        assert f"pricing.charges.{place}" in text


def test_the_command_says_which_rules_apply(tmp_path: Path) -> None:
    """The list price, the cost by the most specific contract, and the customer charge."""
    file = tmp_path / "c.yaml"
    file.write_text(
        """
model_list:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o, api_key: k}
pricing:
  contracts:
    - {name: all, discount: 10%}
    - {name: ours, provider: openai, discount: 20%, from: 2026-06-01}
  charges:
    - {name: acme, customer: acme, markup: 20%}
"""
    )
    command = ["prices", "explain", "gpt-4o", "--config", str(file), "--customer", "acme"]

    early = CliRunner().invoke(app, [*command, "--at", "2026-05-31"])
    late = CliRunner().invoke(app, [*command, "--at", "2026-06-02"])

    assert early.exit_code == late.exit_code == 0, early.output + late.output
    assert "contract all" in early.output
    assert "contract ours; less specific or earlier: all" in " ".join(late.output.split())
    assert "acme is charged 1.2 of the cost" in late.output
