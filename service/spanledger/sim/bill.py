"""What the simulated provider charges: its own price list and its own running bill.

It shares no price, token count or total with the product, only the rounding: that makes
"bill = ledger = spans" a real check and not a tautology. It stores no API key, only a digest.

Rules: an answered call bills the usage it reported. A call whose usage never reached the client
(broken off, stalled, aborted, timed out) bills its input and the tokens streamed so far. Errors,
resets and unusable answers (`garbage`, `huge`) bill nothing.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from spanledger.money import format_usd, nano_from_pico

ENTRIES_MAX = 20_000
GROUPS_MAX = 1_000
PRICES_MAX = 1_000
OTHER = "other"

DEFAULT_SERVICE = "default"
"""The service tier of every answer without a price for its requested tier."""

Outcome = Literal[
    "answered",  # the complete answer was sent, with usage if the wire includes it
    "cut",  # we closed the connection in the middle of the answer
    "malformed",  # we sent a malformed chunk, then closed the connection
    "failed",  # the model failed, and the answer says so
    "cancelled",  # the client withdrew a background answer
    "aborted",  # the client disconnected first
    "timeout",  # we never answered, the client gave up
    "reset",
    "error",
    "garbage",
    "huge",
]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; input includes cached tokens, output includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    units: int = 0
    """What is billed instead of tokens: search units, images, characters or seconds."""
    image_input_tokens: int = 0
    """Part of the input that is images."""
    searches: int = 0
    """Searches of the web, each with a fee of its own."""


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-USD per token. A missing cache price falls back to the next higher one."""

    input: int
    output: int = 0
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    unit: int = 0
    image_input: int | None = None
    search: int = 0
    services: Mapping[str, Price] = field(default_factory=dict)
    """Prices of the service tiers it grants; requests for others are answered at `default`."""
    long: tuple[int, Price] | None = None
    """For all tokens of a request with more input than this."""

    def grants(self, service: str) -> str:
        """The tier granted to a request for this tier."""
        return service if service in self.services else DEFAULT_SERVICE

    def cost_nano(self, usage: Usage) -> int:
        """The cost of these tokens in nano-USD, rounded up once."""
        if self.long is not None and usage.input_tokens > self.long[0]:
            return self.long[1].cost_nano(usage)
        cache_read = self.input if self.cache_read is None else self.cache_read
        cache_write = self.input if self.cache_write is None else self.cache_write
        cache_write_1h = cache_write if self.cache_write_1h is None else self.cache_write_1h
        written_5m = usage.cache_write_input_tokens - usage.cache_write_1h_input_tokens
        plain = usage.input_tokens - usage.cache_read_input_tokens - usage.cache_write_input_tokens
        return nano_from_pico(
            plain * self.input
            + usage.cache_read_input_tokens * cache_read
            + written_5m * cache_write
            + usage.cache_write_1h_input_tokens * cache_write_1h
            + usage.output_tokens * self.output
            + usage.units * self.unit
            + usage.searches * self.search
            + usage.image_input_tokens * ((self.image_input or self.input) - self.input)
        )


