"""The price book: what a model costs, in pico-USD, by date; made by `tools/update_prices.py`.

Reads only one file of the package. A model that is not in the book has no price: prefixes such as
a region are removed from its name (`names`), but names are never matched loosely. The book prices
tokens, web searches and, for what does not answer with text, the unit that it is billed by. It has no other fees (grounding in maps, containers), discounts by the
hour, free allowances or surcharges for an endpoint's region; if they matter, set the prices in the
configuration.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import msgspec

from spanledger.errors import ConfigError
from spanledger.pricing.names import elsewhere, maker_of, owners_of, spellings
from spanledger.pricing.price import Price, Rates, RateTier, Schedule

BOOKS = Path(__file__).parent / "books"

OVERRIDES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "cache_read_input_audio_token_cost": "audio_cache_read",
    "output_cost_per_audio_token": "audio_output",
}
"""LiteLLM's keys for prices in the configuration, and our names for them."""
UNITS = {
    "input_cost_per_query": "query",
    "input_cost_per_character": "character",
    "input_cost_per_second": "second",
    "output_cost_per_second": "second",
    "input_cost_per_image": "image",
    "output_cost_per_image": "image",
}
"""The same for units other than tokens; of two keys for one unit, the higher price counts."""
UNIT_MODES = frozenset(
    {"rerank", "image_generation", "image_edit", "audio_speech", "audio_transcription"}
)
"""Modes that may be billed by them."""
SERVICES = ("balanced", "flex", "priority", "ultrafast")
"""Service tiers that the key of a configured price may end with."""
BATCHED = "batch"
"""The service tier of requests in a batch, and what the keys of its prices end with in LiteLLM."""
_SUFFIXES = {"batches": BATCHED}
_KEY = re.compile(
    r"(?P<key>.+?)(_above_(?P<number>\d+)(?P<kilo>k?)_tokens)?"
    rf"(_(?P<service>{'|'.join((*SERVICES, *_SUFFIXES))}))?"
)


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rates as listed in a book; missing ones are derived from the others."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_cache_read: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None


