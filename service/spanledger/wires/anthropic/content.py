"""Messages of a chat completions request as Anthropic's `system` and alternating turns.

Consecutive messages of one role become one turn, so that all results of a round of tool calls are in
one user turn, as the Messages API requires. It refuses texts of white space alone, so they are left
out.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from spanledger.wires.anthropic.tools import Names
from spanledger.wires.anthropic.turns import NOTHING, Block
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, among

_NOT_IN_TOOL_ID = re.compile(r"[^a-zA-Z0-9_-]")
_NATIVE = frozenset({"image", "document", "search_result", "thinking", "redacted_thinking"})
"""Anthropic's own blocks, which a caller may put into content; they pass untouched."""
_IMAGE_TYPES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""The image formats it accepts, each with its first bytes."""


def to_conversation(
    messages: Any, names: Names, changed: list[str]
) -> tuple[list[Block], list[Block]]:
    """System blocks and turns; "messages" is added to `changed` if any had to change.

    Raises:
        ProviderError: `invalid_request`, saying which message cannot be expressed and why.
    """
    if not isinstance(messages, list):
        raise invalid("'messages' must be an array", param="messages")
    reader = _Reader(names, changed)
    system: list[Block] = []
    turns: list[Block] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, dict):
            raise invalid(f"{place} must be an object", param=place)
        role = message.get("role")
        if role in ("system", "developer"):
            system += _marked(message, reader.texts(message.get("content"), place))
        elif role == "user":
            blocks = reader.user(message.get("content"), place)
            if not blocks and index == len(messages) - 1:
                blocks = [{"type": "text", "text": NOTHING}]
            _append(turns, "user", _marked(message, blocks))
        elif role == "assistant":
            _append(turns, "assistant", _marked(message, reader.assistant(message, place)))
        elif role == "tool":
            _append(turns, "user", [reader.tool_result(message, place)])
        else:
            raise invalid(f"{place}: this model has no role {role!r}", param=place)
    if not turns:
        raise invalid("this model needs a message of role user", param="messages")
    return system, turns


def _append(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _marked(message: Block, blocks: list[Block]) -> list[Block]:
    """A `cache_control` on the message marks its last block."""
    if blocks and (cache := message.get("cache_control")):
        blocks[-1].setdefault("cache_control", cache)
    return blocks


def _parts(content: Any, place: str) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return content
    raise invalid(f"{place}.content must be a string or an array of parts", param=place)


class _Reader:
    """Reads the content of one request's messages."""

    def __init__(self, names: Names, changed: list[str]) -> None:
        self._names = names
        self._changed = changed

    def texts(self, content: Any, place: str) -> list[Block]:
        """Content of text alone."""
        blocks: list[Block] = []
        for part in _parts(content, place):
            if part.get("type") != "text":
                raise invalid(f"{place} may hold text only", param=place)
            blocks += self._text(part, place)
        return blocks

    def user(self, content: Any, place: str) -> list[Block]:
        """Content of a user's message or of a tool's result."""
        blocks: list[Block] = []
        for part in _parts(content, place):
            kind = part.get("type")
            if kind == "text":
                blocks += self._text(part, place)
            elif among(kind, _NATIVE):
                blocks.append(part)
            elif kind in ("image_url", "file"):
                block = self._image(part, place) if kind == "image_url" else _document(part, place)
                if cache := part.get("cache_control"):
                    block["cache_control"] = cache
                blocks.append(block)
            else:
                raise invalid(f"{place}: this model takes no content of type {kind!r}", param=place)
        return blocks

    def assistant(self, message: Block, place: str) -> list[Block]:
        """An assistant's message with its thinking and its tool calls."""
        blocks = self._thinking(message.get("thinking_blocks"))
        for part in _parts(message.get("content"), place):
            kind = part.get("type")
            if kind in ("text", "refusal"):
                blocks += self._text(part, place, kind)
            elif among(kind, _NATIVE):
                blocks.append(part)
            else:
                raise invalid(f"{place}: this model takes no content of type {kind!r}", param=place)
        if message.get("function_call"):
            raise invalid(f"{place}: this model has no function_call; use tool_calls", param=place)
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise invalid(f"{place}.tool_calls must be an array", param=place)
        return blocks + [self._tool_use(call, place) for call in calls]

    def tool_result(self, message: Block, place: str) -> Block:
        """A tool's result."""
        block: Block = {
            "type": "tool_result",
            "tool_use_id": _tool_id(message.get("tool_call_id"), place),
        }
        content = message.get("content")
        if isinstance(content, str):
            block["content"] = content
        elif blocks := self.user(content, place):
            block["content"] = blocks
        if cache := message.get("cache_control"):
            block["cache_control"] = cache
        return block

    def _text(self, part: Block, place: str, key: str = "text") -> list[Block]:
        text = part.get(key)
        if not isinstance(text, str):
            raise invalid(f"{place}: a part of type {key!r} needs {key!r}", param=place)
        if not text or text.isspace():
            if text:
                self._changed.append("messages")
            return []
        block: Block = {"type": "text", "text": text}
        if cache := part.get("cache_control"):
            block["cache_control"] = cache
        return [block]

    def _thinking(self, given: Any) -> list[Block]:
        """Signed thinking must come back first, exactly as Anthropic sent it. Another provider's thinking
        has no such signature and is left out."""
        blocks = given if isinstance(given, list) else []
        kept = [
            block
            for block in blocks
            if isinstance(block, dict)
            and (block.get("signature") or block.get("type") == "redacted_thinking")
        ]
        if len(kept) < len(blocks):
            self._changed.append("messages")
        return kept

    def _tool_use(self, call: Any, place: str) -> Block:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise invalid(f"{place}: each of tool_calls needs function.name", param=place)
        arguments = function.get("arguments") or "{}"
        if isinstance(arguments, str):
            try:
                arguments = msgspec.json.decode(arguments if arguments.strip() else "{}")
            except DECODE_ERRORS:
                arguments = None
        if not isinstance(arguments, dict):
            raise invalid(f"{place}: function.arguments must be a JSON object", param=place)
        return {
            "type": "tool_use",
            "id": _tool_id(call.get("id"), place),
            "name": self._names.sent(function["name"]),
            "input": arguments,
        }

    def _image(self, part: Block, place: str) -> Block:
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if not isinstance(url, str):
            raise invalid(f"{place}: image_url needs a url", param=place)
        if url.startswith("data:"):
            declared, data = _data_url(url, place)
            media_type = _image_type(data) or declared
            if media_type not in _IMAGE_TYPES:
                wanted = ", ".join(_IMAGE_TYPES)
                raise invalid(f"{place}: this model takes images of {wanted}", param=place)
            if media_type != declared:
                self._changed.append("messages")
            source = {"type": "base64", "media_type": media_type, "data": data}
        elif url.startswith("https://"):
            source = {"type": "url", "url": url}
        else:
            raise invalid(f"{place}: image_url takes https and data URLs", param=place)
        return {"type": "image", "source": source}