LONG_TOKENS = 272_000
LIST_PRICES: Mapping[str, Price] = {
    "gpt-4o": Price(2_500_000, 10_000_000, 1_250_000),
    "gpt-4o-mini": Price(
        150_000,
        600_000,
        75_000,
        services={
            "priority": Price(250_000, 1_000_000, 125_000),
            "batch": Price(75_000, 300_000),
        },
    ),
    "gpt-4.1": Price(
        2_000_000,
        8_000_000,
        500_000,
        search=25_000_000_000,
        services={"batch": Price(1_000_000, 4_000_000, search=25_000_000_000)},
    ),
    "gpt-4.1-mini": Price(400_000, 1_600_000, 100_000),
    "gpt-4.1-nano": Price(100_000, 400_000, 25_000),
    "gpt-5": Price(1_250_000, 10_000_000, 125_000, search=10_000_000_000),
    "gpt-5-mini": Price(
        250_000,
        2_000_000,
        25_000,
        services={
            "flex": Price(125_000, 1_000_000, 12_500),
            "priority": Price(450_000, 3_600_000, 45_000),
        },
    ),
    "gpt-5-codex": Price(1_250_000, 10_000_000, 125_000),
    "gpt-5.1-codex": Price(1_250_000, 10_000_000, 125_000),
    "gpt-5.4-pro": Price(
        30_000_000, 180_000_000, long=(LONG_TOKENS, Price(60_000_000, 270_000_000))
    ),
    "gpt-5.6-terra": Price(
        2_000_000,
        12_000_000,
        200_000,
        2_500_000,
        long=(LONG_TOKENS, Price(4_000_000, 18_000_000, 400_000, 5_000_000)),
        services={
            "flex": Price(
                1_000_000,
                6_000_000,
                100_000,
                1_250_000,
                long=(LONG_TOKENS, Price(2_000_000, 9_000_000, 200_000, 2_500_000)),
            ),
            "priority": Price(
                4_000_000,
                24_000_000,
                400_000,
                5_000_000,
                long=(LONG_TOKENS, Price(8_000_000, 36_000_000, 800_000, 10_000_000)),
            ),
        },
    ),
    "o3": Price(2_000_000, 8_000_000, 500_000),
    "o3-mini": Price(1_100_000, 4_400_000, 550_000),
    "o4-mini": Price(1_100_000, 4_400_000, 275_000),
    "claude-opus-4-5": Price(5_000_000, 25_000_000, 500_000, 6_250_000, 10_000_000),
    "claude-sonnet-4-5": Price(3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000),
    "claude-haiku-4-5": Price(1_000_000, 5_000_000, 100_000, 1_250_000, 2_000_000),
    "gemini-2.5-flash": Price(300_000, 2_500_000, 30_000),
    "gemini-2.5-flash-lite": Price(100_000, 400_000, 10_000),
    "gpt-3.5-turbo-instruct": Price(1_500_000, 2_000_000),
    "babbage-002": Price(400_000, 400_000),
    "omni-moderation-latest": Price(0),
    "jina-reranker-v2-base-multilingual": Price(50_000),
    "text-embedding-3-small": Price(20_000, services={"batch": Price(10_000)}),
    "text-embedding-3-large": Price(130_000),
}
"""Public list prices; a test compares them with the list LiteLLM ships."""

UNIT_PRICES: Mapping[str, Price] = {
    "rerank-v3.5": Price(0, unit=2_000_000_000),
    "gpt-image-1": Price(5_000_000, 40_000_000, image_input=10_000_000),
    "dall-e-3": Price(0, unit=52_000_000_000),
    "tts-1": Price(0, unit=15_000_000),
    "tts-1-hd": Price(0, unit=30_000_000),
    "whisper-1": Price(0, unit=100_000_000),
    "whisper-large-v3": Price(0, unit=30_830_000),
    "gpt-4o-transcribe": Price(2_500_000, 10_000_000),
    "gpt-4o-mini-tts": Price(600_000, 12_000_000),
}
"""The same for what does not answer with text; output tokens are images or audio, `unit` is a search,
an image (of dall-e-3 at aimlapi.com), a character or a second."""

WINDOWS: Mapping[str, int] = {
    "gpt-4o": 128_000,
    "gpt-4o-mini": 128_000,
    "gpt-4.1": 1_047_576,
    "gpt-4.1-mini": 1_047_576,
    "gpt-4.1-nano": 1_047_576,
    "gpt-5": 272_000,
    "gpt-5-mini": 272_000,
    "gpt-5-codex": 272_000,
    "gpt-5.1-codex": 272_000,
    "gpt-5.4-pro": 1_050_000,
    "gpt-5.6-terra": 922_000,
    "o3": 200_000,
    "o3-mini": 200_000,
    "o4-mini": 200_000,
    "claude-opus-4-5": 200_000,
    "claude-sonnet-4-5": 200_000,
    "claude-haiku-4-5": 200_000,
    "gemini-2.5-flash": 1_048_576,
    "gemini-2.5-flash-lite": 1_048_576,
    "gpt-3.5-turbo-instruct": 4_096,
    "babbage-002": 16_384,
    "text-embedding-3-small": 8_192,
    "text-embedding-3-large": 8_192,
}
"""Longest inputs, as the providers' pages of models state them; a longer one is refused. Each prompt of a
legacy completion and each text to embed may be as long."""

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


def read_prices(data: object) -> dict[str, Price]:
    """Read `{"model": {"input": pico, "output": pico, "cache_read": …}}`.

    Raises:
        ValueError: the data has another shape; the message names the entry.
    """
    if not isinstance(data, dict) or len(data) > PRICES_MAX:
        raise ValueError(f"prices must be a JSON object of at most {PRICES_MAX} models")
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    prices = {}
    for model, entry in data.items():
        if not isinstance(entry, dict) or "input" not in entry:
            raise ValueError(f"price of {model!r}: write an object with at least `input`")
        for name, value in entry.items():
            if name not in names:
                raise ValueError(f"price of {model!r}: unknown key {name!r}, known: {names}")
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"price of {model!r}: {name!r} is not pico-USD (whole, ≥ 0)")
        prices[str(model)] = Price(**entry)
    return prices


