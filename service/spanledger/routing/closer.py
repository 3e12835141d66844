"""A closer count of a request's input, for a budget that has no room for the bound.

The bound is a token for each byte. Near a budget's end, that would refuse requests that cost a quarter of
it. Nothing here runs before a budget has refused, or while it has much left.
"""

from __future__ import annotations

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import has_media
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Deployment
from spanledger.routing.inputs import LEAST_BYTES, InputHistory, kind_of
from spanledger.routing.request import Exchange
from spanledger.routing.settle import Attempt

NEAR = 100
"""What a budget has left is little if it is less than so many holds: only then is anything learned."""
MAX_DEPLOYMENTS = 1_000
WIRES = frozenset({"chat", "responses", "messages"})
"""Those whose requests are texts, if they have no media."""
_TEXTS = ("messages", "input")

Served = tuple[str, str, str]
"""A deployment, its model, and the wire of its callers."""


class CloserCounts:
    """What was learned at each deployment."""

    def __init__(self) -> None:
        self._histories: dict[Served, InputHistory] = {}

    def learn(self, exchange: Exchange, attempt: Attempt, usage: Usage) -> None:
        """Note what a complete answer's provider counted, if a budget is near its end."""
        hold = attempt.hold
        if hold.remaining_nano is None or hold.remaining_nano > NEAR * hold.hold_nano:
            return
        if not _is_text(exchange) or usage.input_tokens <= 0:
            return
        deployment, ask = attempt.target.deployment, exchange.ask
        served = (deployment.id, deployment.model, ask.wire.name)
        history = self._histories.get(served)
        if history is None:
            if len(self._histories) >= MAX_DEPLOYMENTS:
                return
            history = self._histories[served] = InputHistory()
        history.record(kind_of(ask.fields, ask.body_bytes), ask.body_bytes, usage.input_tokens)

    def count(self, exchange: Exchange, demand: Demand, deployment: Deployment) -> int | None:
        """The input to hold for instead of its bound; None where nothing better is known."""
        if demand.learnt or not _is_text(exchange):
            return None
        ask = exchange.ask
        history = self._histories.get((deployment.id, deployment.model, ask.wire.name))
        if history is None:
            return None
        expected = history.expected(kind_of(ask.fields, ask.body_bytes), ask.body_bytes)
        if expected is None or expected >= ask.body_bytes:
            return None
        # What is not text, such as what a provider writes around tools, is bounded as before.
        beside = max(0, demand.input_tokens - ask.body_bytes)
        return expected + beside


def _is_text(exchange: Exchange) -> bool:
    """Whether all input of a request is text that it has itself."""
    ask = exchange.ask
    if ask.body_bytes < LEAST_BYTES or ask.wire.name not in WIRES:
        return False
    if exchange.kept_at or exchange.files_at or ask.follows or ask.bound_to:
        return False
    return not any(has_media(bytes(ask.fields[n])) for n in _TEXTS if n in ask.fields)
