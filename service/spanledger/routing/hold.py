"""How much an attempt wants held, how many output tokens a granted hold buys, and how many to expect.

A hold bounds the cost of its try: the input by a bound on its tokens, the output by the caller's
cap or else by what the model can answer. Where a budget leaves less, the output is capped
upstream to what the hold buys, so that the bound stays one.
"""

from __future__ import annotations

from typing import NamedTuple

from spanledger.ledger.store import HoldSizes
from spanledger.pricing.demand import Demand
from spanledger.pricing.price import USUAL, Price, Terms
from spanledger.routing.history import OutputHistory

DEFAULT_MAX_OUTPUT_TOKENS = 16_384
"""What a model is taken to answer at most when the price book does not say."""
EXPECTED_TOKENS = 1_024
"""Output of an answer nobody saw, on a route that has not answered yet: a long one, since who has
nothing answered to the end must not have it for less than the others."""
LEAST_TOKENS = 16
"""Output for which an attempt is still worth its input."""
MAX_HOLD_NANO = 10**15
"""A million dollars: holds stay far from what 64 bits can add up."""


class Sizes(NamedTuple):
    """The ledger's sizes, the output tokens of all choices that each is for, and on what terms."""

    holds: HoldSizes
    input_tokens: int
    full: int
    usual: int
    least: int
    terms: Terms = USUAL


def sizes_of(demand: Demand, price: Price | None, terms: Terms = USUAL) -> Sizes:
    """What an attempt of this demand wants held at this price; nothing where there is no price."""
    if price is None:
        return _UNPRICED
    input_tokens, choices, cap = demand.input_tokens, demand.choices, demand.cap
    if price.max_input_tokens is not None and price.max_input_tokens < input_tokens:
        input_tokens = price.max_input_tokens  # a longer prompt is refused there
    if cap is not None:
        full = usual = cap * choices + demand.predicted
        full_nano = usual_nano = min(price.bound_nano(input_tokens, full, terms), MAX_HOLD_NANO)
    else:
        most = price.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        full = most * choices + demand.predicted
        usual = min(demand.usual, most) * choices + demand.predicted
        full_nano = min(price.bound_nano(input_tokens, full, terms), MAX_HOLD_NANO)
        usual_nano = min(price.bound_nano(input_tokens, usual, terms), full_nano)
    least = min(LEAST_TOKENS * choices + demand.predicted, usual)
    least_nano = min(price.bound_nano(input_tokens, least, terms), usual_nano)
    holds = HoldSizes(full_nano, usual_nano, least_nano)
    return Sizes(holds, input_tokens, full, usual, least, terms)


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
    expected = each * demand.choices + demand.predicted
    if price is None:
        return expected
    bought = output_bought(sizes, price, hold_nano)
    most = sizes.full if bought is None else bought
    return _affordable(price, sizes, hold_nano, min(expected, most))


def _affordable(price: Price, sizes: Sizes, hold_nano: int, most: int) -> int:
    """The most output tokens, up to `most`, that a hold pays for beside its input."""
    if price.bound_nano(sizes.input_tokens, most, sizes.terms) <= hold_nano:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if price.bound_nano(sizes.input_tokens, middle, sizes.terms) <= hold_nano:
            low = middle
        else:
            high = middle - 1
    return low


_UNPRICED = Sizes(HoldSizes(0, 0, 0), 0, 0, 0, 0)
