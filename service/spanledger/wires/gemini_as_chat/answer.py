"""Chat completions and their chunks as answers of `generateContent`.

Reasoning is left out: a caller would send it back, and Google refuses thoughts that it did not sign. It
is counted and charged all the same. A call is shown once it is complete, as Google's are.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from spanledger.wires.base import Answer, Frame, Reader, Server
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.gemini.finish import shown_finish
from spanledger.wires.gemini.spelling import GoogleItem, objects
from spanledger.wires.gemini.usage import shown
from spanledger.wires.over_chat import OverChat
from spanledger.wires.sse import encode_event

MAX_CALLS = 1024
"""Calls of a stream that are followed."""


def generated_of(server: Server, answer: Answer) -> Answer:
    """A complete answer, of all choices."""
    completion = msgspec.json.decode(answer.body)
    candidates = [_candidate(n, choice) for n, choice in enumerate(objects(completion["choices"]))]
    body = _body(server, answer.response_id, answer.response_model, candidates)
    body["usageMetadata"] = shown(answer.usage)
    return replace(answer, body=msgspec.json.encode(body))


def _candidate(number: int, choice: GoogleItem) -> GoogleItem:
    said = choice.get("message")
    said = said if isinstance(said, dict) else {}
    parts: list[GoogleItem] = []
    if text := _text(said.get("content")) + _text(said.get("refusal")):
        parts.append({"text": text})
    for call in objects(said.get("tool_calls")):
        pieces = _Call()
        pieces.add(call)
        parts += pieces.part()
    return _said(choice.get("index", number), parts, choice.get("finish_reason"))


def _said(index: Any, parts: list[GoogleItem], finish: Any = None) -> GoogleItem:
    found: GoogleItem = {"content": {"parts": parts, "role": "model"}}
    if finish is not None:
        found["finishReason"] = shown_finish(finish)
    return {**found, "index": index}


def _body(server: Server, response_id: str, model: str, candidates: list[GoogleItem]) -> GoogleItem:
    made: GoogleItem = {"candidates": candidates, "modelVersion": model or server.model}
    return {**made, "responseId": response_id} if response_id else made


class _Call:
    """One call, as its pieces come."""

    def __init__(self) -> None:
        self.id = self.name = self.arguments = ""

    def add(self, call: GoogleItem) -> None:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        self.id = self.id or _text(call.get("id"))
        self.name = self.name or _text(function.get("name"))
        self.arguments += _text(function.get("arguments"))

    def part(self) -> list[GoogleItem]:
        """The call as a part; none where a cap cut it short."""
        try:
            value = msgspec.json.decode(self.arguments or "{}")
        except DECODE_ERRORS:
            return []
        call = {"name": self.name, "args": value if isinstance(value, dict) else {}}
        return [{"functionCall": {**call, "id": self.id} if self.id else call}]


class GeneratedEvents(OverChat):
    """Turns one stream of chunks into one of answers."""

    def __init__(self, chunks: Reader, server: Server) -> None:
        super().__init__(chunks)
        self._server = server
        self._response_id = self._model = ""
        self._ends: dict[int, str] = {}
        self._calls: dict[tuple[int, int], _Call] = {}

    def last(self) -> Frame | None:
        """The calls, the finish reasons and the usage, which chunks have in an order of their own."""
        rest = self._chunks.last()
        if rest is not None and rest.usage is not None:
            self._usage = rest.usage
        calls: dict[int, list[GoogleItem]] = {}
        for (choice, _), call in sorted(self._calls.items()):
            calls.setdefault(choice, []).extend(call.part())
        indexes = sorted({*self._ends, *calls} or {0})
        candidates = [
            _said(index, calls.get(index, []), self._ends.get(index, "stop")) for index in indexes
        ]
        body = _body(self._server, self._response_id, self._model, candidates)
        body["usageMetadata"] = shown(self._usage)
        usage = None if rest is None else rest.usage
        return Frame(encode_event(msgspec.json.encode(body)), usage=usage)

    def _events(self, frame: Frame) -> bytes:
        self._response_id = frame.response_id or self._response_id
        self._model = frame.response_model or self._model
        found: list[GoogleItem] = []
        for choice in _choices(frame.data):
            index = choice.get("index", 0)
            index = index if isinstance(index, int) else 0
            if isinstance(end := choice.get("finish_reason"), str):
                self._ends[index] = end
            delta = choice.get("delta")
            delta = delta if isinstance(delta, dict) else {}
            for position, call in enumerate(objects(delta.get("tool_calls"))):
                self._called(index, position, call)
            if text := _text(delta.get("content")) + _text(delta.get("refusal")):
                found.append(_said(index, [{"text": text}]))
        if not found:
            return b""
        body = _body(self._server, self._response_id, self._model, found)
        return encode_event(msgspec.json.encode(body))

    def _called(self, choice: int, position: int, call: GoogleItem) -> None:
        number = call.get("index")
        number = number if isinstance(number, int) else position
        known = self._calls.get((choice, number))
        unique = _text(call.get("id"))
        # Some servers number all calls of an answer 0, each with an id of its own.
        while known is not None and unique and known.id and unique != known.id:
            number += 1
            known = self._calls.get((choice, number))
        if known is None:
            if len(self._calls) >= MAX_CALLS:
                return
            known = self._calls[choice, number] = _Call()
        known.add(call)


def _choices(data: bytes) -> list[GoogleItem]:
    """The choices of a chunk that is known to be one."""
    try:
        chunk = msgspec.json.decode(data.removeprefix(b"data: "))
    except DECODE_ERRORS:
        return []
    return objects(chunk.get("choices")) if isinstance(chunk, dict) else []


def _text(content: Any) -> str:
    """A text; some servers send it in parts."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in objects(content)]
    return "".join(text for text in texts if isinstance(text, str))
