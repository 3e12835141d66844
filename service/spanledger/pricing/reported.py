"""Reads the usage that providers report, by the tables in `forms`.

No value makes reading fail: garbage counts as missing usage, and the caller counts the tokens itself.
Counts that fit no known form are charged at the higher reading and marked (`Usage.ambiguity`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from spanledger.pricing.forms import (
    CACHE_UNPLACED,
    PARTS_MISMATCH,
    PLACES,
    TOTAL_MISMATCH,
    USAGE_FORMS,
    Told,
)
from spanledger.pricing.usage import MAX_USAGE_TOKENS, PROMPT_MISSING, TOTAL_ALONE, Usage

MAX_TOLD_USD = 100_000
"""No attempt costs more; a larger amount is garbage."""
_PASSES = ("compaction", "advisor_message")

T = TypeVar("T", bound=msgspec.Struct)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Path = tuple[str, tuple[str, ...]]


def _paths(count: str) -> tuple[_Path, ...]:
    split = (place.path.split(".") for place in PLACES[count])
    return tuple((head, tuple(rest)) for head, *rest in split)


_PROMPT, _COMPLETION, _TOTAL = _paths("prompt"), _paths("completion"), _paths("total")
_READ, _WRITE, _WRITE_1H = _paths("read"), _paths("write"), _paths("write_1h")
_REASONING, _CITATIONS = _paths("reasoning"), _paths("citations")
_AUDIO_INPUT, _AUDIO_OUTPUT = _paths("audio_input"), _paths("audio_output")
_SEARCHES = _paths("searches")
_OPENAI_DETAILS = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details")


class OpenAIUsage(msgspec.Struct):
    """`usage` on OpenAI's wire, with what compatible servers add: every place of `PLACES`."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None
    input_token_details: Any = None
    cached_tokens: Any = None
    prompt_cache_hit_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_creation: Any = None
    claude_cache_creation_1_h_tokens: Any = None
    num_cached_tokens: Any = None
    prompt_token_details: Any = None
    reasoning_tokens: Any = None
    citation_tokens: Any = None
    server_tool_use: Any = None
    num_search_queries: Any = None
    server_side_tool_usage_details: Any = None
    cost: Any = None
    """OpenRouter's charge, in USD; with a key of one's own at the provider it is their fee alone,
    and `cost_details.upstream_inference_cost` is what that provider charges."""
    cost_details: Any = None
    is_byok: Any = None

    def to_usage(self) -> Usage | None:
        """Counting basis of `Usage`; None where nothing was counted.

        Details that make no sense are left out, which costs more and never less.
        """
        return self._plain() or self.by_the_tables()

    def _plain(self) -> Usage | None:
        """The usage if it comes as OpenAI itself reports it, as nearly all does; else None.

        `by_the_tables` reads it the same way, at several times the cost.
        """
        prompt, completion, total, given, made, *others = msgspec.structs.astuple(self)
        if others != _NO_OTHERS:
            return None
        read = _only(given, "cached_tokens", _OTHER_INPUT)
        reasoning = _only(made, "reasoning_tokens", _OTHER_OUTPUT)
        if not (type(prompt) is type(completion) is type(total) is int):
            return None
        if not (type(read) is type(reasoning) is int):
            return None
        fits = 0 <= read <= prompt and 0 <= reasoning <= completion
        if prompt and fits and total == prompt + completion and total <= MAX_USAGE_TOKENS:
            return Usage(prompt, completion, read, 0, reasoning)
        return None

    def by_the_tables(self) -> Usage | None:
        """The usage in whatever form of `forms` it comes."""
        prompt, completion = _told(self, _PROMPT), _told(self, _COMPLETION)
        total = _told(self, _TOTAL) or 0
        if not prompt:
            return _without_prompt(completion or 0, total)
        if completion is None:
            completion = max(total - prompt, 0)  # embeddings have no output
        hour = _part(self, _WRITE_1H)
        read, write = _part(self, _READ), max(_part(self, _WRITE), hour)
        reasoning, citations = _part(self, _REASONING), _part(self, _CITATIONS)
        reading = _Reading(prompt, completion)
        if (
            total not in (0, prompt + completion)
            or read + write > prompt
            or reasoning > completion
            or citations
            or not (total or self._places_its_cache())
        ):
            told = Told(prompt, completion, total, read, write, reasoning, citations)
            reading = _read(told, placed=bool(total) or self._places_its_cache())
        if reading.input > MAX_USAGE_TOKENS or reading.output > MAX_USAGE_TOKENS:
            return None
        heard, spoken = _part(self, _AUDIO_INPUT), _part(self, _AUDIO_OUTPUT)
        fits = heard <= reading.input and reasoning + spoken <= reading.output
        return Usage(
            input_tokens=reading.input,
            output_tokens=reading.output,
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            reasoning_output_tokens=reasoning or reading.unnamed,
            cache_write_1h_input_tokens=hour,
            audio_input_tokens=heard,
            audio_output_tokens=spoken,
            searches=_part(self, _SEARCHES),
            ambiguity=reading.ambiguity or ("" if fits else PARTS_MISMATCH),
            guessed_output_tokens=reading.guessed,
            told_nano=0 if self.cost is None and self.is_byok is None else self._told_nano(),
        )

    def _told_nano(self) -> int:
        upstream = _object(self.cost_details).get("upstream_inference_cost")
        return _nano(self.cost) + (_nano(upstream) if self.is_byok is True else 0)

    def _places_its_cache(self) -> bool:
        """Whether the names say that the prompt includes the cache: all but Anthropic's do."""
        if not (self.cache_read_input_tokens or self.cache_creation_input_tokens):
            return True
        return any(isinstance(getattr(self, name), dict) for name in _OPENAI_DETAILS)


