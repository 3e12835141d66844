"""Chat completions and their chunks as a response and its events.

Both are written the same way: a complete answer is one large chunk, whose events nobody needs. The
order of the output is that of the pieces: reasoning, text, calls. Calls end with the answer, as their
arguments may come by turns.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from spanledger.pricing.usage import Usage
from spanledger.wires.base import Answer, Frame, Reader, Seen, Server
from spanledger.wires.fields import DECODE_ERRORS
from spanledger.wires.over_chat import OverChat
from spanledger.wires.responses_as_chat.mistakes import Item, items_in, text_of
from spanledger.wires.responses_as_chat.pieces import CallPiece, Events, Speech, Thought
from spanledger.wires.responses_as_chat.shapes import (
    Echo,
    citations,
    finish,
    item_status,
    key_of,
    logprobs_of,
    new_response,
)


def response_of(server: Server, echo: Echo, answer: Answer, seen: Seen) -> Answer:
    """A complete answer as a response."""
    completion = msgspec.json.decode(answer.body)
    writer = Writer(server, echo, seen)
    writer.start(answer.response_id, answer.response_model)
    choice = completion["choices"][0]
    writer.add(choice.get("message") or {}, choice.get("logprobs"))
    writer.end(text_of(choice.get("finish_reason")), answer.usage, answer.service)
    return replace(answer, body=msgspec.json.encode(writer.response))


def whole_frame(answer: Answer) -> Frame:
    """A complete answer of this wire, as all events of a stream at once."""
    return Frame(
        data=_events_of(msgspec.json.decode(answer.body)),
        content=True,
        closes=True,
        output_bytes=answer.output_bytes,
        usage=answer.usage,
        response_id=answer.response_id,
        response_model=answer.response_model,
        finish_reason=answer.finish_reasons[0] if answer.finish_reasons else "",
        provider_request_id=answer.provider_request_id,
        service=answer.service,
    )


class Writer:
    """Writes one response, piece by piece, and the events of it.

    Attributes:
        response: what it is so far.
    """

    def __init__(self, server: Server, echo: Echo, seen: Seen) -> None:
        self.response: Item = {}
        self._server = server
        self._echo = echo
        self._seen = seen
        self._events = Events()
        self._key = ""
        self._open: Thought | Speech | None = None
        self._pieces: list[Thought | Speech | CallPiece] = []
        self._calls: dict[int, CallPiece] = {}
        self._nameless: dict[int, Item] = {}

    def start(self, chat_id: str, model: str) -> bytes:
        """The events that it begins with; nothing where it has begun."""
        if self.response:
            return b""
        key = self._key = key_of(self._seen, chat_id)
        self.response = new_response(self._echo, self._server, key, model, self._seen.created)
        data = {"response": self.response}
        return b"".join(
            self._events.write(f"response.{kind}", data) for kind in ("created", "in_progress")
        )

    def add(self, said: Item, logprobs: Any = None) -> bytes:
        """The events for a message, or a piece of one."""
        data = b""
        thought = _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
        if thought:
            piece, opened = self._thinking()
            data += opened + piece.add(thought)
        if text := _text(said.get("content")):
            message, opened = self._speaking()
            data += opened + message.add(text, logprobs_of(logprobs))
        if refusal := _text(said.get("refusal")):
            message, opened = self._speaking()
            data += opened + message.refuse(refusal)
        if sources := citations(said.get("annotations")):
            message, opened = self._speaking()
            data += opened + message.cite(sources)
        for position, call in enumerate(items_in(said.get("tool_calls"))):
            data += self._called(position, call)
        return data

    def end(self, finish_reason: str, usage: Usage | None, service: str) -> bytes:
        """The events that it ends with."""
        data = b"".join(self._named(n, {}, end=True) for n in sorted(self._nameless))
        if not self._pieces:
            data += self._speaking()[1]
        status = item_status(finish_reason)
        last = self._pieces[-1]
        data += self._closed(status if self._open is last else "completed")
        for piece in self._pieces:
            if isinstance(piece, CallPiece):
                data += piece.closed(status if piece is last else "completed")
        self.response["output"] = [piece.item for piece in self._pieces]
        finish(self.response, finish_reason, usage, service)
        kind = f"response.{self.response['status']}"
        return data + self._events.write(kind, {"response": self.response})

    def _thinking(self) -> tuple[Thought, bytes]:
        """The reasoning that is open, and the events that it took to open it."""
        if isinstance(self._open, Thought):
            return self._open, b""
        data = self._closed("completed")
        piece = self._open = Thought(self._events, len(self._pieces), self._key)
        self._pieces.append(piece)
        return piece, data + piece.opened()

    def _speaking(self) -> tuple[Speech, bytes]:
        """The message that is open, and the events that it took to open it."""
        if isinstance(self._open, Speech):
            return self._open, b""
        data = self._closed("completed")
        piece = self._open = Speech(self._events, len(self._pieces), self._key)
        self._pieces.append(piece)
        return piece, data + piece.opened()

    def _closed(self, status: str) -> bytes:
        piece, self._open = self._open, None
        return b"" if piece is None else piece.closed(status)

    def _called(self, position: int, call: Item) -> bytes:
        number = call.get("index")
        number = number if isinstance(number, int) else position
        there = self._calls.get(number)
        call_id = text_of(call.get("id"))
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        # Some servers number all calls of an answer 0, each with an id of its own.
        other = there is not None and call_id not in ("", there.call_id) and function.get("name")
        if there is None or other:
            return self._named(number, call)
        arguments = _arguments(function)
        return there.add(arguments) if arguments else b""

    def _named(self, number: int, call: Item, *, end: bool = False) -> bytes:
        """Open a call once its name has come."""
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        before = self._nameless.pop(number, {})
        call_id = text_of(call.get("id")) or text_of(before.get("id"))
        arguments = text_of(before.get("arguments")) + _arguments(function)
        name = text_of(function.get("name"))
        if not name and not end:
            self._nameless[number] = {"id": call_id, "arguments": arguments}
            return b""
        data = self._closed("completed")
        tool = self._echo.box.called(name)
        piece = CallPiece(self._events, len(self._pieces), self._key, tool, call_id)
        self._pieces.append(piece)
        self._calls[number] = piece
        data += piece.opened()
        return data + (piece.add(arguments) if arguments else b"")


class ResponseEvents(OverChat):
    """Turns one stream of chunks into the events of a response.

    An event that has nothing for the caller is marked as usage alone, which no caller asks for here.
    """

    def __init__(self, chunks: Reader, server: Server, echo: Echo, seen: Seen) -> None:
        super().__init__(chunks)
        self._writer = Writer(server, echo, seen)
        self._finish = ""
        self._service = ""

    def _events(self, frame: Frame) -> bytes:
        self._finish = frame.finish_reason or self._finish
        self._service = frame.service or self._service
        if frame.usage_only:
            return b""
        data = self._writer.start(frame.response_id, frame.response_model)
        for delta, logprobs in _deltas(frame.data):
            data += self._writer.add(delta, logprobs)
        return data

    def last(self) -> Frame | None:
        """The end of all items, and the response with its usage, which comes last in a chat."""
        rest = self._chunks.last()
        if rest is not None and rest.usage is not None:
            self._usage = rest.usage
        data = self._writer.start("", "")
        data += self._writer.end(self._finish, self._usage, self._service)
        return Frame(data, usage=None if rest is None else rest.usage, closes=True)


def _events_of(response: Item) -> bytes:
    """A complete response as events, each with all that it has."""
    events = Events()
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    begun |= {"incomplete_details": None, "completed_at": None}
    data = events.write("response.created", {"response": begun})
    data += events.write("response.in_progress", {"response": begun})
    for index, item in enumerate(response["output"]):
        data += _item_events(events, index, item)
    return data + events.write(f"response.{response['status']}", {"response": response})


def _item_events(events: Events, index: int, item: Item) -> bytes:
    key = item["id"]
    place = {"item_id": key, "output_index": index}
    if item["type"] == "reasoning":
        thought = Thought(events, index, "")
        thought.item["id"] = key
        text = "".join(part["text"] for part in item["summary"])
        return thought.opened() + thought.add(text) + thought.closed(item["status"])
    if item["type"] == "message":
        message = Speech(events, index, "")
        message.item["id"] = key
        data = message.opened()
        for part in item["content"]:
            if part["type"] == "refusal":
                data += message.refuse(part["refusal"])
                continue
            data += message.add(part["text"], part["logprobs"])
            data += message.cite(part["annotations"])
        return data + message.closed(item["status"])
    begun = {**item, "status": "in_progress"}
    text_field = {"function_call": "arguments", "custom_tool_call": "input"}.get(item["type"], "")
    if text_field:
        begun[text_field] = ""
    whole = {"output_index": index}
    data = events.write("response.output_item.added", {**whole, "item": begun})
    if text_field:
        kind = {"arguments": "function_call_arguments", "input": "custom_tool_call_input"}
        head = f"response.{kind[text_field]}"
        text = item[text_field]
        data += events.write(f"{head}.delta", {**place, "delta": text})
        name = {"name": item["name"]} if text_field == "arguments" else {}
        data += events.write(f"{head}.done", {**place, text_field: text, **name})
    return data + events.write("response.output_item.done", {**whole, "item": item})


def _deltas(data: bytes) -> list[tuple[Item, Any]]:
    """The pieces of a chunk that is known to be one, with their log probabilities."""
    try:
        chunk = msgspec.json.decode(data.removeprefix(b"data: "))
    except DECODE_ERRORS:
        return []
    choices = items_in(chunk.get("choices"))
    found = [(choice.get("delta"), choice.get("logprobs")) for choice in choices]
    return [(delta, logprobs) for delta, logprobs in found if isinstance(delta, dict)]


def _arguments(function: Item) -> str:
    return text_of(function.get("arguments"))


def _text(content: Any) -> str:
    """A text; some servers send it in parts."""
    if isinstance(content, str):
        return content
    return "".join(text_of(part.get("text")) for part in items_in(content))
