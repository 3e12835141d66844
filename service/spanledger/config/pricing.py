"""The section `pricing`: what providers bill by contract, and what customers are charged."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spanledger.budgets.written import POSSIBLE_YEARS
from spanledger.clock import NANOS
from spanledger.config.fields import Name, Ours, Owner, PicoUsd
from spanledger.money import WHOLE_SHARE, parse_percent

MAX_PRICE_RULES = 1_000
"""Of each kind."""
MAX_MARKUP = 10 * WHOLE_SHARE


def _discount(value: object) -> int:
    share = parse_percent(value)
    if not 0 < share <= WHOLE_SHARE:
        raise ValueError("a discount is more than 0% and at most 100%")
    return share


def _markup(value: object) -> int:
    share = parse_percent(value)
    if share > MAX_MARKUP:
        raise ValueError("a mark-up is at most 1000%")
    return share


def _moment(value: object) -> int:
    """Unix nanoseconds of a date or time, read in UTC unless it has an offset."""
    text = value.isoformat() if isinstance(value, date) else value
    try:
        found = datetime.fromisoformat(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError(
            f"{text!r} is not a date; write it like 2026-01-01 or 2026-01-01T09:30"
        ) from None
    if found.year not in POSSIBLE_YEARS:
        raise ValueError(f"{found.year} is not a likely year")
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp()) * NANOS


_Discount = Annotated[int, BeforeValidator(_discount)]
_Markup = Annotated[int, BeforeValidator(_markup)]
_Moment = Annotated[int, BeforeValidator(_moment)]


class _Rule(Ours):
    name: Name = Field(description="Unique name.")
    discount: _Discount | None = Field(None, description="Percentage off, like `12.5%`.")
    markup: _Markup | None = Field(None, description="Percentage on top, like `20%`.")
    since_ns: _Moment | None = Field(
        None,
        alias="from",
        description="Requests that began since then, like `2026-01-01`; in UTC without an offset.",
    )
    until_ns: _Moment | None = Field(
        None, alias="to", description="Requests that began before then; default: for good."
    )

    @property
    def share(self) -> int:
        """What is left of a whole, or made of it, in millionths."""
        return WHOLE_SHARE - (self.discount or 0) + (self.markup or 0)

    @model_validator(mode="after")
    def _check(self) -> _Rule:
        since, until = self.since_ns, self.until_ns
        if since is not None and until is not None and until <= since:
            raise ValueError("`to` must be later than `from`")
        if self.discount is not None and self.markup is not None:
            raise ValueError("has both a discount and a markup; remove one")
        return self

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: given for name in names if (given := getattr(self, name)) is not None}


class ContractEntry(_Rule):
    """One of `contracts`: what a provider bills."""

    deployment: Name | None = Field(
        None, description="Only this deployment (`model_info.id`); `*` stands for any text."
    )
    model: Name | None = Field(None, description="Only this model of the provider, like `gpt-4o*`.")
    provider: Name | None = Field(None, description="Only this provider, like `openai`.")
    input_cost_per_token: PicoUsd | None = Field(
        None, description="A price of its own in place of a percentage, in USD."
    )
    output_cost_per_token: PicoUsd | None = Field(None, description="As above.")
    cache_read_input_token_cost: PicoUsd | None = Field(None, description="As above.")
    cache_creation_input_token_cost: PicoUsd | None = Field(None, description="As above.")
    output_cost_per_reasoning_token: PicoUsd | None = Field(None, description="As above.")

    @property
    def names(self) -> dict[str, str]:
        """What it is for."""
        return self._given(("deployment", "model", "provider"))

    @property
    def prices(self) -> dict[str, int]:
        """Prices of its own, pico-USD per token."""
        return self._given(CONTRACT_PRICES)

    @model_validator(mode="after")
    def _check_prices(self) -> ContractEntry:
        ways = [self.discount is not None, self.markup is not None, bool(self.prices)]
        if sum(ways) != 1:
            raise ValueError(
                "needs one of discount, markup, or prices (input_cost_per_token and"
                " output_cost_per_token)"
            )
        if self.prices and not self.prices.keys() >= {CONTRACT_PRICES[0], CONTRACT_PRICES[1]}:
            raise ValueError("needs both input_cost_per_token and output_cost_per_token")
        return self


CONTRACT_PRICES = (
    *("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"),
    *("cache_creation_input_token_cost", "output_cost_per_reasoning_token"),
)
"""Prices that a contract may have, by LiteLLM's keys."""


class ChargeEntry(_Rule):
    """One of `charges`: what a customer is charged."""

    customer: Owner | None = Field(None, description="Only this customer; `*` stands for any text.")
    team: Owner | None = Field(None, description="Only this team.")
    model: Name | None = Field(None, description="Only this model of the provider.")
    provider: Name | None = Field(None, description="Only this provider.")
    of: Literal["cost", "list"] = Field(
        "cost", description="What the percentage is of: the cost, or the list price."
    )

    @property
    def names(self) -> dict[str, str]:
        """Whom and what it is for."""
        return self._given(("customer", "team", "model", "provider"))

    @model_validator(mode="after")
    def _check_share(self) -> ChargeEntry:
        if self.discount is None and self.markup is None and self.of == "cost":
            raise ValueError("needs a discount, a markup, or `of: list`")
        return self


def _named_once(rules: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]!r} is used twice; give each rule its own name")
    return rules


class PricingSettings(Ours):
    """Contract prices, and what customers are charged next to what it costs. Of several rules that
    match, the most specific one applies; of equally specific ones, the last."""

    contracts: Annotated[tuple[ContractEntry, ...], AfterValidator(_named_once)] = Field(
        (), description="What providers bill by contract.", max_length=MAX_PRICE_RULES
    )
    charges: Annotated[tuple[ChargeEntry, ...], AfterValidator(_named_once)] = Field(
        (), description="What customers are charged.", max_length=MAX_PRICE_RULES
    )
