"""Messages of a chat as input items of the Responses API, in their order.

System and developer messages stay where they stand: a conversation may have several, and some
servers know no `instructions`. Reasoning that an earlier answer came with (`reasoning_items`) goes
back to the deployment that it came from. To any other it is unreadable, and left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.wires.failures import invalid

JsonObject = dict[str, Any]

SERVED_BY = "served_by"
"""The deployment whose reasoning it is, in a reasoning item as callers have it."""
_NO_AUDIO = "this model takes no audio; send text"


def input_items(messages: Any, deployment: str, changed: list[str]) -> list[JsonObject]:
    """The items. Raises ProviderError, saying which message has no counterpart."""
    if not isinstance(messages, list) or not messages:
        raise invalid("'messages' must be an array with at least one message", param="messages")
    made: list[JsonObject] = []
    custom: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer", "user"):
            made.append({"role": role, "content": _content(message.get("content"), place, changed)})
        elif role == "assistant":
            turn = [*_said(message, place), *_calls(message, place, custom)]
            if turn:  # reasoning alone is refused
                made += [*_reasoning(message, deployment, changed), *turn]
        elif role == "tool":
            made.append(_result(message, place, custom, changed))
        else:
            raise invalid(
                f"{place} must have the role system, developer, user, assistant or tool",
                param=place,
            )
        if message.get("name"):
            changed.append("messages")
    return made


def _content(content: Any, place: str, changed: list[str]) -> str | list[JsonObject]:
    if isinstance(content, str):
        return content
    return [_part(part, place, changed) for part in _parts(content, place)]


def _parts(content: Any, place: str) -> list[JsonObject]:
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return content
    raise invalid(f"{place}.content must be a string or an array of parts", param=place)


def _part(part: JsonObject, place: str, changed: list[str]) -> JsonObject:
    kind = part.get("type")
    if part.get("cache_control"):
        changed.append("cache_control")
    marked = {n: part[n] for n in ("prompt_cache_breakpoint",) if part.get(n)}
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "input_text", "text": part["text"], **marked}
    if kind == "image_url":
        return {**_image(part.get("image_url"), place), **marked}
    if kind == "file" and isinstance(file := part.get("file"), dict):
        known = ("file_id", "file_data", "file_url", "filename")
        return {"type": "input_file", **{n: file[n] for n in known if file.get(n)}, **marked}
    if kind == "input_audio":
        raise invalid(f"{place}: {_NO_AUDIO}", param=place)
    raise invalid(f"{place}: this model takes no content of type {kind!r}", param=place)


def _image(image: Any, place: str) -> JsonObject:
    image = {"url": image} if isinstance(image, str) else image
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise invalid(f"{place}: an image_url needs its url", param=place)
    return {
        "type": "input_image",
        "image_url": image["url"],
        "detail": image.get("detail") or "auto",
    }


def _said(message: JsonObject, place: str) -> list[JsonObject]:
    """What the assistant wrote: a string, unless it refused."""
    content, refused = message.get("content"), message.get("refusal")
    texts: list[str] = [content] if isinstance(content, str) else []
    refusals: list[str] = [refused] if isinstance(refused, str) and refused else []
    if content is not None and not isinstance(content, str):
        for part in _parts(content, place):
            kind = part.get("type")
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind == "refusal" and isinstance(part.get("refusal"), str):
                refusals.append(part["refusal"])
            else:
                raise invalid(
                    f"{place}: an assistant's message may hold text and refusals", param=place
                )
    if message.get("audio") and not texts:
        raise invalid(f"{place}: {_NO_AUDIO}", param=place)
    text = "".join(texts)
    if not refusals:
        return [{"role": "assistant", "content": text}] if text else []
    parts: list[JsonObject] = [{"type": "output_text", "text": text}] if text else []
    parts += [{"type": "refusal", "refusal": one} for one in refusals]
    return [{"type": "message", "role": "assistant", "content": parts}]


def _calls(message: JsonObject, place: str, custom: set[str]) -> list[JsonObject]:
    if message.get("function_call"):
        raise invalid(f"{place}: write its 'function_call' as 'tool_calls'", param=place)
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise invalid(f"{place}.tool_calls must be an array", param=place)
    made: list[JsonObject] = []
    for call in calls:
        kind = call.get("type") or "function" if isinstance(call, dict) else None
        called = call.get(kind) if kind in ("function", "custom") else None
        if (
            not isinstance(called, dict)
            or not isinstance(unique := call.get("id"), str)
            or not isinstance(name := called.get("name"), str)
        ):
            raise invalid(f"{place}: each of 'tool_calls' needs its id, type and name", param=place)
        if kind == "custom":
            custom.add(unique)
            given = str(called.get("input") or "")
            made.append(
                {"type": "custom_tool_call", "call_id": unique, "name": name, "input": given}
            )
            continue
        arguments = called.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else msgspec.json.encode(arguments).decode()
        made.append(
            {
                "type": "function_call",
                "call_id": unique,
                "name": name,
                "arguments": arguments or "{}",
            }
        )
    return made


def _result(message: JsonObject, place: str, custom: set[str], changed: list[str]) -> JsonObject:
    unique = message.get("tool_call_id")
    if not isinstance(unique, str):
        raise invalid(f"{place}: a tool's message needs its tool_call_id", param=place)
    content = message.get("content")
    kind = "custom_tool_call_output" if unique in custom else "function_call_output"
    output = "" if content is None else _content(content, place, changed)
    return {"type": kind, "call_id": unique, "output": output}


def _reasoning(message: JsonObject, deployment: str, changed: list[str]) -> list[JsonObject]:
    items = message.get("reasoning_items")
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    own = [item for item in found if item.get(SERVED_BY) == deployment]
    if len(own) < len(found):
        changed.append("messages")
    return [{name: value for name, value in item.items() if name != SERVED_BY} for item in own]
