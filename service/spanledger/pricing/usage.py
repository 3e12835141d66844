"""What a provider says it used, in one shape for all of them.

Counting basis (OpenTelemetry GenAI conventions v1.41): `input_tokens` includes cached tokens,
`output_tokens` includes reasoning tokens. Providers that count otherwise are converted here and
nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt.

    Attributes:
        input_tokens: all input, cached reads and cache writes included.
        output_tokens: all output, reasoning included.
        cache_read_input_tokens: part of `input_tokens` read from the provider's cache.
        cache_write_input_tokens: part of `input_tokens` written to the provider's cache.
        reasoning_output_tokens: part of `output_tokens` spent on reasoning.
        cache_write_1h_input_tokens: part of `cache_write_input_tokens` kept for an hour
            (Anthropic's `cache_creation.ephemeral_1h_input_tokens`).
        audio_input_tokens: part of `input_tokens` that is sound, cached or not.
        audio_output_tokens: part of `output_tokens` that is sound.
        searches: searches of the web that the provider made and bills one by one.
        told_nano: what the provider says it charges, nano-USD; 0 where it does not say.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_write_1h_input_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    searches: int = 0
    told_nano: int = 0

    def plus(self, other: Usage) -> Usage:
        """The sum of both, part by part."""
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


MAX_TOKENS = 1_000_000_000
"""No attempt uses more; a larger number is garbage, not usage."""
MAX_TOLD_USD = 100_000
"""No attempt costs more; a larger amount is garbage."""
BYTES_PER_TOKEN = 4

_PASSES = ("compaction", "advisor_message")

T = TypeVar("T", bound=msgspec.Struct)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class OpenAIUsage(msgspec.Struct):
    """`usage` on OpenAI's wire, with what compatible servers add; no value makes decoding fail."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None
    """DeepSeek's cached tokens."""
    cached_tokens: Any = None
    """Moonshot's cached tokens."""
    cache_read_input_tokens: Any = None
    """LiteLLM's cached tokens."""
    cache_creation_input_tokens: Any = None
    """LiteLLM's cache writes."""
    server_tool_use: Any = None
    """LiteLLM's, as Anthropic says it."""
    num_search_queries: Any = None
    """Perplexity's searches."""
    cost: Any = None
    """OpenRouter's charge, in USD; with a key of one's own at the provider it is their fee alone,
    and `cost_details.upstream_inference_cost` is what that provider charges."""
    cost_details: Any = None
    is_byok: Any = None

    def to_usage(self) -> Usage | None:
        """Counting basis of `Usage`; None when the totals are missing, no numbers, or of nothing.

        Details that make no sense are left out, which costs more and never less. Some servers
        count otherwise and are told by their sums: a number smaller than its parts does not
        contain them, and a total above prompt and completion (Gemini, xAI) has reasoning that
        `completion_tokens` lacks.
        """
        total = _count(self.total_tokens)
        prompt = _count(self.prompt_tokens)
        completion = _count(self.completion_tokens)
        if prompt is not None and total is not None and self.completion_tokens is None:
            completion = max(total - prompt, 0)  # embeddings have no output
        if not prompt or completion is None:
            return None  # a request without input is none: this server does not count
        details = _object(self.prompt_tokens_details)
        read = _part(
            details.get("cached_tokens"),
            self.cache_read_input_tokens,
            self.prompt_cache_hit_tokens,
            self.cached_tokens,
        )
        write = _part(
            details.get("cache_write_tokens"),
            details.get("cache_creation_tokens"),
            self.cache_creation_input_tokens,
        )
        by_age = _object(details.get("cache_creation_token_details"))
        if read + write > prompt:
            prompt += read + write
        answered = _object(self.completion_tokens_details)
        reasoning = _part(answered.get("reasoning_tokens"))
        surplus = 0 if total is None else total - prompt - completion
        if surplus > 0 and reasoning in (0, surplus):
            completion += surplus
            reasoning = surplus
        elif reasoning > completion:
            completion += reasoning
        if prompt > MAX_TOKENS or completion > MAX_TOKENS:
            return None
        return Usage(
            input_tokens=prompt,
            output_tokens=completion,
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            reasoning_output_tokens=reasoning,
            cache_write_1h_input_tokens=min(_part(by_age.get("ephemeral_1h_input_tokens")), write),
            audio_input_tokens=_part(details.get("audio_tokens")),
            audio_output_tokens=_part(answered.get("audio_tokens")),
            searches=_part(
                details.get("web_search_requests"),
                _object(self.server_tool_use).get("web_search_requests"),
                self.num_search_queries,
            ),
            told_nano=self._told_nano(),
        )

    def _told_nano(self) -> int:
        upstream = _object(self.cost_details).get("upstream_inference_cost")
        return _nano(self.cost) + (_nano(upstream) if self.is_byok is True else 0)