def _tool_id(value: Any, place: str) -> str:
    """Ids of another provider may have characters that Anthropic refuses."""
    if not isinstance(value, str) or not value:
        raise invalid(f"{place}: a tool call needs its id", param=place)
    return _NOT_IN_TOOL_ID.sub("_", value)


def _image_type(data: str) -> str:
    """The media type of an image by its first bytes; empty for other formats."""
    try:
        start = base64.b64decode(data[:32], validate=True)
    except binascii.Error:
        return ""
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for kind, mark in _IMAGE_TYPES.items() if start.startswith(mark)), "")


def _document(part: Block, place: str) -> Block:
    file = part.get("file")
    if not isinstance(file, dict):
        raise invalid(f"{place}: a part of type 'file' needs 'file'", param=place)
    source: Block
    if isinstance(file.get("file_id"), str):
        source = {"type": "file", "file_id": file["file_id"]}
    elif isinstance(data := file.get("file_data"), str):
        source = _document_source(data, place)
    else:
        raise invalid(f"{place}: file needs file_data or file_id", param=place)
    block: Block = {"type": "document", "source": source}
    if isinstance(name := file.get("filename"), str) and name:
        block["title"] = name
    return block


def _document_source(data: str, place: str) -> Block:
    media_type = "application/pdf"
    if data.startswith("data:"):
        media_type, data = _data_url(data, place)
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if media_type == "text/plain":
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise invalid(f"{place}: file_data is not base64 of UTF-8 text", param=place) from None
        return {"type": "text", "media_type": media_type, "data": text}
    raise invalid(f"{place}: this model takes PDF and plain text files", param=place)


def _data_url(url: str, place: str) -> tuple[str, str]:
    """Media type and base64 of a data URL."""
    head, comma, data = url.partition(",")
    media_type, *parameters = head.removeprefix("data:").lower().split(";")
    if not comma or "base64" not in parameters or "/" not in media_type:
        raise invalid(
            f"{place}: write a data URL as data:<type>/<subtype>;base64,<data>", param=place
        )
    return ("image/jpeg" if media_type == "image/jpg" else media_type), data
