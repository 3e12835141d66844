"""What tokens and other units cost: rates by prompt size and service tier, and the two amounts made
from them.

One amount is what usage costs, the other the most that a request can cost. Integers of pico-USD,
rounded up to nano-USD once. `book` knows where the prices come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec

from spanledger.money import PICO_PER_NANO, WHOLE_SHARE, nano_from_pico
from spanledger.pricing.usage import Usage

USUAL_SERVICES = frozenset(
    {"", "auto", "default", "standard", "standard_only", "on_demand", "scale", "batch", "flex"}
)
"""Service tiers that cost no more than the usual one, even if their price is not listed."""
_SAME_SERVICE = {"fast": "priority"}
"""OpenAI's newer name for `priority`; Anthropic's `fast` has prices under its own name."""


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Prices of one token, pico-USD; audio and images without a price of their own cost as much as
    text."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int
    audio_input: int | None = None
    audio_cache_read: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None

    def dearest_input(self, *, sound: bool = True, written: bool = True) -> int:
        """The highest price of an input token, text or audio, written to a cache or not."""
        text = max(self.input, self.cache_read)
        if written:
            text = max(text, self.cache_write, self.cache_write_1h)
        text = max(text, self.image_input or 0)
        return max(text, self.audio_input or 0, self.audio_cache_read or 0) if sound else text

    def dearest_output(self, *, speech: bool = True) -> int:
        """The highest price of an output token, text or speech."""
        text = max(self.output, self.reasoning, self.image_output or 0)
        return max(text, self.audio_output or 0) if speech else text


@dataclass(frozen=True, slots=True)
class RateTier:
    """Rates for all tokens of a request with more than `above` input tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates by prompt size, tiers ascending."""

    rates: Rates
    tiers: tuple[RateTier, ...] = ()

    def at(self, input_tokens: int) -> Rates:
        """The rates of a request of this size; a long-context tier applies to all its tokens."""
        rates = self.rates
        for tier in self.tiers:
            if input_tokens > tier.above:
                rates = tier.rates
        return rates

    def up_to(self, input_tokens: int) -> list[Rates]:
        """The rates of all requests up to this size."""
        return [self.rates, *(tier.rates for tier in self.tiers if input_tokens > tier.above)]


@dataclass(frozen=True, slots=True)
class Terms:
    """The properties of a request that can make its tokens cost more than text at the usual rates.

    Attributes:
        service: the service tier it requests.
        sound: its input may contain audio.
        speech: its answer may be spoken.
        unit: what it is billed by in addition to tokens; see `Price.units`.
        units: how many of these at most.
        unwritten: nothing of its input is written to a cache.
    """

    service: str = ""
    sound: bool = False
    speech: bool = False
    unit: str = ""
    units: int = 0
    unwritten: bool = False


USUAL = Terms()


@dataclass(frozen=True)
class Price:
    """What one deployment's tokens cost.

    Attributes:
        id: `<book>/<model>`, or `config/<deployment>/<digest of all prices>`. Every attempt records
            it, so the amount can be recomputed from the book (or the configuration).
        rates: for ordinary requests.
        tiers: for long ones, ascending.
        services: rates and tiers of each service tier that has its own.
        search: price of a web search, pico-USD.
        units: prices of other units than tokens, pico-USD: `query`, `character`, `second`, `image`,
            and `image QUALITY/SIZE`. A model with such prices is billed by nothing else.
        share: of these prices that is billed, in millionths: a contract's discount or mark-up.
        listed: the price without any contract; None while the configuration has no contracts.
        max_input_tokens: the model's context window; None: unknown.
        max_output_tokens: the longest answer; None: unknown.
    """

    id: str
    rates: Rates
    tiers: tuple[RateTier, ...] = ()
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    services: Mapping[str, Schedule] = field(default_factory=dict)
    search: int = 0
    units: Mapping[str, int] = field(default_factory=dict)
    share: int = WHOLE_SHARE
    listed: Price | None = None

    @cached_property
    def usual(self) -> Schedule:
        """The rates of requests without a service tier that has its own."""
        return Schedule(self.rates, self.tiers)

    @cached_property
    def _dearest_text(self) -> tuple[int, int]:
        """The highest price of a text token in short requests, input and output."""
        return self.rates.dearest_input(sound=False), self.rates.dearest_output(speech=False)

    def of_unit(self, unit: str) -> int | None:
        """The price of one unit, pico-USD; of an image of unknown quality or size, the highest.
        None if the model is not billed by it."""
        if not unit or not self.units:
            return None
        kind = unit.partition(" ")[0]
        found = self.units.get(unit, self.units.get(kind))
        if found is not None:
            return found
        same = [price for name, price in self.units.items() if name.startswith(f"{kind} ")]
        return max(same, default=None)

    @cached_property
    def batched(self) -> Price:
        """The price of the same tokens in a batch: as usual where none is listed."""
        found = self.services.get("batch")
        listed = None if self.listed is None else self.listed.batched
        if found is None:
            return replace(self, listed=listed) if listed is not None else self
        return replace(self, rates=found.rates, tiers=found.tiers, services={}, listed=listed)

    def knows(self, service: str) -> bool:
        """Whether the highest price of a service tier is known."""
        return all(word in USUAL_SERVICES or self._served_as(word) for word in service.split())

    def _served_as(self, service: str) -> list[Schedule]:
        """The rates that a request for this service tier may get instead of the usual ones.

        Anthropic combines its modes: a request for one may be served with both.
        """
        asked = {word for name in service.split() for word in (name, _SAME_SERVICE.get(name, name))}
        return [s for name, s in self.services.items() if not asked.isdisjoint(name.split())]

    def _charged(self, service: str) -> Schedule:
        """The rates of an answer with this service tier; for an unknown tier, the highest ones."""
        found = self.services.get(service) or self.services.get(_SAME_SERVICE.get(service, ""))
        if found is not None or service in USUAL_SERVICES:
            return found or self.usual
        known = (self.usual, *self.services.values())
        return max(known, key=lambda s: (s.rates.output, s.rates.input))

    def cost_nano(self, usage: Usage, service: str = "") -> int:
        """The cost of this usage in an answer with this service tier, rounded up once.

        Impossible usage is charged at its highest possible price: a negative total counts as zero;
        if parts are negative or exceed their total, the complete input or output is charged at its
        highest rate.
        """
        pico = self.cost_pico(usage, service)
        return nano_from_pico(pico) if self.share == WHOLE_SHARE else self.billed_nano(pico)

    def list_nano(self, usage: Usage, service: str = "") -> int | None:
        """The cost without any contract; None while the configuration has no contracts."""
        return None if self.listed is None else self.listed.cost_nano(usage, service)

    def billed_nano(self, pico: int) -> int:
        """What is billed for an amount at these prices, rounded up once."""
        return -(-pico * self.share // (WHOLE_SHARE * PICO_PER_NANO))

    def cost_pico(self, usage: Usage, service: str = "") -> int:
        """The cost before a contract's share, in pico-USD, for sums that `billed_nano` rounds."""
        tokens = max(0, usage.input_tokens)
        schedule = self._charged(service) if service else self.usual
        rates = schedule.at(tokens)
        pico = _input_pico(rates, usage, tokens) + _output_pico(rates, usage)
        if usage.unit:
            pico += max(usage.units, 0) * (self.of_unit(usage.unit) or 0)
        return pico + usage.searches * self.search if usage.searches > 0 else pico

    def bound_nano(self, input_tokens: int, output_tokens: int, terms: Terms = USUAL) -> int:
        """The most that up to this many tokens can cost: written to the cache or not, in any tier
        up to this size, and with the service tier granted or not."""
        if terms is USUAL and not self.tiers:
            given, taken = self._dearest_text
            pico = input_tokens * given if input_tokens > 0 else 0
            if output_tokens > 0:
                pico += output_tokens * taken
            return nano_from_pico(pico) if self.share == WHOLE_SHARE else self.billed_nano(pico)
        reached = self.usual.up_to(input_tokens)
        if terms.service not in USUAL_SERVICES:
            for schedule in self._served_as(terms.service):
                reached += schedule.up_to(input_tokens)
        sound, written = terms.sound, not terms.unwritten
        each = max(r.dearest_input(sound=sound, written=written) for r in reached)
        pico = max(input_tokens, 0) * each
        pico += max(output_tokens, 0) * max(r.dearest_output(speech=terms.speech) for r in reached)
        if terms.unit:
            pico += max(terms.units, 0) * (self.of_unit(terms.unit) or 0)
        return self.billed_nano(pico)


