"""What bounds the cost of a request on the Responses API.

Its tools are flat, some run at the caller and some at the provider, and items of the input may bring
more of them. Its input may be elsewhere: the answer it continues is bounded by its row in the ledger,
and items that a provider has stored by the model's context window.
"""

from __future__ import annotations

import json

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.pricing.media import UNREADABLE, decode_noting_repeats, plainly
from spanledger.wires.bounds import (
    ANY_WINDOW_TOKENS,
    BUILT_IN_TOOL_TOKENS,
    FREE_TEXT_TOOL_TOKENS,
    TOOL_TOKENS,
    TWICE,
    bounded,
)
from spanledger.wires.fields import DECODE_ERRORS, NULL, Fields, is_set
from spanledger.wires.openai.foreign_items import OUR_REASONING

_OWN = ("max_output_tokens", "previous_response_id", "tools")
"""Fields that mean something else on other wires."""
_EMPTY = (b"[]", b"{}")
_ELSEWHERE = {
    "prompt": "the provider reads a prompt that it has stored; send its text",
}
_CALLERS = frozenset({"function", "custom", "apply_patch", "local_shell"})
"""Types of tools that the caller runs. Of the last two, only instructions are the provider's."""
_SCREENS = ("computer",)
_LISTED = "mcp_list_tools"
"""An item with the tools of a server: what runs them is among the request's own."""
_OURS = b'"' + OUR_REASONING.encode()
"""Such items are not sent to a server that could have stored them."""
_SEARCHES = "web_search"
_SEARCH = (
    "the model reads any number of pages with {!r}, whatever 'max_tool_calls' says; leave the tool out"
    ' (Codex: web_search = "disabled" in config.toml)'
)
"""Past `max_tool_calls`, OpenAI's models go on asking for searches that are not made, each time with
all they have read as billed input. Sources: openai/openai-java#600 (over 50 rounds with a limit of
5), turnstonelabs/turnstone#1191 (the input of every round is billed)."""
_DESCRIBED = frozenset({"function", "custom", "namespace"})

_Tool = dict[str, msgspec.Raw]


class _Environment(msgspec.Struct):
    type: str = ""


class _Item(msgspec.Struct):
    id: msgspec.Raw = NULL
    type: str | None = None
    role: str | None = None
    encrypted_content: msgspec.Raw = NULL


_TOOLS = msgspec.json.Decoder(list[_Tool])
_ENVIRONMENT = msgspec.json.Decoder(_Environment)
_ITEMS = msgspec.json.Decoder(list[_Item])
_TEXT = msgspec.json.Decoder(str)


def demand_of(fields: Fields, body_bytes: int, cap: int | None) -> Demand:
    """What bounds these fields with this cap on the output, reasoning included.

    The tools are put back as they were read: of a key that one has twice, the value that was checked.
    """
    beside = {name: raw for name, raw in fields.items() if name not in _OWN}
    demand = bounded(beside, body_bytes, (cap, None), 1)
    for name in tuple(demand.unbounded):
        if name in beside and bytes(beside[name]) in _EMPTY:
            del demand.unbounded[name]
    if _is_true(fields, "background") and _is_true(fields, "stream"):
        # Whole, it is held until somebody reads it; a stream may end before the answer does.
        demand.unbounded["background"] = (
            "the answer is written although its stream has ended; leave out 'stream' or 'background'"
        )
    for name, why in _ELSEWHERE.items():
        if name in fields and bytes(fields[name]) not in (b"null", b"false"):
            demand.unbounded[name] = why
    given = fields.get("input")
    if given is not None:
        raw = bytes(given)
        if _is_stored(raw):
            demand.input_tokens += ANY_WINDOW_TOKENS
        if b'"tools"' in raw or b"\\u00" in raw:
            _read_brought(demand, raw)
    tools = fields.get("tools")
    if tools is not None and is_set(tools):
        fields["tools"] = _read_tools(demand, bytes(tools))
    return demand


def _is_stored(raw: bytes) -> bool:
    """Whether some of the input is what a provider has stored: an item that is only named, or
    reasoning that is not in the item."""
    if b'"id"' not in raw and b"\\u00" not in raw:
        return False
    try:
        items = _ITEMS.decode(raw)
    except DECODE_ERRORS:
        return raw.startswith(b"[")
    return any(
        (item.type in (None, "item_reference") and item.role is None)
        or (item.type == "reasoning" and not is_set(item.encrypted_content))
        for item in items
        if not bytes(item.id).startswith(_OURS)
    )


def _read_brought(demand: Demand, raw: bytes) -> None:
    """The tools that items of the input bring: `additional_tools`, and what a tool search found.

    The input is sent as it came, so that nothing in it may be said twice.
    """
    try:
        items, repeated = decode_noting_repeats(raw)
        brought = [json.dumps(item["tools"]).encode() for item in items if _brings_tools(item)]
    except UNREADABLE:
        demand.unbounded["input"] = "its items cannot be read; nest them less"
        return
    if brought and repeated:
        demand.unbounded["input"] = TWICE.format(repeated)
    for tools in brought:
        _read_tools(demand, tools)


def _brings_tools(item: object) -> bool:
    return isinstance(item, dict) and "tools" in item and item.get("type") != _LISTED


def _read_tools(demand: Demand, raw: bytes) -> msgspec.Raw:
    """The caller runs functions; any other tool may run at the provider."""
    try:
        tools = _TOOLS.decode(raw)
    except DECODE_ERRORS:
        demand.unbounded["tools"] = "'tools' must be an array of objects"
        return msgspec.Raw(raw)
    for tool in tools:
        kind = _text(tool.get("type"))
        demand.input_tokens += FREE_TEXT_TOOL_TOKENS if kind == "custom" else TOOL_TOKENS
        if kind == "namespace" and "tools" in tool:
            tool["tools"] = _read_tools(demand, bytes(tool["tools"]))
        elif kind.startswith(_SEARCHES):
            demand.unbounded["tools"] = _SEARCH.format(kind[:64])
        elif not _runs_here(kind, tool):
            demand.unbounded["tools"] = f"{kind[:64]!r} may run at the provider; use functions"
        if kind not in _DESCRIBED:
            demand.input_tokens += BUILT_IN_TOOL_TOKENS
    return msgspec.Raw(msgspec.json.encode(tools))


def _runs_here(kind: str, tool: _Tool) -> bool:
    """Whether the caller runs a tool, so that nothing is billed between two requests."""
    if b"programmatic" in plainly(bytes(tool.get("allowed_callers", b""))):
        return False
    if kind in _CALLERS or kind.startswith(_SCREENS):
        return True
    if kind == "tool_search":
        return _text(tool.get("execution")) == "client"
    if kind == "shell" and "environment" in tool:
        try:
            return _ENVIRONMENT.decode(tool["environment"]).type == "local"
        except DECODE_ERRORS:
            return False
    return False


def _text(raw: msgspec.Raw | None) -> str:
    try:
        return "" if raw is None else _TEXT.decode(raw)
    except DECODE_ERRORS:
        return "?"


def _is_true(fields: Fields, name: str) -> bool:
    return name in fields and bytes(fields[name]) == b"true"