def key_digest(api_key: str) -> str:
    """The name under which a key appears on the bill."""
    return "sha256:" + hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Entry:
    """One call on the bill; `id` is the id in the answer, empty if there was none."""

    id: str
    request_id: str
    wire: str
    operation: str
    model: str
    key: str
    outcome: Outcome
    detail: str
    usage: Usage
    nano_usd: int
    billed: bool
    priced: bool
    time_ns: int
    service: str = DEFAULT_SERVICE

    def view(self) -> dict[str, object]:
        """The entry as JSON."""
        return {**asdict(self), "usd": format_usd(self.nano_usd)}


@dataclass(slots=True)
class _Group:
    calls: int = 0
    billed_calls: int = 0
    nano: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, entry: Entry) -> None:
        self.calls += 1
        if entry.billed:
            self.billed_calls += 1
            self.nano += entry.nano_usd
            self.input_tokens += entry.usage.input_tokens
            self.output_tokens += entry.usage.output_tokens

    def view(self) -> dict[str, object]:
        return {
            "calls": self.calls,
            "billed_calls": self.billed_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_usd": format_usd(self.nano),
        }


@dataclass(slots=True)
class Bill:
    """Running totals of everything served since the last reset, and the latest entries."""

    prices: dict[str, Price] = field(default_factory=lambda: {**LIST_PRICES, **UNIT_PRICES})
    on_entry: Callable[[Entry], None] | None = None
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))
    dropped_entries: int = 0
    unpriced_calls: int = 0
    total: _Group = field(default_factory=_Group)
    by_model: dict[str, _Group] = field(default_factory=dict)
    by_key: dict[str, _Group] = field(default_factory=dict)
    by_outcome: dict[str, int] = field(default_factory=dict)

    def price(self, model: str) -> Price | None:
        """The price of a model; a dated snapshot has its model's price."""
        found = self.prices.get(model)
        return found or self.prices.get(_SNAPSHOT.sub("", model))

    def add(
        self,
        *,
        id: str,  # noqa: A002 - the wire's own name
        request_id: str,
        wire: str,
        operation: str,
        model: str,
        key: str,
        outcome: Outcome,
        detail: str = "",
        usage: Usage | None = None,
        service: str = DEFAULT_SERVICE,
    ) -> None:
        """Add one call; `usage` None bills nothing."""
        price = self.price(model)
        if price is not None:
            price = price.services.get(service, price)
        billed = usage is not None
        counted = usage or Usage()
        nano = price.cost_nano(counted) if price and billed else 0
        entry = Entry(
            id=id,
            request_id=request_id,
            wire=wire,
            operation=operation,
            model=model,
            key=key,
            outcome=outcome,
            detail=detail,
            usage=counted,
            nano_usd=nano,
            billed=billed,
            priced=price is not None,
            time_ns=time.time_ns(),
            service=service,
        )
        self.dropped_entries += len(self.entries) == ENTRIES_MAX
        self.entries.append(entry)
        self.unpriced_calls += billed and price is None
        self.total.add(entry)
        _group(self.by_model, model).add(entry)
        _group(self.by_key, key).add(entry)
        self.by_outcome[outcome] = self.by_outcome.get(outcome, 0) + 1
        if self.on_entry is not None:
            self.on_entry(entry)

    def reset(self) -> None:
        """Start a new bill; prices stay."""
        self.entries.clear()
        self.dropped_entries = self.unpriced_calls = 0
        self.total = _Group()
        self.by_model.clear()
        self.by_key.clear()
        self.by_outcome.clear()

    def view(self, *, entries: bool = False) -> dict[str, object]:
        """The bill as `GET /sim/bill` shows it."""
        data: dict[str, object] = {
            **self.total.view(),
            "unpriced_calls": self.unpriced_calls,
            "by_model": {name: group.view() for name, group in self.by_model.items()},
            "by_key": {name: group.view() for name, group in self.by_key.items()},
            "by_outcome": dict(self.by_outcome),
        }
        if entries:
            data["entries"] = [entry.view() for entry in self.entries]
            data["dropped_entries"] = self.dropped_entries
        return data


def _group(groups: dict[str, _Group], name: str) -> _Group:
    if name not in groups and len(groups) >= GROUPS_MAX:
        name = OTHER
    return groups.setdefault(name, _Group())
