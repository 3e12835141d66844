"""Compactions: what only the account that made them can read, marked with the request that did.

A compaction stands for earlier items of a conversation. Its provider encrypted it, for its own account,
so a request that brings one has to go there. Clients keep little of such an item besides its
`encrypted_content` (Codex drops its id), which is opaque to them: there the gateway puts its request id
in front, and takes it off again before a provider sees it.
"""

from __future__ import annotations

import re

import msgspec

from spanledger.wires.answer_ids import quoted
from spanledger.wires.fields import DECODE_ERRORS

KIND = b'"compaction"'
"""The type of such an item, as JSON has it."""
_MARK = "spanledger_"
_REQUEST = "req_"
_MARKED = re.compile(rb'("encrypted_content"\s*:\s*")spanledger_([0-9a-f]{24})_')
"""Quotes within a text are escaped, so this is never part of what somebody says."""
_OPAQUE = re.compile(r"[A-Za-z0-9_=+/.:-]+")
"""What JSON has as it is: anything else is left as the provider wrote it."""


class _Item(msgspec.Struct):
    type: str = ""
    encrypted_content: str | None = None


class _Response(msgspec.Struct):
    output: list[_Item] | None = None


class _Event(msgspec.Struct):
    """An event, or an answer.

    Attributes:
        item: of an event.
        response: of an event that has the answer.
        output: of an answer.
    """

    item: _Item | None = None
    response: _Response | None = None
    output: list[_Item] | None = None


_EVENT = msgspec.json.Decoder(_Event)


def marked(data: bytes, request_id: str) -> bytes:
    """An answer, or an event of one, whose compactions say which request made them."""
    if KIND not in data or not request_id.startswith(_REQUEST):
        return data
    try:
        event = _EVENT.decode(data)
    except DECODE_ERRORS:
        return data
    items = [*(event.output or ()), *((event.response and event.response.output) or ())]
    if event.item is not None:
        items.append(event.item)
    mark = f"{_MARK}{request_id.removeprefix(_REQUEST)}_"
    for sealed in {item.encrypted_content for item in items if item.type == "compaction"}:
        if sealed and _OPAQUE.fullmatch(sealed):
            data = data.replace(quoted(sealed), quoted(mark + sealed))
    return data


def unmarked(raw: msgspec.Raw) -> msgspec.Raw:
    """The input of a request as its provider knows it."""
    data = bytes(raw)
    return msgspec.Raw(_MARKED.sub(rb"\1", data)) if _MARK.encode() in data else raw


def maker_of(raw: msgspec.Raw | None) -> str:
    """The request that made the last compaction in an input; empty if there is none of ours."""
    data = b"" if raw is None else bytes(raw)
    if _MARK.encode() not in data:
        return ""
    found = _MARKED.findall(data)
    return _REQUEST + found[-1][1].decode() if found else ""
