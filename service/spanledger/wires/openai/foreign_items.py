"""Items of a Responses request that the server cannot read, because another account made them.

After a fallback, a client sends on reasoning and references of both accounts. OpenAI refuses reasoning
that it does not keep with 404, and encrypted reasoning of another organization with 400
`invalid_encrypted_content` (NousResearch/hermes-agent#33035, maximhq/bifrost#5892). A model can do
without what was thought before, so such a request is sent once more without reasoning.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from spanledger.wires.base import Outgoing
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, Fields, among

OUR_REASONING = "rs_chat"
"""What ids of reasoning start with that came over a chat: no server of this API knows them."""
_REASONING = "rs_"
_NAMES_ITS_OWN = frozenset({"custom_tool_call", "function_call", "message"})
"""Items that need no id. One that the server knows ties a call to its reasoning, which is then
missed: "was provided without its required 'reasoning' item"."""
_GONE = re.compile(rb"Item with id '([^'\\]{1,256})' not found")
_SEALED = re.compile(
    rb"invalid_encrypted_content|encrypted content .{0,300} could not be verified", re.IGNORECASE
)

_Item = dict[str, Any]
_ITEMS = msgspec.json.Decoder(list[_Item])


def without_ours(raw: msgspec.Raw, changed: list[str]) -> msgspec.Raw | list[_Item]:
    """The input without reasoning that came over a chat; named as changed where there is some."""
    if OUR_REASONING.encode() not in bytes(raw):
        return raw
    try:
        items = _ITEMS.decode(raw)
    except DECODE_ERRORS:
        return raw
    kept = [
        item for item in items if not (_is_thought(item) and _id(item).startswith(OUR_REASONING))
    ]
    if len(kept) == len(items):
        return raw
    changed.append("input")
    return kept


def eased(out: Outgoing, status: int, body: bytes) -> Fields | None:
    """The fields to ask with again where the answer refuses an item of another account; None for
    any other.

    Raises:
        ProviderError: `invalid_request`, where the item is only named and is not reasoning.
    """
    gone = _GONE.search(body) if status in (400, 404) else None
    if gone is None and not (status == 400 and _SEALED.search(body)):
        return None
    try:
        items = _ITEMS.decode(out.fields["input"])
    except (KeyError, *DECODE_ERRORS):
        return None
    _check_reference(items, "" if gone is None else gone[1].decode(errors="replace"))
    kept = [_unnamed(item) for item in items if not _is_thought(item)]
    if kept == items or not kept:
        return None
    out.changed.append("input")
    return {**out.fields, "input": msgspec.Raw(msgspec.json.encode(kept))}


def _check_reference(items: list[_Item], gone: str) -> None:
    """What was said cannot be left out like a thought."""
    for number, item in enumerate(items):
        if _id(item) == gone and _is_reference(item) and not gone.startswith(_REASONING):
            told = (
                f"nothing is stored under {gone!r} at the account that serves this request; send the"
                " item itself, as clients do with `store: false`"
            )
            raise invalid(f"input[{number}]: {told}", param="input", code="item_not_here")


def _is_thought(item: _Item) -> bool:
    """Whether an item is reasoning, itself or by its id."""
    if item.get("type") == "reasoning":
        return True
    return _is_reference(item) and _id(item).startswith(_REASONING)


def _is_reference(item: _Item) -> bool:
    return item.get("type") == "item_reference" or (item.get("type") is None and "role" not in item)


def _unnamed(item: _Item) -> _Item:
    kind = item.get("type", "message" if "role" in item else None)
    if not among(kind, _NAMES_ITS_OWN) or "id" not in item:
        return item
    return {name: value for name, value in item.items() if name != "id"}


def _id(item: _Item) -> str:
    found = item.get("id")
    return found if isinstance(found, str) else ""