_NO_OTHERS = [None] * (len(OpenAIUsage.__struct_fields__) - 5)
_OTHER_INPUT = frozenset({"audio_tokens"})
_OTHER_OUTPUT = frozenset(
    {"audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
)


class _Reading(NamedTuple):
    """How some counts are read.

    Attributes:
        unnamed: output that can only be reasoning.
        guessed: output that nothing says is output.
    """

    input: int
    output: int
    unnamed: int = 0
    ambiguity: str = ""
    guessed: int = 0


def _read(told: Told, *, placed: bool) -> _Reading:
    """The reading of the first form that fits, or the more expensive one if none does."""
    if not placed and told.read + told.write <= told.prompt:
        beside = told.prompt + told.read + told.write
        return _Reading(beside, told.completion, ambiguity=CACHE_UNPLACED)
    for form in USAGE_FORMS:
        if form.fits(told):
            output = told.sum(form.output)
            unnamed = 0 if told.reasoning else output - told.completion
            return _Reading(told.sum(form.input), output, unnamed)
    return _dearer(told)


def _dearer(told: Told) -> _Reading:
    """The most that can have been billed: the surplus of the total counts as output. A cache that does
    not fit into the prompt, or that no total bounds, is added to the prompt."""
    cache, surplus = told.read + told.write, told.total - told.prompt - told.completion
    known = told.completion + (told.reasoning if told.reasoning > told.completion else 0)
    given = told.prompt + told.citations
    if surplus <= 0 or cache > told.prompt:
        given += cache
    output = max(known, told.total - given)
    return _Reading(
        given, output, ambiguity=TOTAL_MISMATCH, guessed=max(0, output - told.completion)
    )


def _without_prompt(completion: int, total: int) -> Usage | None:
    """Usage of a server that did not count the prompt."""
    if completion:
        return Usage(max(total - completion, 0), completion, ambiguity=PROMPT_MISSING)
    if total:
        return Usage(0, total, ambiguity=TOTAL_ALONE, guessed_output_tokens=total)
    return None


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

        None where nothing was counted.
        """
        fresh, output = _count(self.input_tokens), _count(self.output_tokens)
        if output is None:
            return None
        by_age = _object(self.cache_creation)
        hour = _number(by_age.get("ephemeral_1h_input_tokens"))
        five_minutes = _number(by_age.get("ephemeral_5m_input_tokens"))
        write = max(_number(self.cache_creation_input_tokens), hour + five_minutes)
        read = _number(self.cache_read_input_tokens)
        given = (fresh or 0) + read + write
        if given > MAX_USAGE_TOKENS or not (given or output):
            return None
        thinking = _number(_object(self.output_tokens_details).get("thinking_tokens"))
        usage = Usage(
            input_tokens=given,
            output_tokens=max(output, thinking),
            cache_read_input_tokens=read,
            cache_write_input_tokens=write,
            reasoning_output_tokens=thinking,
            cache_write_1h_input_tokens=hour,
            searches=_number(_object(self.server_tool_use).get("web_search_requests")),
            ambiguity="" if given else PROMPT_MISSING,
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


def add_counts(told: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Add the counts of a later event of Anthropic's to the earlier ones.

    Counts are cumulative. A count that a later event omits, or reports as zero, does not undo an
    earlier one.
    """
    for name, value in later.items():
        before = told.get(name)
        if isinstance(value, Mapping) and isinstance(before, dict):
            told[name] = inner = dict(before)
            add_counts(inner, value)
        elif value or before is None:
            told[name] = value


def anthropic_service(usage: Mapping[str, Any] | None) -> str:
    """How Anthropic served an answer, if that has its own price: `fast`, `us` or both.

    Its `service_tier` is ignored, because `priority` there is capacity that was paid in advance.
    Empty if Anthropic does not say.
    """
    words = [] if usage is None else [usage.get("speed"), usage.get("inference_geo")]
    if not any(words):
        return ""
    return " ".join(word for word in words if word in ("fast", "us")) or "standard"


def _struct(raw: object, kind: type[T]) -> T | None:
    if isinstance(raw, kind):
        return raw
    try:
        if isinstance(raw, bytes | msgspec.Raw):
            return msgspec.json.decode(raw, type=kind)
        return msgspec.convert(raw, kind) if isinstance(raw, Mapping) else None
    except _UNREADABLE:
        return None


def _told(usage: OpenAIUsage, paths: tuple[_Path, ...]) -> int | None:
    """A count from the first place with more than zero; None if there is none in any place."""
    zero = None
    for head, rest in paths:
        value = getattr(usage, head)
        if value is None:
            continue
        for key in rest:
            value = value.get(key) if isinstance(value, dict) else None
        count = _count(value)
        if count:
            return count
        zero = zero if count is None else 0
    return zero


def _only(details: Any, name: str, others: frozenset[str]) -> Any:
    """The count `name` of details with nothing else to count; None where there may be more."""
    if details is None:
        return 0
    if type(details) is not dict or details.get("audio_tokens"):
        return None
    return details.get(name, 0) if details.keys() - others <= {name} else None


def _part(usage: OpenAIUsage, paths: tuple[_Path, ...]) -> int:
    return _told(usage, paths) or 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    """A number of tokens, or None; a fraction of a token is a token."""
    if type(value) is int:  # as nearly every one is
        return value if 0 <= value <= MAX_USAGE_TOKENS else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(value) if 0 <= value <= MAX_USAGE_TOKENS else None


def _number(value: Any) -> int:
    return _count(value) or 0


def _nano(value: Any) -> int:
    """An amount in USD as a provider writes it, to the nano-dollar; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return round(value * 1_000_000_000) if 0 <= value <= MAX_TOLD_USD else 0
