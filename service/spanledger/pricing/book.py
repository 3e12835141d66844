"""The price book: what a model's tokens cost, in pico-USD, by date; made by `tools/update_prices.py`.

Reads one file of the package and nothing else. A model that the book does not have is not priced:
no name is ever matched loosely. Only tokens have a price here. Fees for tools (a web search, a
grounding), service tiers other than the standard one, discounts by the hour and surcharges for a
region are not in it; where they matter, set the prices in the config.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from spanledger.errors import ConfigError
from spanledger.money import nano_from_pico
from spanledger.pricing.usage import Usage

BOOKS = Path(__file__).parent / "books"

OVERRIDES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
}
"""LiteLLM's key for a price in the config, to our name for it."""
_ABOVE = re.compile(r"(?P<key>.+)_above_(?P<number>\d+)(?P<kilo>k?)_tokens")

LITELLM_PROVIDERS = {
    "aws.bedrock": ("bedrock", "bedrock_converse", "bedrock_mantle"),
    "azure.ai.inference": ("azure_ai",),
    "azure.ai.openai": ("azure", "azure_text"),
    "bedrock": ("bedrock", "bedrock_converse", "bedrock_mantle"),
    "cohere": ("cohere", "cohere_chat"),
    "gcp.gemini": ("gemini",),
    "gcp.gen_ai": ("gemini",),
    "gcp.vertex_ai": ("vertex_ai",),
    "ibm.watsonx.ai": ("watsonx",),
    "mistral_ai": ("mistral",),
    "moonshot_ai": ("moonshot",),
    "openai": ("openai", "text-completion-openai"),
    "x_ai": ("xai",),
}
"""`gen_ai.provider.name` to LiteLLM's names of the same provider, where they differ."""


class Rates(msgspec.Struct, frozen=True):
    """Prices of one token, pico-USD."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int

    @property
    def dearest_input(self) -> int:
        """What an input token costs at most."""
        return max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)

    @property
    def dearest_output(self) -> int:
        """What an output token costs at most."""
        return max(self.output, self.reasoning)


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates of a whole request with more than `above` input tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """What one deployment's tokens cost.

    Attributes:
        id: `<book>/<model>`, or `config/<deployment>/<digest of all prices>`; it stands on every
            attempt, and whoever has the book (or the config) can compute the amount again.
        rates: for ordinary requests.
        tiers: for long ones, ascending.
        max_input_tokens: the model's context window, None = not known.
        max_output_tokens: the longest answer, None = not known.
    """

    id: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates of a request of this size; a long-context tier holds for all its tokens."""
        rates = self.rates
        for tier in self.tiers:
            if input_tokens > tier.above:
                rates = tier.rates
        return rates

    def cost_nano(self, usage: Usage) -> int:
        """What the usage costs, rounded up once.

        Usage that cannot be is charged at what it may cost at most: a negative total counts as
        zero; where parts are negative or exceed what they are parts of, the whole side is charged
        at the dearest rate of its tokens.
        """
        tokens, output = max(usage.input_tokens, 0), max(usage.output_tokens, 0)
        rates = self.rates_for(tokens)
        read, write = usage.cache_read_input_tokens, usage.cache_write_input_tokens
        hour, reasoning = usage.cache_write_1h_input_tokens, usage.reasoning_output_tokens
        if read < 0 or write < 0 or not 0 <= hour <= write or read + write > tokens:
            pico = tokens * rates.dearest_input
        else:
            pico = (tokens - read - write) * rates.input + read * rates.cache_read
            pico += (write - hour) * rates.cache_write + hour * rates.cache_write_1h
        if not 0 <= reasoning <= output:
            pico += output * rates.dearest_output
        else:
            pico += (output - reasoning) * rates.output + reasoning * rates.reasoning
        return nano_from_pico(pico)

    def bound_nano(self, input_tokens: int, output_tokens: int) -> int:
        """The most that up to so many tokens can cost: all written to the cache, every tier met."""
        reached = [self.rates, *(t.rates for t in self.tiers if input_tokens > t.above)]
        pico = max(input_tokens, 0) * max(rates.dearest_input for rates in reached)
        pico += max(output_tokens, 0) * max(rates.dearest_output for rates in reached)
        return nano_from_pico(pico)


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rates as they stand in a book: what is missing follows from the rest."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


