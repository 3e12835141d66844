"""How much money to hold for an attempt, how much output a hold buys, and how much to expect.

A hold is an upper bound on the cost of its attempt: for the input, a bound on its tokens; for the
output, the caller's cap or else the model's maximum. If a budget has less left, the provider is
sent a cap on the output that the hold can pay for, so that it remains an upper bound.
"""

from __future__ import annotations

import msgspec

from spanledger.budgets.model import HoldSizes
from spanledger.pricing.demand import Demand
from spanledger.pricing.price import USUAL, Price, Terms
from spanledger.routing.history import OutputHistory

DEFAULT_MAX_OUTPUT_TOKENS = 16_384
"""A model's maximum output if the price book has none."""
EXPECTED_TOKENS = 1_024
"""Output assumed for an answer nobody saw, on a route without history. It is long on purpose: a
caller that always hangs up must not pay less than others."""
WINDOW_MARGIN_TOKENS = 1
"""The book has 8,191 tokens for the embedding models that take 8,192."""
LEAST_TOKENS = 16
"""The least output for which an attempt is worth the price of its input."""
MAX_HOLD_NANO = 10**15
"""A million dollars, so that sums of holds stay far below 64 bits."""


class Sizes(msgspec.Struct, frozen=True):
    """The ledger's hold sizes, the output tokens (over all choices) behind each, and the terms."""

    holds: HoldSizes
    input_tokens: int
    full: int
    usual: int
    least: int
    terms: Terms = USUAL


def sizes_of(demand: Demand, price: Price | None, terms: Terms = USUAL) -> Sizes:
    """The hold sizes for an attempt with this demand at this price; zero without a price."""
    if price is None:
        return _UNPRICED
    input_tokens, choices, cap = demand.input_tokens, demand.choices, demand.cap
    if price.max_input_tokens is not None and demand.inputs:
        # The provider refuses a longer prompt.
        window = price.max_input_tokens + WINDOW_MARGIN_TOKENS
        input_tokens = min(input_tokens, window * demand.inputs)
    most = (price.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS) if cap is None else cap
    if demand.in_one:
        most = min(most, price.max_output_tokens or most)
    full = usual = most * choices + demand.predicted
    full_nano = usual_nano = min(price.bound_nano(input_tokens, full, terms), MAX_HOLD_NANO)
    if not demand.fixed and (cap is None or demand.must_cap):
        usual = min(demand.usual, most) * choices + demand.predicted
        usual_nano = min(price.bound_nano(input_tokens, usual, terms), full_nano)
    least, least_nano = usual, usual_nano
    if not demand.fixed and (few := LEAST_TOKENS * choices + demand.predicted) < usual:
        least = few
        least_nano = min(price.bound_nano(input_tokens, least, terms), usual_nano)
    holds = HoldSizes(full_nano, usual_nano, least_nano, demand.must_cap, demand.learnt)
    return Sizes(holds, input_tokens, full, usual, least, terms)


def output_bought(sizes: Sizes, price: Price, hold_nano: int) -> int | None:
    """Output tokens over all choices that a hold pays for; None if it pays for the maximum."""
    if hold_nano >= sizes.holds.full:
        return None
    if hold_nano == sizes.holds.usual:
        return sizes.usual
    return _affordable(price, sizes, hold_nano, sizes.full)


def expected_output(
    demand: Demand, sizes: Sizes, price: Price | None, hold_nano: int, history: OutputHistory
) -> int:
    """Output tokens over all choices to charge for an answer that may have been written unseen.

    As many as the route's answers have on average, so that hanging up saves nothing, but no more
    than the caller's cap and the hold allow, so that an estimate never overruns a budget.
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
    """The most output tokens, up to `most`, that a hold pays for in addition to its input."""
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
