"""Google's contents as messages of a chat.

Calls need no ids at Google: a response without one belongs to the earliest call of its name that has
none yet. Results become messages of their own, before what else their content says.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from typing import Any

import msgspec

from spanledger.wires.failures import invalid
from spanledger.wires.gemini.spelling import GoogleItem, objects, pick

_AUDIO = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
}
"""Formats that a chat takes."""
_SEND = "{}: this model takes no {}; send {}"
_RAN = "{}: {!r} is of a tool that ran at Google, which this model has not; leave it out"
_OF_GOOGLES_TOOLS = (
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)


class Conversation:
    """Puts messages together, content by content.

    Attributes:
        messages: those so far.
    """

    def __init__(self, changed: list[str]) -> None:
        self.messages: list[GoogleItem] = []
        self._changed = changed
        self._waiting: dict[str, deque[str]] = {}
        self._called = 0

    def system(self, value: Any) -> None:
        """Add the instruction, which is text."""
        if value is None:
            return
        if isinstance(value, str):
            self.messages.append({"role": "system", "content": value})
            return
        texts = [
            _text(part, "systemInstruction")
            for content in objects(value)
            for part in objects(content.get("parts"))
        ]
        if texts:
            self.messages.append({"role": "system", "content": _plain(texts)})

    def add(self, content: Any, place: str) -> None:
        """Add the next content. Raises ProviderError where it has no counterpart."""
        role = content.get("role") if isinstance(content, dict) else None
        parts = content.get("parts") if isinstance(content, dict) else None
        if role not in (None, "", "user", "model", "function"):
            raise invalid(f"{place} must have the role user or model", param=place)
        if not isinstance(parts, list | dict):
            raise invalid(f"{place} needs its parts", param=place)
        if role == "model":
            self._model(objects(parts), place)
        else:
            self._user(objects(parts), place)

    def _model(self, parts: list[GoogleItem], place: str) -> None:
        texts: list[GoogleItem] = []
        calls: list[GoogleItem] = []
        for part in parts:
            if part.get("thought") is True:
                self._changed.append("contents")
                continue
            if pick(part, "thoughtSignature") is not None:
                self._changed.append("contents")
            call = pick(part, "functionCall")
            if isinstance(call, dict):
                calls.append(self._call(call, place))
            elif isinstance(part.get("text"), str):
                if part["text"]:
                    texts.append(_text(part, place))
            elif part.keys() - {"thoughtSignature", "thought_signature"}:
                texts += self._part(part, place)
        if any(part["type"] != "text" for part in texts):
            raise invalid(_SEND.format(place, "images of the model", "its text"), param=place)
        if texts or calls:
            message: GoogleItem = {"role": "assistant", "content": _plain(texts) if texts else None}
            self.messages.append({**message, "tool_calls": calls} if calls else message)

    def _call(self, call: GoogleItem, place: str) -> GoogleItem:
        name = call.get("name")
        if not isinstance(name, str) or not name:
            raise invalid(f"{place}: a functionCall needs its name", param=place)
        unique = call.get("id")
        if not isinstance(unique, str) or not unique:
            unique = f"call_{self._called}"
        self._called += 1
        self._waiting.setdefault(name, deque()).append(unique)
        arguments = msgspec.json.encode(call.get("args") or {}).decode()
        function = {"name": name, "arguments": arguments}
        return {"id": unique, "type": "function", "function": function}

    def _user(self, parts: list[GoogleItem], place: str) -> None:
        made: list[GoogleItem] = []
        for part in parts:
            result = pick(part, "functionResponse")
            if isinstance(result, dict):
                message, more = self._result(result, place)
                self.messages.append(message)
                made += more
            else:
                made += self._part(part, place)
        if made:
            self.messages.append({"role": "user", "content": _plain(made)})

    def _result(self, result: GoogleItem, place: str) -> tuple[GoogleItem, list[GoogleItem]]:
        name, unique = result.get("name"), result.get("id")
        waiting = self._waiting.get(name, deque()) if isinstance(name, str) else deque()
        if isinstance(unique, str) and unique:
            if unique in waiting:
                waiting.remove(unique)
        elif waiting:
            unique = waiting.popleft()
        else:
            raise invalid(
                f"{place}: no functionCall before it has the name {str(name)[:64]!r}; send the call"
                " as well",
                param=place,
            )
        said = result.get("response")
        text = said if isinstance(said, str) else msgspec.json.encode(said or {}).decode()
        more = [made for one in objects(result.get("parts")) for made in self._part(one, place)]
        return {"role": "tool", "tool_call_id": unique, "content": text}, more

    def _part(self, part: GoogleItem, place: str) -> list[GoogleItem]:
        if isinstance(part.get("text"), str):
            return [_text(part, place)] if part["text"] else []
        blob, file = pick(part, "inlineData"), pick(part, "fileData")
        if isinstance(blob, dict):
            return [_inline(blob, place)]
        if isinstance(file, dict):
            return [_linked(file, place)]
        for name in _OF_GOOGLES_TOOLS:
            if pick(part, name) is not None:
                raise invalid(_RAN.format(place, name), param=place)
        raise invalid(f"{place}: this model takes no part of {sorted(part)[:4]}", param=place)


def _text(part: GoogleItem, place: str) -> GoogleItem:
    text = part.get("text")
    if not isinstance(text, str):
        raise invalid(f"{place} may hold text only", param=place)
    return {"type": "text", "text": text}


def _plain(parts: list[GoogleItem]) -> str | list[GoogleItem]:
    """A single text as a string, which every server takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _inline(blob: GoogleItem, place: str) -> GoogleItem:
    kind, data = pick(blob, "mimeType"), blob.get("data")
    if not isinstance(kind, str) or not isinstance(data, str):
        raise invalid(f"{place}: inlineData needs its mimeType and its data", param=place)
    kind = kind.lower()
    # Google's servers take the alphabet of URLs as well; in a data: URL it is not allowed.
    data = data.replace("-", "+").replace("_", "/")
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    if kind in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[kind]}}
    if kind == "application/pdf":
        name = pick(blob, "displayName")
        named = name if isinstance(name, str) and name else "document.pdf"
        file = {"filename": named, "file_data": f"data:{kind};base64,{data}"}
        return {"type": "file", "file": file}
    if kind.startswith("text/"):
        try:
            return {"type": "text", "text": base64.b64decode(data + "==").decode()}
        except (binascii.Error, UnicodeDecodeError):
            raise invalid(f"{place}: its data is not text in base64", param=place) from None
    raise invalid(_SEND.format(place, f"{kind[:64]!r}", "text, images, PDF or wav"), param=place)


def _linked(file: GoogleItem, place: str) -> GoogleItem:
    uri, kind = pick(file, "fileUri"), pick(file, "mimeType")
    kind = kind.lower() if isinstance(kind, str) else ""
    web = isinstance(uri, str) and uri.startswith(("https://", "http://"))
    if web and kind.startswith("image/") and "generativelanguage.googleapis.com" not in uri:
        return {"type": "image_url", "image_url": {"url": uri}}
    raise invalid(_SEND.format(place, "files of Google", "the data in inlineData"), param=place)
