"""How much a try wants held, how many output tokens a granted hold buys, and how many to expect.

A hold bounds the cost of its try: the input by a bound on its tokens, the output by the caller's
cap or else by what the model can answer. Where a budget leaves less, the output is capped
upstream to what the hold buys, so that the bound stays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from spanledger.ledger.store import HoldSizes
from spanledger.pricing.book import Price
from spanledger.pricing.usage import bound_input_tokens
from spanledger.routing.history import OutputHistory
from spanledger.routing.request import Exchange

DEFAULT_MAX_OUTPUT_TOKENS = 16_384
"""What a model is taken to answer at most when the price book does not say."""
NO_HISTORY_TOKENS = 4_096
"""Usual output of a route that has not answered yet."""
EXPECTED_TOKENS = 1_024
"""Output of an answer nobody saw, on a route that has not answered yet: a long one, since who has
nothing answered to the end must not have it for less than the others."""
MIN_USUAL_TOKENS = 256
LEAST_TOKENS = 16
"""Output for which a try is still worth its input."""
MAX_OUTPUT_TOKENS = 10_000_000
MAX_CHOICES = 1_024
MAX_HOLD_NANO = 10**15
"""A million dollars: holds stay far from what 64 bits can add up."""

_INTEGER = msgspec.json.Decoder(int | None)


@dataclass(slots=True)
class Demand:
    """What a request can use up, wherever it goes.

    Attributes:
        input_tokens: a bound.
        cap: output tokens of one choice the caller allows; None = no cap; 0 for embeddings.
        usual: output tokens of one choice to expect: the cap, or what history says.
        choices: answers asked for.
        tokens: what rpm and tpm are counted with.
    """

    input_tokens: int
    cap: int | None
    usual: int
    choices: int
    tokens: int


class Sizes(NamedTuple):
    """The ledger's sizes, and the output tokens of all choices that each is for."""

    holds: HoldSizes
    input_tokens: int
    full: int
    usual: int
    least: int


def demand_of(exchange: Exchange, history: OutputHistory) -> Demand:
    """Read what bounds a request off its body; the gateway has checked the values."""
    fields = exchange.fields
    input_tokens = bound_input_tokens(exchange.body_bytes, fields)
    if exchange.operation == "embeddings":
        return Demand(input_tokens, cap=0, usual=0, choices=1, tokens=input_tokens)
    caps = (
        _integer(fields, "max_completion_tokens", MAX_OUTPUT_TOKENS),
        _integer(fields, "max_tokens", MAX_OUTPUT_TOKENS),
    )
    # A provider obeys one of two caps, and we do not know which.
    cap = max((cap for cap in caps if cap is not None), default=None)
    choices = _integer(fields, "n", MAX_CHOICES) or 1
    usual = cap
    if usual is None:
        p99 = history.p99()
        usual = NO_HISTORY_TOKENS if p99 is None else max(MIN_USUAL_TOKENS, 2 * p99)
    return Demand(input_tokens, cap, usual, choices, input_tokens + usual * choices)


def sizes_of(demand: Demand, price: Price | None) -> Sizes:
    """What a try of this demand wants held at this price; nothing where there is no price."""
    if price is None:
        return _UNPRICED
    input_tokens, choices, cap = demand.input_tokens, demand.choices, demand.cap
    if price.max_input_tokens is not None and price.max_input_tokens < input_tokens:
        input_tokens = price.max_input_tokens  # a longer prompt is refused there
    if cap is not None:
        full = usual = cap * choices
        full_nano = usual_nano = min(price.bound_nano(input_tokens, full), MAX_HOLD_NANO)
    else:
        most = price.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        full, usual = most * choices, min(demand.usual, most) * choices
        full_nano = min(price.bound_nano(input_tokens, full), MAX_HOLD_NANO)
        usual_nano = min(price.bound_nano(input_tokens, usual), full_nano)
    least = min(LEAST_TOKENS * choices, usual)
    least_nano = min(price.bound_nano(input_tokens, least), usual_nano)
    holds = HoldSizes(full_nano, usual_nano, least_nano)
    return Sizes(holds, input_tokens, full, usual, least)


def output_bought(sizes: Sizes, price: Price, hold_nano: int) -> int | None:
    """Output tokens of all choices that a hold pays for; None when it pays for all."""
    if hold_nano >= sizes.holds.full:
        return None
    if hold_nano == sizes.holds.usual:
        return sizes.usual
    return _affordable(price, sizes, hold_nano, sizes.full)


def expected_output(
    demand: Demand, sizes: Sizes, price: Price | None, hold_nano: int, history: OutputHistory
) -> int:
    """Output tokens of all choices to charge for an answer that may have been written unseen.

    As many as the route's answers have on average, so that hanging up saves nobody anything; and
    no more than the caller's cap and the hold allow, so that an estimate overruns no budget.
    """
    mean = history.mean()
    each = EXPECTED_TOKENS if mean is None else mean
    if demand.cap is not None:
        each = min(each, demand.cap)
    expected = each * demand.choices
    if price is None:
        return expected
    bought = output_bought(sizes, price, hold_nano)
    most = sizes.full if bought is None else bought
    return _affordable(price, sizes, hold_nano, min(expected, most))


def _affordable(price: Price, sizes: Sizes, hold_nano: int, most: int) -> int:
    """The most output tokens, up to `most`, that a hold pays for beside its input."""
    if price.bound_nano(sizes.input_tokens, most) <= hold_nano:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if price.bound_nano(sizes.input_tokens, middle) <= hold_nano:
            low = middle
        else:
            high = middle - 1
    return low


_UNPRICED = Sizes(HoldSizes(0, 0, 0), 0, 0, 0, 0)


def _integer(fields: Mapping[str, msgspec.Raw], name: str, most: int) -> int | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value = _INTEGER.decode(raw)
    except msgspec.DecodeError:
        return None
    return None if value is None or value < 1 else min(value, most)
