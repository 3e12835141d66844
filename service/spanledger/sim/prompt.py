"""A call as the simulator sees it, on either wire.

It owns the neutral `Prompt`, the error both wires raise, and typed reading of decoded JSON. It
knows no field names of a wire.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from spanledger.sim.scenarios import NO_SCRIPT, Script, WireName, split_model

T = TypeVar("T")

MESSAGES_MAX = 2_048
SEGMENTS_MAX = 256
"""Most prefixes of one prompt that are remembered for caching."""
CACHE_TOKENS_MIN = 256


class RefusalError(Exception):
    """The provider rejects the call; each wire writes this in its own format.

    Attributes:
        status: HTTP status.
        code: a short reason: a name shared by the wires (`rate_limited`, `bad_request`, …) or the
            wire's own code; None where the provider writes null.
        param: the field at fault.
        retry_after_s: the Retry-After to send.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = "",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    schema: object


@dataclass(frozen=True, slots=True)
class Segment:
    """A prefix of the prompt: its digest, its tokens, and how long a cache keeps it."""

    digest: bytes
    tokens: int
    ttl: str = ""
    """`5m` or `1h` if the caller marked a cache breakpoint (Anthropic), else empty."""


@dataclass(slots=True)
class Prefixes:
    """Digests and token counts of a growing prompt."""

    segments: list[Segment] = field(default_factory=list)
    total: int = 0
    _hash: hashlib.blake2b = field(default_factory=hashlib.blake2b)

    def add(self, content: object, count: int, ttl: str = "") -> None:
        """Append one part of the prompt."""
        self._hash.update(msgspec.json.encode(content, order="sorted"))
        self.total += count
        if len(self.segments) < SEGMENTS_MAX:
            digest = self._hash.copy().digest()[:16]
            self.segments.append(Segment(digest, self.total, ttl))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed request.

    Attributes:
        digest: of everything that shapes the answer; excludes streaming, metadata and user.
        asked: the last text of the user's message, if that is the last message; steers tools.
        force_tool: the name of the tool the caller requires, `*` for any, empty for none.
        schema: JSON schema of the answer; an empty dict requests any JSON object.
        service: the service tier requested, later the one granted; empty if not specified.
        shown: how many of how many answers to one prompt are shown (legacy completions), or how
            many partial images.
        longest_input: tokens of the longest of many prompts; 0 where there is one.
        thinking_tokens_max: most tokens of visible thinking the caller requested; 0 for none.
    """

    wire: WireName
    model: str
    digest: bytes
    segments: tuple[Segment, ...]
    input_tokens: int
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    output_tokens_max: int | None = None
    asked: str = ""
    tools: tuple[Tool, ...] = ()
    force_tool: str = ""
    tools_barred: bool = False
    parallel_tools: bool = True
    schema: object = None
    reasoning: str = ""
    thinking_tokens_max: int = 0
    stop: tuple[str, ...] = ()
    service: str = ""
    script: Script = NO_SCRIPT
    answer_text: str | None = None
    shown: tuple[int, int] = (1, 1)
    longest_input: int = 0
    searches: int = 0


def model_of(body: dict[str, object]) -> tuple[str, Script]:
    """The requested model without directives, and the script from its directives."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RefusalError(400, "you must provide a model parameter", param="model")
    try:
        return split_model(model)
    except ValueError as error:
        raise RefusalError(400, str(error), param="model") from None


def digest_of(wire: str, model: str, body: dict[str, object], ignored: frozenset[str]) -> bytes:
    """A digest of the request's content, whatever the order of its fields."""
    content = {key: value for key, value in body.items() if key not in ignored}
    content["model"] = model
    encoded = msgspec.json.encode(content, order="sorted")
    return hashlib.blake2b(wire.encode() + encoded, digest_size=32).digest()


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def asked_of(content: object) -> str:
    """What a user's message asks: its last text part, since programs put their reminders before it."""
    texts = [part for part in objects(content) if isinstance(part.get("text"), str)]
    return text_of(texts[-1:] if texts else content)


def objects(value: object) -> list[dict[str, object]]:
    """The objects in a list; other values are left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def whole(
    body: dict[str, object], name: str, low: int, high: int, default: int | None = None
) -> int | None:
    """A whole number in a range, or the default if it is missing.

    Raises:
        RefusalError: the value is something else.
    """
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RefusalError(
            400, f"Invalid {name!r}: expected a whole number from {low} to {high}.", param=name
        )
    return value


def string(value: object) -> str:
    """The value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


@dataclass(slots=True)
class Recent(Generic[T]):
    """A dictionary that evicts the least recently used entry."""

    limit: int
    items: OrderedDict[bytes, T] = field(default_factory=OrderedDict)

    def get(self, key: bytes) -> T | None:
        """Look up and mark as used."""
        found = self.items.get(key)
        if found is not None:
            self.items.move_to_end(key)
        return found

    def put(self, key: bytes, value: T) -> None:
        """Store a value, and evict the oldest above the limit."""
        self.items[key] = value
        self.items.move_to_end(key)
        if len(self.items) > self.limit:
            self.items.popitem(last=False)


@dataclass(slots=True)
class PromptCache:
    """The provider's prompt cache: which part of an input was seen before.

    OpenAI caches automatically, in steps of 128 tokens; Anthropic at breakpoints the caller sets.
    """

    seen: Recent[bool] = field(default_factory=lambda: Recent(50_000))

    def look(self, prompt: Prompt, *, writes_cost: bool = False) -> tuple[int, int, int]:
        """Tokens read, tokens written, and those written for an hour; remembers the prompt.

        OpenAI counts what is written where it charges for that.
        """
        marked = prompt.wire == "anthropic"
        prefixes = [
            segment
            for segment in prompt.segments
            if segment.tokens >= CACHE_TOKENS_MIN and (segment.ttl or not marked)
        ]
        model = prompt.model.encode("utf-8", "surrogatepass")
        read = 0
        for segment in reversed(prefixes):
            if self.seen.get(model + segment.digest):
                read = segment.tokens
                break
        for segment in prefixes:
            self.seen.put(model + segment.digest, True)
        if not marked:
            read, known = read // 128 * 128, prefixes[-1].tokens // 128 * 128 if prefixes else 0
            return read, max(known - read, 0) if writes_cost else 0, 0
        written = prefixes[-1].tokens - read if prefixes else 0
        return read, written, written if prefixes and prefixes[-1].ttl == "1h" else 0