class _ListedTier(_Listed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    above: int


class Entry(_Listed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's line in a book.

    Attributes:
        provider: LiteLLM's name of the provider.
        mode: `chat`, `completion`, `responses` or `embedding`.
        unpriced: why the line has no price, empty when it has one.
    """

    provider: str
    mode: str = "chat"
    unpriced: str = ""
    max_input: int | None = None
    max_output: int | None = None
    tiers: tuple[_ListedTier, ...] = ()


class _Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    date: str
    source: str
    count: int
    models: dict[str, msgspec.Raw]


_ENTRY = msgspec.json.Decoder(Entry)


class PriceBook:
    """The prices of one date; lines are decoded when somebody asks for them."""

    def __init__(self, book: _Book) -> None:
        self.date = book.date
        self.source = book.source
        self._lines = book.models

    @classmethod
    def load(cls, date: str | None = None) -> PriceBook:
        """Read a book of the package, the newest unless a date is given.

        Raises:
            ConfigError: there is no book of that date.
        """
        path = max(BOOKS.glob("*.json")) if date is None else BOOKS / f"{date}.json"
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=_Book))
        except FileNotFoundError:
            known = ", ".join(dates())
            raise ConfigError(f"there is no price book of {date!r}; there is {known}") from None

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All models by name, sorted; for commands, since it decodes every line."""
        return {name: _ENTRY.decode(line) for name, line in self._lines.items()}

    def entry(self, name: str) -> Entry | None:
        """A model's line by its exact name."""
        line = self._lines.get(name)
        return None if line is None else _ENTRY.decode(line)

    def price(self, name: str) -> Price | None:
        """A model's price by its exact name; None when the book has none."""
        entry = self.entry(name)
        return None if entry is None else _price(f"{self.date}/{name}", entry, {})

    def find(
        self,
        provider: str,
        model: str,
        litellm_model: str,
        overrides: Mapping[str, int],
        deployment_id: str,
    ) -> Price | None:
        """A deployment's price, or None: then nothing says what it costs.

        The book is asked for the model as the config writes it, then for `provider/model`, then
        for the bare model; a line found by a name without a provider must be that provider's.
        A price in the config wins, for long prompts too unless it gives their price as well
        (`…_above_200k_tokens`); what the config does not say comes from the book, and without a
        book's line a cached read, a cache write and reasoning cost as much as any other token.
        Where the config's input costs less than the book's cached read, a cached read costs as
        much as that input; where it is free, so is the cache.
        """
        name, entry = self._look_up(provider, model, litellm_model)
        given = _given(overrides)
        if not given:
            return None if entry is None else _price(f"{self.date}/{name}", entry, {})
        price = _price("", entry or Entry(provider=provider), given)
        if price is None:
            return None
        digest = hashlib.sha256(msgspec.json.encode((price.rates, price.tiers))).hexdigest()[:12]
        return replace(price, id=f"config/{deployment_id}/{digest}")

    def _look_up(self, provider: str, model: str, litellm_model: str) -> tuple[str, Entry | None]:
        owners = LITELLM_PROVIDERS.get(provider, (provider,))
        candidates = (litellm_model, *(f"{owner}/{model}" for owner in owners), model)
        for name in candidates:
            entry = self.entry(name)
            qualified = name != model and "/" in name
            if entry is not None and (qualified or _is_of(entry.provider, owners)):
                return name, entry
        return "", None


def dates() -> tuple[str, ...]:
    """The books of this package, oldest first."""
    return tuple(sorted(path.stem for path in BOOKS.glob("*.json")))


def _is_of(provider: str, owners: tuple[str, ...]) -> bool:
    """LiteLLM calls parts of a provider by its name and more: `vertex_ai-anthropic_models`."""
    return any(provider == owner or provider.startswith(f"{owner}-") for owner in owners)


def _given(overrides: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """Prices of the config by our names, by the size of prompt above which they hold."""
    given: dict[int, dict[str, int]] = {}
    for key, pico in overrides.items():
        match = _ABOVE.fullmatch(key)
        above = int(match["number"]) * (1000 if match["kilo"] else 1) if match else 0
        if name := OVERRIDES.get(match["key"] if match else key):
            given.setdefault(above, {})[name] = pico
    return given


def _price(price_id: str, entry: Entry, given: Mapping[int, Mapping[str, int]]) -> Price | None:
    """A line's price with what the config gives instead; None without input or output price."""
    lines: dict[int, _Listed] = {0: entry, **{tier.above: tier for tier in entry.tiers}}
    line, own = lines[0], dict[str, int]()
    tiers: list[Tier] = []
    for above in sorted(lines.keys() | given.keys()):
        line = lines.get(above, line)
        own |= given.get(above, {})
        rates = _resolved(line, own)
        if rates is None:
            return None
        tiers.append(Tier(above, rates))
    return Price(price_id, tiers[0].rates, tuple(tiers[1:]), entry.max_input, entry.max_output)


def _resolved(listed: _Listed, given: Mapping[str, int]) -> Rates | None:
    """All rates, those missing worked out from the rest; None without input or output."""
    own = dict(given)
    if "output" in own:
        own.setdefault("reasoning", own["output"])  # reasoning is output
    if own.get("input") == 0:
        own = {"cache_read": 0, "cache_write": 0, "cache_write_1h": 0} | own
    named = {key: own.get(key, getattr(listed, key)) for key in Rates.__struct_fields__}
    known = {key: pico for key, pico in named.items() if pico is not None}
    if "input" not in known or "output" not in known:
        return None
    known.setdefault("cache_read", known["input"])
    if "input" in own and "cache_read" not in own:
        known["cache_read"] = min(known["cache_read"], known["input"])
    known.setdefault("cache_write", known["input"])
    known.setdefault("cache_write_1h", known["cache_write"])
    known.setdefault("reasoning", known["output"])
    return Rates(**known)
