"""Anthropic's turns as messages of a chat.

Results of tools become messages of their own, before what else their turn says. Images in a result
follow in a message of the user, as a tool's message has text only.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.wires.failures import invalid
from spanledger.wires.fields import among

ChatMessage = dict[str, Any]

_THINKING = frozenset({"thinking", "redacted_thinking"})


def chat_messages(turns: Any, changed: list[str]) -> list[ChatMessage]:
    """The messages. Raises ProviderError, saying which turn has no counterpart."""
    if not isinstance(turns, list):
        raise invalid("'messages' must be an array", param="messages")
    made: list[ChatMessage] = []
    for index, turn in enumerate(turns):
        place = f"messages[{index}]"
        role = turn.get("role") if isinstance(turn, dict) else None
        if role == "user":
            made += _user(turn.get("content"), place, changed)
        elif role == "assistant":
            made += _assistant(turn.get("content"), place, changed)
        elif role == "system":
            made.append({"role": role, "content": texts_of(turn.get("content"), place, changed)})
        else:
            raise invalid(f"{place} must have the role user or assistant", param=place)
    return made


def texts_of(content: Any, place: str, changed: list[str]) -> str | list[ChatMessage]:
    """Content of text alone."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_text(block, place, changed) for block in _blocks(content, place)]
    return _plain(parts)


def _blocks(content: Any, place: str) -> list[ChatMessage]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(block, dict) for block in content):
        return content
    raise invalid(f"{place}.content must be a string or an array of blocks", param=place)


def _text(block: ChatMessage, place: str, changed: list[str]) -> ChatMessage:
    if block.get("type") != "text" or not isinstance(block.get("text"), str):
        raise invalid(f"{place} may hold text only", param=place)
    if block.get("cache_control"):
        changed.append("cache_control")
    return {"type": "text", "text": block["text"]}


def _plain(parts: list[ChatMessage]) -> str | list[ChatMessage]:
    """A single text as a string, which every server takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _user(content: Any, place: str, changed: list[str]) -> list[ChatMessage]:
    results: list[ChatMessage] = []
    parts: list[ChatMessage] = []
    for block in _blocks(content, place):
        if block.get("type") == "tool_result":
            message, more = _result(block, place, changed)
            results.append(message)
            parts += more
        else:
            parts += _part(block, place, changed)
    return [*results, {"role": "user", "content": _plain(parts)}] if parts else results


def _result(
    block: ChatMessage, place: str, changed: list[str]
) -> tuple[ChatMessage, list[ChatMessage]]:
    if not isinstance(unique := block.get("tool_use_id"), str):
        raise invalid(f"{place}: a tool_result needs its tool_use_id", param=place)
    content = block.get("content")
    if block.get("cache_control"):
        changed.append("cache_control")
    found = [] if content is None else _blocks(content, place)
    parts = [part for one in found for part in _part(one, place, changed)]
    texts = [part for part in parts if part["type"] == "text"]
    others = [part for part in parts if part["type"] != "text"]
    return {"role": "tool", "tool_call_id": unique, "content": _plain(texts) or ""}, others


def _assistant(content: Any, place: str, changed: list[str]) -> list[ChatMessage]:
    texts: list[ChatMessage] = []
    calls: list[ChatMessage] = []
    for block in _blocks(content, place):
        kind = block.get("type")
        if among(kind, _THINKING):
            changed.append("messages")
        elif kind == "tool_use":
            calls.append(_call(block, place))
        elif kind == "text":
            texts.append(_text(block, place, changed))
        else:
            raise invalid(f"{place}: this model takes no content of type {kind!r}", param=place)
    if not (texts or calls):
        return []
    message: ChatMessage = {"role": "assistant", "content": _plain(texts) if texts else None}
    return [{**message, "tool_calls": calls} if calls else message]


def _call(block: ChatMessage, place: str) -> ChatMessage:
    unique, name = block.get("id"), block.get("name")
    if not isinstance(unique, str) or not isinstance(name, str):
        raise invalid(f"{place}: a tool_use needs its id and name", param=place)
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    return {
        "id": unique,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _part(block: ChatMessage, place: str, changed: list[str]) -> list[ChatMessage]:
    kind, source = block.get("type"), block.get("source")
    source = source if isinstance(source, dict) else {}
    if kind == "text":
        return [_text(block, place, changed)]
    if block.get("cache_control"):
        changed.append("cache_control")
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _url(source, place, "image")}}]
    if kind == "document" and source.get("type") == "text":
        return [{"type": "text", "text": str(source.get("data") or "")}]
    if kind == "document" and source.get("type") == "content":
        found = _blocks(source.get("content"), place)
        return [part for one in found for part in _part(one, place, changed)]
    if kind == "document" and source.get("type") == "base64":
        name = block.get("title")
        file = {
            "filename": name if isinstance(name, str) and name else "document.pdf",
            "file_data": _url(source, place, "document"),
        }
        return [{"type": "file", "file": file}]
    if kind == "search_result":
        head = f"{block.get('title') or ''}\n{source or block.get('source') or ''}".strip()
        found = _blocks(block.get("content"), place)
        return [{"type": "text", "text": head}, *(_text(one, place, changed) for one in found)]
    raise invalid(f"{place}: this model takes no content of type {kind!r}", param=place)


def _url(source: ChatMessage, place: str, kind: str) -> str:
    if source.get("type") == "url" and isinstance(source.get("url"), str):
        url: str = source["url"]
        return url
    if source.get("type") == "base64" and isinstance(source.get("data"), str):
        return f"data:{source.get('media_type')};base64,{source['data']}"
    raise invalid(
        f"{place}: send the {kind} itself; this model has no files of Anthropic", param=place
    )