class _ListedTier(_Listed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    above: int


class _ListedService(_Listed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tiers: tuple[_ListedTier, ...] = ()


_OF_INPUT = ("cache_read", "cache_write", "cache_write_1h", "audio_input", "audio_cache_read")


class BookEntry(_ListedService, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's line in a book.

    Attributes:
        provider: LiteLLM's name of the provider.
        mode: what it is called for, as LiteLLM names it: `chat`, `completion`, `responses`,
            `embedding`, `moderation`, `rerank`, `image_generation`, `image_edit`, `audio_speech` or
            `audio_transcription`.
        unpriced: why the line has no price; empty if it has one.
    """

    provider: str
    mode: str = "chat"
    unpriced: str = ""
    max_input: int | None = None
    max_output: int | None = None
    services: dict[str, _ListedService] = {}
    search: int = 0
    units: dict[str, int] = {}


class _Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    date: str
    source: str
    count: int
    models: dict[str, msgspec.Raw]


_ENTRY = msgspec.json.Decoder(BookEntry)


class PriceBook:
    """The prices of one date; lines are decoded on first use."""

    def __init__(self, book: _Book) -> None:
        self.date = book.date
        self.source = book.source
        self._lines = book.models

    @classmethod
    def load(cls, date: str | None = None) -> PriceBook:
        """Read a book of the package: the newest, unless a date is given.

        Raises:
            ConfigError: there is no book with that date.
        """
        path = max(BOOKS.glob("*.json")) if date is None else BOOKS / f"{date}.json"
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=_Book))
        except FileNotFoundError:
            known = ", ".join(dates())
            raise ConfigError(f"there is no price book of {date!r}; available: {known}") from None

    @cached_property
    def entries(self) -> dict[str, BookEntry]:
        """All models by name, sorted. Decodes every line, so it is for commands only."""
        return {name: _ENTRY.decode(line) for name, line in self._lines.items()}

    def entry(self, name: str) -> BookEntry | None:
        """A model's line by its exact name."""
        line = self._lines.get(name)
        return None if line is None else _ENTRY.decode(line)

    def price(self, name: str) -> Price | None:
        """A model's price by its exact name; None if the book has none."""
        entry = self.entry(name)
        return None if entry is None else _price(f"{self.date}/{name}", entry, {})

    def price_of(self, deployment: Named) -> Price | None:
        """A deployment's price; see `find`."""
        return self.find(
            deployment.provider,
            deployment.model,
            deployment.litellm_model,
            deployment.prices,
            deployment.id,
            deployment.base_model,
            deployment.mode,
        )

    def mode_of(self, deployment: Named) -> str:
        """What a deployment's model is for, by its line; empty if it has none."""
        _, entry = self.base(deployment.provider, deployment.base_model)
        if entry is None:
            owners = owners_of(deployment.provider)
            _, entry = self._look_up(owners, deployment.model, deployment.litellm_model)
        return "" if entry is None else entry.mode

    def find(
        self,
        provider: str,
        model: str,
        litellm_model: str,
        overrides: Mapping[str, int],
        deployment_id: str,
        base_model: str = "",
        mode: str = "",
    ) -> Price | None:
        """A deployment's price; None if nothing says what it costs.

        A base model in the book comes first, because a deployment's own name may be arbitrary.
        Then the book is searched for the model as the configuration writes it, for
        `provider/model`, and for the bare model; a line found by a name without a provider must be
        that provider's. If none exists, the search is repeated with prefixes such as a region
        removed.
        A configured price wins, also for long prompts unless their price is configured as well
        (`…_above_200k_tokens`). Prices that are not configured come from the book; without a line
        in the book, cache reads, cache writes and reasoning cost as much as other tokens. If the
        configured input costs less than the book's cache reads, cache reads cost as much as that
        input; if it is free, so is the cache. As soon as any price is configured, a service tier
        has a price only if it is configured too (`…_priority`), as the book's may be lower.
        A configured price of another unit than tokens holds for models that are billed by one; then
        tokens cost nothing unless their price is configured too.
        """
        name, entry = self.base(provider, base_model)
        if entry is None:
            name, entry = self._look_up(owners_of(provider), model, litellm_model)
        given = _given(overrides)
        mode = mode or ("" if entry is None else entry.mode)
        units = _units(overrides) if mode in UNIT_MODES else {}
        if not (given or units):
            return None if entry is None else _price(f"{self.date}/{name}", entry, {})
        entry = entry or BookEntry(provider=provider)
        if units:  # then nothing else is billed, unless it is configured too
            entry = BookEntry(provider=provider, mode=entry.mode, input=0, output=0, units=units)
        price = _price("", entry, given)
        if price is None:
            return None
        prices: tuple[object, ...] = (price.rates, price.tiers)
        if price.services:
            prices += (price.services,)
        if price.units:
            prices += (price.units,)
        digest = hashlib.sha256(msgspec.json.encode(prices)).hexdigest()[:12]
        return replace(price, id=f"config/{deployment_id}/{digest}")

    def base(self, provider: str, base_model: str) -> tuple[str, BookEntry | None]:
        """The line of a base model: from the deployment's provider, or from the provider in the
        name, or else the line with exactly that name."""
        if not base_model:
            return "", None
        owner, _, model = base_model.partition("/")
        found = self._look_up(owners_of(provider), base_model, base_model)
        if found[1] is None and model:
            found = self._look_up(owners_of(owner), model, base_model)
        if found[1] is None:
            found = base_model, self.entry(base_model)
        return found

    def _look_up(
        self, owners: tuple[str, ...], model: str, litellm_model: str
    ) -> tuple[str, BookEntry | None]:
        prefix, others = litellm_model.removesuffix(model), tuple[str, ...]()
        for spelled in spellings(owners, model):
            written = litellm_model if spelled == model else prefix + spelled
            name, entry = self._exact(owners, spelled, written)
            placed = elsewhere(owners, spelled)
            if entry is not None:
                return (name, entry) if placed else self._dearest((name, entry), others)
            others = placed or others
        maker = maker_of(owners, model)
        return ("", None) if maker is None else self._exact((maker[0],), maker[1], maker[1])

    def _exact(
        self, owners: tuple[str, ...], model: str, litellm_model: str
    ) -> tuple[str, BookEntry | None]:
        candidates = (litellm_model, *(f"{owner}/{model}" for owner in owners), model)
        for name in candidates:
            entry = self.entry(name)
            qualified = name != model and "/" in name
            if entry is not None and (qualified or _is_of(entry.provider, owners)):
                return name, entry
        return "", None

    def _dearest(
        self, found: tuple[str, BookEntry], others: Iterable[str]
    ) -> tuple[str, BookEntry]:
        """The highest-priced of a line found without its region and the lines of other regions, as
        a region may have a surcharge."""
        listed = [(name, entry) for name in others if (entry := self.entry(name)) is not None]
        return max((found, *listed), key=lambda line: _list_price(line[1]))


class Named(Protocol):
    """The parts of a deployment that identify its price."""

    @property
    def id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def litellm_model(self) -> str: ...
    @property
    def base_model(self) -> str: ...
    @property
    def prices(self) -> Mapping[str, int]: ...
    @property
    def mode(self) -> str: ...


def _list_price(entry: BookEntry) -> tuple[int, int]:
    return entry.input or 0, entry.output or 0


def dates() -> tuple[str, ...]:
    """The dates of this package's books, oldest first."""
    return tuple(sorted(path.stem for path in BOOKS.glob("*.json")))


def _is_of(provider: str, owners: tuple[str, ...]) -> bool:
    """Whether a line is of one of these providers; LiteLLM also has names with a suffix, such as
    `vertex_ai-anthropic_models`."""
    return any(provider == owner or provider.startswith(f"{owner}-") for owner in owners)


_Given = Mapping[str, Mapping[int, Mapping[str, int]]]
"""Configured prices by service tier, by the prompt size above which they apply, by name."""


def _given(overrides: Mapping[str, int]) -> _Given:
    given: dict[str, dict[int, dict[str, int]]] = {}
    for key, pico in overrides.items():
        match = _KEY.fullmatch(key)
        if match and (name := OVERRIDES.get(match["key"])):
            above = int(match["number"] or 0) * (1000 if match["kilo"] else 1)
            service = match["service"] or ""
            service = _SUFFIXES.get(service, service)
            given.setdefault(service, {}).setdefault(above, {})[name] = pico
    return given


def _units(overrides: Mapping[str, int]) -> dict[str, int]:
    """Configured prices of units other than tokens."""
    found: dict[str, int] = {}
    for key, pico in overrides.items():
        if unit := UNITS.get(key):
            found[unit] = max(pico, found.get(unit, 0))
    return found


def _price(price_id: str, entry: BookEntry, given: _Given) -> Price | None:
    """A line's price, overridden by configured ones; None without an input or output price."""
    usual = _schedule(entry, given.get("", {}))
    if usual is None:
        return None
    if given:
        own = {name: _over(given.get("", {}), given[name]) for name in given if name}
        services = {name: _schedule(entry, prices) for name, prices in own.items()}
    else:
        services = {name: _schedule(listed, {}) for name, listed in entry.services.items()}
    return Price(
        price_id,
        usual.rates,
        usual.tiers,
        entry.max_input,
        entry.max_output,
        {name: schedule for name, schedule in services.items() if schedule is not None},
        entry.search,
        entry.units,
    )


def _over(
    usual: Mapping[int, Mapping[str, int]], own: Mapping[int, Mapping[str, int]]
) -> dict[int, dict[str, int]]:
    """A service tier's prices: its own, and otherwise the usual ones."""
    return {
        above: {**usual.get(above, {}), **own.get(above, {})} for above in usual.keys() | own.keys()
    }


def _schedule(listed: _ListedService, given: Mapping[int, Mapping[str, int]]) -> Schedule | None:
    lines: dict[int, _Listed] = {0: listed, **{tier.above: tier for tier in listed.tiers}}
    line, own = lines[0], dict[str, int]()
    tiers: list[RateTier] = []
    for above in sorted(lines.keys() | given.keys()):
        line = lines.get(above, line)
        own |= given.get(above, {})
        rates = _resolved(line, own)
        if rates is None:
            return None
        tiers.append(RateTier(above, rates))
    return Schedule(tiers[0].rates, tuple(tiers[1:]))


def _resolved(listed: _Listed, given: Mapping[str, int]) -> Rates | None:
    """All rates, with missing ones derived from the others; None without input or output."""
    own = dict(given)
    if "output" in own:
        own.setdefault("reasoning", own["output"])  # reasoning is output
    if own.get("input") == 0:
        own = dict.fromkeys(_OF_INPUT, 0) | own
    if own.get("output") == 0:
        own.setdefault("audio_output", 0)
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
