"""A closer count of a request's input, for a budget that has no room for the bound.

The bound is a token for each byte, at the price of input that is written to a cache. Near a budget's end,
that would refuse requests that cost an eighth of it. Nothing here runs before a budget has refused, or
while it has much left.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import has_media, hides_letters
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Deployment
from spanledger.routing.inputs import LEAST_BYTES, InputHistory, kind_of
from spanledger.routing.request import Exchange
from spanledger.routing.settle import Attempt
from spanledger.routing.tokenizer import Tokenizers

NEAR = 100
"""What a budget has left is little if it is less than so many holds: only then is anything learned."""
MAX_DEPLOYMENTS = 1_000
WIRES = frozenset({"chat", "responses", "messages"})
"""Those whose requests are texts, if they have no media."""
_TEXTS = ("messages", "input")
_CACHES = b'"cache_control"'
"""As a key; within a text, its quotes are escaped."""

Served = tuple[str, str, str]
"""A deployment, its model, and the wire of its callers."""


class Closer(msgspec.Struct, frozen=True):
    """A closer count: see `Demand`."""

    input_tokens: int
    learnt: bool
    unwritten: bool

    def of(self, demand: Demand) -> Demand:
        """The demand with this count."""
        tokens = min(demand.input_tokens, self.input_tokens)
        return replace(demand, input_tokens=tokens, learnt=self.learnt, unwritten=self.unwritten)


class CloserCounts:
    """What can be counted, and what was learned at each deployment."""

    def __init__(self) -> None:
        self._histories: dict[Served, InputHistory] = {}
        self._tokenizers = Tokenizers()

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

    async def count(
        self, exchange: Exchange, demand: Demand, deployment: Deployment, *, strict: bool
    ) -> Closer | None:
        """The closest count of a request; None where nothing is known but its bound.

        Args:
            strict: only what is certain counts.
        """
        if not _is_text(exchange):
            return None
        own = deployment.api_base is None
        unwritten = (own or not strict) and _writes_no_cache(deployment, exchange.ask.fields)
        saved = await self._tokenizers.saved(deployment, exchange.ask.fields)
        if saved:
            return Closer(demand.input_tokens - saved, False, unwritten)
        expected = None if strict else self._expected(exchange, demand, deployment)
        if expected is not None:
            return Closer(expected, True, unwritten)
        # What a server behind another address adds to a request is experience as well.
        return Closer(demand.input_tokens, not own, True) if unwritten else None

    def _expected(self, exchange: Exchange, demand: Demand, deployment: Deployment) -> int | None:
        ask = exchange.ask
        history = self._histories.get((deployment.id, deployment.model, ask.wire.name))
        if history is None:
            return None
        expected = history.expected(kind_of(ask.fields, ask.body_bytes), ask.body_bytes)
        if expected is None or expected >= ask.body_bytes:
            return None
        # What is not text, such as what a provider writes around tools, is bounded as before.
        return expected + max(0, demand.input_tokens - ask.body_bytes)


def _is_text(exchange: Exchange) -> bool:
    """Whether all input of a request is text that it has itself."""
    ask = exchange.ask
    if ask.body_bytes < LEAST_BYTES or ask.wire.name not in WIRES:
        return False
    if exchange.kept_at or exchange.files_at or ask.follows or ask.bound_to:
        return False
    return not any(has_media(bytes(ask.fields[n])) for n in _TEXTS if n in ask.fields)


def _writes_no_cache(deployment: Deployment, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether nothing is written to a cache: Anthropic does so only where a request says `cache_control`."""
    if deployment.kind != "anthropic" or deployment.defaults or deployment.overrides:
        return False
    return "cache_control" not in fields and not any(
        _CACHES in (text := bytes(raw)) or hides_letters(text) for raw in fields.values()
    )
