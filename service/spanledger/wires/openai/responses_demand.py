"""What bounds the cost of a request on the Responses API.

Its tools are flat, some run at the caller and some at the provider, and its input may be elsewhere:
in the answer it continues, whose row in the ledger bounds it, or in what else a provider stores,
which nothing bounds.
"""

from __future__ import annotations

import msgspec

from spanledger.pricing.demand import Demand
from spanledger.wires.bounds import BUILT_IN_TOOL_TOKENS, bounded
from spanledger.wires.fields import DECODE_ERRORS, NULL, Fields, is_set

_OWN = ("max_output_tokens", "previous_response_id", "tools")
"""Fields that mean something else on other wires."""
_EMPTY = (b"[]", b"{}")
_ELSEWHERE = {
    "background": "the answer is written after the request has ended; leave it out",
    "prompt": "the provider reads a prompt that it has stored; send its text",
}
_NAMED = "it names an item that the provider has stored; send the item itself, with `store: false`"
_CALLERS = frozenset({"function", "custom", "apply_patch", "local_shell"})
"""Types of tools that the caller runs. Of the last two, only instructions are the provider's."""
_SCREENS = ("computer",)
_DESCRIBED = frozenset({"function", "custom", "namespace"})


class _Tool(msgspec.Struct):
    type: str = ""
    tools: msgspec.Raw = NULL
    environment: msgspec.Raw = NULL
    execution: str = ""
    allowed_callers: msgspec.Raw = NULL


class _Environment(msgspec.Struct):
    type: str = ""


_TOOLS = msgspec.json.Decoder(list[_Tool])
_ENVIRONMENT = msgspec.json.Decoder(_Environment)


def demand_of(fields: Fields, body_bytes: int, cap: int | None) -> Demand:
    """What bounds these fields with this cap on the output, reasoning included."""
    beside = {name: raw for name, raw in fields.items() if name not in _OWN}
    demand = bounded(beside, body_bytes, (cap, None), 1)
    for name in tuple(demand.unbounded):
        if name in beside and bytes(beside[name]) in _EMPTY:
            del demand.unbounded[name]
    for name, why in _ELSEWHERE.items():
        if name in fields and bytes(fields[name]) not in (b"null", b"false"):
            demand.unbounded[name] = why
    given = fields.get("input")
    if given is not None and _names_items(bytes(given)):
        demand.unbounded["input"] = _NAMED
    tools = fields.get("tools")
    if tools is not None and is_set(tools):
        _read_tools(demand, bytes(tools))
    return demand


def _names_items(raw: bytes) -> bool:
    return b'"item_reference"' in raw or (b"item\\u005freference" in raw)


def _read_tools(demand: Demand, raw: bytes) -> None:
    """The caller runs functions; any other tool may run at the provider."""
    try:
        tools = _TOOLS.decode(raw)
    except DECODE_ERRORS:
        demand.unbounded["tools"] = "'tools' must be an array of objects with a type"
        return
    for tool in tools:
        kind = tool.type
        if kind == "namespace":
            _read_tools(demand, bytes(tool.tools))
        elif not _runs_here(tool):
            demand.unbounded["tools"] = f"{kind[:64]!r} may run at the provider; use functions"
        if kind not in _DESCRIBED:
            demand.input_tokens += BUILT_IN_TOOL_TOKENS


def _runs_here(tool: _Tool) -> bool:
    """Whether the caller runs a tool, so that nothing is billed between two requests."""
    if is_set(tool.allowed_callers) and b"programmatic" in bytes(tool.allowed_callers):
        return False
    if tool.type in _CALLERS or tool.type.startswith(_SCREENS):
        return True
    if tool.type == "tool_search":
        return tool.execution == "client"
    if tool.type == "shell" and is_set(tool.environment):
        try:
            return _ENVIRONMENT.decode(tool.environment).type == "local"
        except DECODE_ERRORS:
            return False
    return False
