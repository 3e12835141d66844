"""Converts answers on OpenAI's wire that have another form than the one requested.

Some servers stream although we did not request it, some send one JSON answer to a request for a
stream, and some send tool arguments as JSON instead of a string. No I/O; only such answers are
passed to this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MAX_TOOL_CALLS = 1024
_DECODE = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_JOINED = frozenset({"content", "refusal", "reasoning_content", "reasoning", "arguments", "input"})
"""Texts that arrive in pieces. Of other fields, the last value counts, and lists are joined."""


def as_chunk(payload: bytes) -> bytes:
    """A chunk whose choices have a delta, with arguments as a string. The payload may be a
    non-streamed answer."""
    data = _DECODE.decode(payload)
    for choice in data["choices"]:
        message = choice.pop("message", None)
        if not isinstance(choice.get("delta"), dict) and isinstance(message, dict):
            choice["delta"] = message
            for index, call in enumerate(message.get("tool_calls") or ()):
                call["index"] = index
        _write_arguments(choice.get("delta"))
    data["object"] = "chat.completion.chunk"
    return _ENCODER.encode(data)


def with_text_arguments(body: bytes) -> bytes:
    """A non-streamed answer with its tool arguments as strings; anything else unchanged."""
    try:
        data = _DECODE.decode(body)
        changed = [_write_arguments(choice.get("message")) for choice in data["choices"]]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    except (AttributeError, KeyError, TypeError):
        return body  # not of this wire; its reader reports that
    return _ENCODER.encode(data) if any(changed) else body


def _write_arguments(message: Any) -> bool:
    """Write arguments that are JSON as strings. Returns whether there were any."""
    changed = False
    if not isinstance(message, dict):
        return changed
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls] if isinstance(calls, list) else []
    for function in (*functions, message.get("function_call")):
        if not isinstance(function, dict) or isinstance(function.get("arguments"), str | None):
            continue
        function["arguments"] = _ENCODER.encode(function["arguments"]).decode()
        changed = True
    return changed


def completion_of(chunks: Iterable[bytes]) -> bytes | None:
    """The complete answer that a stream's chunks add up to; None if the stream is incomplete.

    Raises:
        msgspec.DecodeError, KeyError, TypeError: these are not chunks of this wire.
    """
    whole: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in map(_DECODE.decode, chunks):
        for name, value in chunk.items():
            if name == "choices":
                for part in value or ():
                    _add_choice(choices.setdefault(part.get("index", 0), {}), part)
            elif name != "object" and value is not None:
                whole[name] = value
    if not choices or not all(choice.get("finish_reason") for choice in choices.values()):
        return None
    whole["choices"] = [choices[index] for index in sorted(choices)]
    for index, choice in sorted(choices.items()):
        choice["index"] = index
        choice["message"] = {"role": "assistant", "content": None, **choice.get("message", {})}
    return _ENCODER.encode(whole)


def _add_choice(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        if name == "delta":
            if value:
                _join(choice.setdefault("message", {}), value)
        elif name == "logprobs" and value and choice.get(name):
            _join(choice[name], value)
        elif value is not None or name not in choice:
            choice[name] = value


def _join(message: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        had = message.get(name)
        if name == "tool_calls" and value:
            _join_calls(message.setdefault(name, []), value)
        elif name == "function_call" and isinstance(had, dict) and isinstance(value, dict):
            _join(had, value)
        elif isinstance(had, list) and isinstance(value, list):
            message[name] = [*had, *value]
        elif name in _JOINED and isinstance(had, str) and isinstance(value, str):
            message[name] = had + value
        elif value is not None or name not in message:
            message[name] = value


def _join_calls(calls: list[dict[str, Any]], parts: Iterable[Mapping[str, Any]]) -> None:
    for part in parts:
        index = part.get("index", len(calls))
        if not 0 <= index < MAX_TOOL_CALLS:
            raise KeyError(index)
        while len(calls) <= index:
            calls.append({"id": "", "type": "function"})
        call = calls[index]
        for name, value in part.items():
            if name in ("function", "custom"):
                _join(call.setdefault(name, {}), value or {})
            elif name != "index" and value:
                call[name] = value