class AnthropicUsage(msgspec.Struct):
    """`usage` on Anthropic's wire; no value makes decoding fail."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation: Any = None
    output_tokens_details: Any = None
    server_tool_use: Any = None
    iterations: Any = None
    """The passes of one answer; of some kinds (`_PASSES`) no total has the tokens."""

    def to_usage(self) -> Usage | None:
        """Counting basis of `Usage`: Anthropic's `input_tokens` lacks what the cache served.

        None when the totals are missing, no numbers, or of nothing.
        """
        fresh, output = _count(self.input_tokens), _count(self.output_tokens)
        if fresh is None or output is None:
            return None
        by_age = _object(self.cache_creation)
        hour = _part(by_age.get("ephemeral_1h_input_tokens"))
        five_minutes = _part(by_age.get("ephemeral_5m_input_tokens"))
        write = max(_part(self.cache_creation_input_tokens), hour + five_minutes)
        read = _part(self.cache_read_input_tokens)
        if not 0 < fresh + read + write <= MAX_TOKENS:
            return None
        thinking = _part(_object(self.output_tokens_details).get("thinking_tokens"))
        usage = Usage(
            input_tokens=fresh + read + write,
            output_tokens=max(output, thinking),
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            reasoning_output_tokens=thinking,
            cache_write_1h_input_tokens=hour,
            searches=_part(_object(self.server_tool_use).get("web_search_requests")),
        )
        for extra in self._passes():
            usage = usage.plus(extra)
        return usage

    def _passes(self) -> Iterator[Usage]:
        for one in self.iterations if isinstance(self.iterations, list) else ():
            if _object(one).get("type") in _PASSES and (usage := from_anthropic(one)) is not None:
                yield usage


def from_openai(raw: object) -> Usage | None:
    """Read OpenAI's `usage`: a decoded object, an `OpenAIUsage`, or its JSON.

    Garbage, null and `{}` are None: the caller counts the tokens itself.
    """
    usage = _struct(raw, OpenAIUsage)
    return None if usage is None else usage.to_usage()


def from_anthropic(raw: object) -> Usage | None:
    """Read Anthropic's `usage`, like `from_openai`."""
    usage = _struct(raw, AnthropicUsage)
    return None if usage is None else usage.to_usage()


def anthropic_service(usage: Mapping[str, Any] | None) -> str:
    """How Anthropic served an answer, where that has its own price: `fast`, `us` or both.

    Its `service_tier` is left out: `priority` there is capacity that was bought beforehand.
    Empty where it does not say.
    """
    words = [] if usage is None else [usage.get("speed"), usage.get("inference_geo")]
    if not any(words):
        return ""
    return " ".join(word for word in words if word in ("fast", "us")) or "standard"


def estimate_tokens(utf8_bytes: int) -> int:
    """Tokens of a text nobody counted, at four bytes each, rounded up.

    Four characters a token is what providers give as the rule for English; source code and other
    alphabets have more tokens a character but also more bytes. What is booked by it is marked as
    estimated.
    """
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def _struct(raw: object, kind: type[T]) -> T | None:
    if isinstance(raw, kind):
        return raw
    try:
        if isinstance(raw, bytes | msgspec.Raw):
            return msgspec.json.decode(raw, type=kind)
        return msgspec.convert(raw, kind) if isinstance(raw, Mapping) else None
    except _UNREADABLE:
        return None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    """A number of tokens, or None; a fraction of a token is a token."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(value) if 0 <= value <= MAX_TOKENS else None


def _nano(value: Any) -> int:
    """An amount of USD as a provider writes it, to the nano-dollar; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return round(value * 1_000_000_000) if 0 <= value <= MAX_TOLD_USD else 0


def _part(*values: Any) -> int:
    """The first of several names for the same part that says something."""
    return next((count for value in values if (count := _count(value))), 0)
