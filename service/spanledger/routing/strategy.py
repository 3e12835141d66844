"""`routing_strategy`: which of a route's available deployments gets a request.

Each strategy is a function that looks at each deployment once. The figures (attempts in flight,
latencies, tokens of the last minute) come from `health`, prices from the price book. Ties are
broken at random, so that equal deployments share the traffic.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spanledger.pricing.price import Price
from spanledger.routing.course import Candidate, Choose

LATENCY_BASED = "latency-based-routing"


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a router chooses, and what it has to measure for that."""

    choose: Choose
    measures_latency: bool = False
    counts_tokens: bool = False


def shuffled(found: Sequence[Candidate], _: float, rng: random.Random, __: bool) -> Candidate:
    """Random, by weight; evenly if none has a weight."""
    total = sum(target.deployment.weight for target in found)
    if total <= 0:
        return found[int(rng.random() * len(found))]
    point = rng.random() * total
    last = found[0]
    for target in found:
        weight = target.deployment.weight
        if weight > 0:
            last = target
            point -= weight
            if point < 0:
                break
    return last


def least_busy(found: Sequence[Candidate], _: float, rng: random.Random, __: bool) -> Candidate:
    """The one with the fewest attempts in flight."""
    return _least(found, lambda target: target.health.in_flight, rng)


def cheapest(found: Sequence[Candidate], _: float, rng: random.Random, __: bool) -> Candidate:
    """The one with the lowest price for one token of input plus one of output."""
    return _least(found, lambda target: token_price(target.price), rng)


def least_used(found: Sequence[Candidate], now: float, rng: random.Random, _: bool) -> Candidate:
    """The one that used the fewest tokens in the last minute."""
    return _least(found, lambda target: target.health.tokens_used(now), rng)


def fastest(buffer: float, ttl_s: float) -> Choose:
    """The one with the lowest recent latency, or any within `buffer` (a share) of it.

    Streams are judged by time to first content, other answers by time per token of output. A
    deployment that was not measured within `ttl_s` is called first, to measure it.
    """

    def choose(
        found: Sequence[Candidate], now: float, rng: random.Random, stream: bool
    ) -> Candidate:
        least = min(target.health.latency_s(now, ttl_s, stream=stream) for target in found)
        most = least + buffer * least
        return _least(
            found,
            lambda target: max(most, target.health.latency_s(now, ttl_s, stream=stream)),
            rng,
        )

    return choose


def strategy_of(name: str, args: Mapping[str, float]) -> Strategy:
    """The strategy with a name from `STRATEGIES`, with its `routing_strategy_args`."""
    if name == LATENCY_BASED:
        choose = fastest(args.get("lowest_latency_buffer", 0.0), args.get("ttl", 3600.0))
        return Strategy(choose, measures_latency=True)
    return _PLAIN[name]


def token_price(price: Price | None) -> float:
    """A figure that rises with the price of one token of input and one of output; models without a price come last."""
    if price is None:
        return math.inf
    rates = price.rates
    both = rates.dearest_input(sound=False) + rates.dearest_output(speech=False)
    return both * price.share


def _least(
    found: Sequence[Candidate], figure: Callable[[Candidate], float], rng: random.Random
) -> Candidate:
    best, least, equal = found[0], math.inf, 0
    for target in found:
        value = figure(target)
        if value < least:
            best, least, equal = target, value, 1
        elif value == least:
            equal += 1
            if rng.random() * equal < 1:  # each of `equal` with the same chance
                best = target
    return best


_PLAIN = {
    "simple-shuffle": Strategy(shuffled),
    "least-busy": Strategy(least_busy),
    "cost-based-routing": Strategy(cheapest),
    "usage-based-routing": Strategy(least_used, counts_tokens=True),
    "usage-based-routing-v2": Strategy(least_used, counts_tokens=True),
}
STRATEGIES = (*_PLAIN, LATENCY_BASED)
"""LiteLLM's names. Source: `RoutingStrategy` in its `types/router.py`."""