def _input_pico(rates: Rates, usage: Usage, tokens: int) -> int:
    read, write = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    hour, sound = usage.cache_write_1h_input_tokens, usage.audio_input_tokens
    seen = usage.image_input_tokens
    if not (read or write or hour or sound or seen):
        return tokens * rates.input
    fresh = tokens - read - write
    if read < 0 or fresh < 0 or not 0 <= hour <= write or not 0 <= sound <= tokens:
        return tokens * rates.dearest_input()
    if not 0 <= seen <= fresh:
        return tokens * rates.dearest_input()
    pico = fresh * rates.input + read * rates.cache_read
    if seen and rates.image_input is not None:
        pico += seen * (rates.image_input - rates.input)
    pico += (write - hour) * rates.cache_write + hour * rates.cache_write_1h
    if sound and rates.audio_input is not None:
        # Nobody reports how much of the audio was cached: assume as little as possible.
        heard = min(sound, fresh)
        cached = min(sound - heard, read) if rates.audio_cache_read is not None else 0
        pico += heard * (rates.audio_input - rates.input)
        pico += cached * ((rates.audio_cache_read or 0) - rates.cache_read)
    return pico


def _output_pico(rates: Rates, usage: Usage) -> int:
    output, reasoning = usage.output_tokens, usage.reasoning_output_tokens
    if output < 0:
        output = 0
    speech, drawn = usage.audio_output_tokens, usage.image_output_tokens
    if not (reasoning or speech or drawn):
        return output * rates.output
    if reasoning < 0 or speech < 0 or drawn < 0 or reasoning + speech + drawn > output:
        return output * rates.dearest_output()
    spoken = rates.output if rates.audio_output is None else rates.audio_output
    pictured = rates.output if rates.image_output is None else rates.image_output
    written = output - reasoning - speech - drawn
    pico = written * rates.output + reasoning * rates.reasoning + speech * spoken
    return pico + drawn * pictured
