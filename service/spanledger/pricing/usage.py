"""What a provider says it used, in one shape for all of them, and bounds for what it has not said.

Counting basis (OpenTelemetry GenAI conventions v1.41): `input_tokens` includes cached tokens,
`output_tokens` includes reasoning tokens. Providers that count otherwise are converted here and
nowhere else.
"""

from __future__ import annotations

import math
import re
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
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_write_1h_input_tokens: int = 0


MAX_TOKENS = 1_000_000_000
"""No attempt uses more; a larger number is garbage, not usage."""
BYTES_PER_TOKEN = 4

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
        reasoning = _part(_object(self.completion_tokens_details).get("reasoning_tokens"))
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
        )


class AnthropicUsage(msgspec.Struct):
    """`usage` on Anthropic's wire; no value makes decoding fail."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation: Any = None
    output_tokens_details: Any = None

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
        return Usage(
            input_tokens=fresh + read + write,
            output_tokens=max(output, thinking),
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            reasoning_output_tokens=thinking,
            cache_write_1h_input_tokens=hour,
        )


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


def estimate_tokens(utf8_bytes: int) -> int:
    """Tokens of a text nobody counted, at four bytes each, rounded up.

    Four characters a token is what providers give as the rule for English; source code and other
    alphabets have more tokens a character but also more bytes. What is booked by it is marked as
    estimated.
    """
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def bound_input_tokens(body_bytes: int, fields: Mapping[str, msgspec.Raw] | None = None) -> int:
    """A number of input tokens that a request cannot exceed, for its hold.

    Byte-level BPE never makes more tokens than the text has UTF-8 bytes, and JSON never spends
    fewer bytes on a text than UTF-8; the words a chat template puts around a message are shorter
    than the JSON around it. So the body's size bounds the text, and `HIDDEN_TOKENS` what a
    provider adds on its own. Images, sound and files are not text: each counts by its kind
    (`MEDIA`) instead of by its base64. Without them this costs a few searches for a substring.

    The bound knows no model: a caller lowers it to the model's context window.
    """
    bound = body_bytes + HIDDEN_TOKENS
    for name in ("messages", "input"):
        raw = b"" if fields is None or name not in fields else bytes(fields[name])
        # An escaped letter could hide a key; what is escaped in ordinary text is beyond ASCII.
        if any(key in raw for key in _MEDIA_KEYS) or (
            b"\\u00" in raw and _ESCAPED_ASCII.search(raw)
        ):
            bound += _media_tokens(raw)
    return bound


HIDDEN_TOKENS = 1_024
"""What a provider may put before a prompt: Anthropic's instructions for tools are the longest
known, under 600 tokens."""
IMAGE_TOKENS = 48_169
"""The dearest known image: gpt-4o-mini in high detail, 8 tiles (2048 by 768) of 5,667 tokens and
2,833 for the base. gpt-4o takes 1,445 for it, Claude under 4,800, Gemini about 4,100."""
LOW_DETAIL_TOKENS = 2_833
"""The same model's image in low detail; 85 at gpt-4o."""
FILE_TOKENS = 460_000
"""A PDF: 100 pages, each up to 3,000 tokens of text and 1,600 of its picture (Anthropic's figures
and limit, the largest of those published). Its base64 is counted as text besides."""
VIDEO_TOKENS = 1_048_576
"""As long as a context window allows."""
AUDIO_BYTES_PER_TOKEN = 8
"""Base64 bytes of sound for one token. Gemini takes 32 tokens a second, OpenAI 10; even speech at
6 kbit/s has 31 base64 bytes for each of those 32."""

MEDIA = {
    "image_url": IMAGE_TOKENS,
    "image": IMAGE_TOKENS,
    "input_audio": 0,
    "file": FILE_TOKENS,
    "document": FILE_TOKENS,
    "video_url": VIDEO_TOKENS,
}
"""Type of a content part, and the most tokens one is; sound counts by its length."""
_MEDIA_KEYS = tuple(f'"{kind}"'.encode() for kind in MEDIA)
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")


def _media_tokens(raw: bytes) -> int:
    """What media add to the size of a field, less the base64 in it."""
    try:
        content = msgspec.json.decode(raw)
    except _UNREADABLE:
        return sum(raw.count(key) for key in _MEDIA_KEYS) * VIDEO_TOKENS
    return sum(_part_tokens(part) for part in _parts(content))


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """Messages and the content parts in them, or the inputs of embeddings."""
    for item in content if isinstance(content, list) else ():
        if isinstance(item, Mapping):
            yield item
            yield from _parts(item.get("content"))


def _part_tokens(part: Mapping[str, Any]) -> int:
    """One part's tokens less its base64; zero for a text."""
    total = 0
    for kind, most in MEDIA.items():
        if kind != part.get("type") and kind not in part:
            continue
        value = part.get(kind) or part.get("source")
        base64 = _base64_bytes(value)
        if kind == "input_audio":
            total += -(-base64 // AUDIO_BYTES_PER_TOKEN) - base64
        elif most == FILE_TOKENS:
            total += most
        else:
            total += LOW_DETAIL_TOKENS if _object(value).get("detail") == "low" else most
            total -= base64
    return total


def _base64_bytes(value: Any) -> int:
    """Size of the data in a data URL, or of data under its own key."""
    data = _object(value).get("data")
    if isinstance(data, str):
        return len(data)
    url = _object(value).get("url", value)
    return len(url) if isinstance(url, str) and url.startswith("data:") else 0


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


def _part(*values: Any) -> int:
    """The first of several names for the same part that says something."""
    return next((count for value in values if (count := _count(value))), 0)
