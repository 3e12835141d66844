"""Web searches that a provider bills one by one although its `usage` does not count them.

OpenAI lists them among the items of an answer, Google names their queries, and a chat only cites what it
found. A count in `usage` itself is read by `reported` and wins.
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

import msgspec
from msgspec.structs import replace

from spanledger.pricing.forms import Stream
from spanledger.pricing.usage import MAX_USAGE_TOKENS, PROMPT_MISSING, Usage

SEARCHES: tuple[Stream, ...] = (
    Stream(
        "`web_search_call` items (Responses)",
        "each that did not fail, unless its action is `open_page` or `find_in_page`",
        ("OpenAI's guide to web search", "BerriAI/litellm#35949", "maximhq/bifrost#5099"),
    ),
    Stream(
        "`tool_usage.web_search.num_requests` (Responses at Bedrock)",
        "this number, in place of the items",
        ("BerriAI/litellm#39610",),
    ),
    Stream(
        "`url_citation` annotations (chat)",
        "one",
        ("OpenAI's guide to web search", "BerriAI/litellm#10476"),
    ),
    Stream(
        "`groundingMetadata.webSearchQueries` (Google)",
        "up to Gemini 2.5 one; later, one for each different query",
        ("Gemini API pricing", "BerriAI/litellm#36397"),
    ),
)
"""How searches are counted, for the page about usage."""
_MARK = b"web_search"
"""In every answer with a search: the type of its item, or the name of its count."""
_CITED = b'"url_citation"'
_CALL = "web_search_call"
_FREE = ("open_page", "find_in_page", "find")
"""Actions of that tool which are not searches. One search may have several queries and is one call."""
_PER_PROMPT = re.compile(r"gemini-(?:1|2|exp)|deep-research")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Item(msgspec.Struct):
    type: Any = None
    status: Any = None
    action: Any = None

    @property
    def is_billed(self) -> bool:
        """Whether it is a search; one without an action is from before there were others."""
        if self.type != _CALL or self.status == "failed":
            return False
        return not (isinstance(self.action, dict) and self.action.get("type") in _FREE)


class _Response(msgspec.Struct):
    output: list[_Item] | None = None
    tool_usage: Any = None

    @property
    def searches(self) -> int:
        """As the server counts them, where it does (Bedrock), or else the items."""
        told = self.tool_usage.get("web_search") if isinstance(self.tool_usage, dict) else None
        count = told.get("num_requests") if isinstance(told, dict) else None
        if type(count) is int and 0 <= count <= MAX_USAGE_TOKENS:
            return count
        return sum(item.is_billed for item in self.output or ())


class _Body(_Response):
    response: _Response | None = None
    item: _Item | None = None


_BODY = msgspec.json.Decoder(_Body)


def searches_in(body: bytes) -> int:
    """The searches in an answer of the Responses API, or in an event of its stream. Never fails."""
    if _MARK not in body:
        return 0
    try:
        found = _BODY.decode(body)
    except _UNREADABLE:
        return 0
    if found.item is not None:
        return int(found.item.is_billed)
    return (found.response or found).searches


def with_searches(usage: Usage | None, body: bytes) -> Usage | None:
    """The usage of such an answer with its searches, unless the provider counted them. An answer that
    reports no usage still has its searches; the tokens are then for the gateway to count."""
    if _MARK not in body or (usage is not None and usage.searches):
        return usage
    return _with(usage, searches_in(body))


def with_citations(usage: Usage | None, said: bytes) -> Usage | None:
    """The usage of a chat, of which one search is known if it cites what it found on the web."""
    if _CITED not in said or (usage is not None and usage.searches):
        return usage
    return _with(usage, 1)


def queries_billed(queries: Set[str], model: str) -> int:
    """How many searches Google bills for these queries: an empty or repeated one is free."""
    return searches_billed(len(queries - {""}), model)


def searches_billed(searches: int, model: str) -> int:
    """How many of these searches the model's provider bills."""
    return min(searches, 1) if _PER_PROMPT.search(model) else searches


def _with(usage: Usage | None, searches: int) -> Usage | None:
    if not searches:
        return usage
    if usage is None:
        return Usage(searches=searches, ambiguity=PROMPT_MISSING)
    return replace(usage, searches=searches)
