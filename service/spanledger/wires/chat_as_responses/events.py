"""The events of a response as the chunks of a chat completion.

A response's last event has all of it once more. From there comes what some servers do not stream.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanledger.errors import ProviderError
from spanledger.pricing.searches import with_searches
from spanledger.pricing.usage import Usage
from spanledger.wires.base import Frame, Seen, Server
from spanledger.wires.chat_as_responses.answer import (
    BETWEEN,
    annotation_of,
    call_of,
    created_of,
    failed,
    finish_reason,
    is_call,
    logprobs_of,
    message_of,
    reasoning_items,
    usage_of,
    usage_shown,
)
from spanledger.wires.chat_as_responses.items import JsonObject
from spanledger.wires.error_forms import read_error_event
from spanledger.wires.failures import malformed, refusal, unreadable
from spanledger.wires.fields import DECODE_ERRORS, text_bytes
from spanledger.wires.sse import ErrorPayload, encode_event

_NO_EVENT = "an event is not in the Responses API's format"
_TEXTS = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
}
_ARGUMENTS = {
    "response.function_call_arguments.delta": ("function", "arguments"),
    "response.custom_tool_call_input.delta": ("custom", "input"),
}
_ENCODER = msgspec.json.Encoder()


class ResponseChunks:
    """Reads one stream.

    Attributes:
        ended: the last event has come.
        began: content has come.
    """

    def __init__(self, server: Server, seen: Seen) -> None:
        self.ended = self.began = False
        self._server = server
        self._seen = seen
        self._usage: Usage | None = None
        self._calls: dict[Any, int] = {}
        """The number of a call in chat, by the place of its item."""
        self._argued: set[Any] = set()
        self._wrote: dict[str, tuple[Any, Any]] = {}
        """Where each text was last written."""
        self._length = 0
        self._starts: dict[tuple[Any, Any], int] = {}
        """How much text came before each part of it."""
        self._service = ""
        self._head: JsonObject = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": seen.created,
            "model": server.model,
        }

    def read(self, payload: bytes) -> Frame | None:
        """The chunk for an event; None for one that the caller does not need.

        Raises:
            ProviderError: it is not an event of this API, or it is an error.
        """
        event = self._decoded(payload)
        kind = str(event.get("type"))
        if (field := _TEXTS.get(kind)) is not None:
            return self._text(field, event)
        if kind in _ARGUMENTS:
            return self._arguments(event, *_ARGUMENTS[kind])
        match kind:
            case "response.created":
                return self._start(_object(event.get("response")))
            case "response.output_item.added":
                return self._added(event)
            case "response.output_item.done":
                return self._item_done(event)
            case "response.output_text.annotation.added":
                return self._annotated(event)
            case "response.completed" | "response.incomplete":
                return self._finish(_object(event.get("response")), payload)
            case "response.failed" | "response.cancelled":
                raise failed(self._server, _object(event.get("response")), began=self.began)
        if kind == "error" or type(payload) is ErrorPayload or event.get("error"):
            billed = "unknown" if self.began else "no"
            raise refusal(self._server, None, read_error_event(payload), billed=billed)
        return None

    def rest(self, _tail: bytes) -> list[bytes] | None:
        """A connection that closed before the last event broke off."""
        return [] if self.ended else None

    def survives(self, _error: ProviderError) -> bool:
        """Whether nothing is missing."""
        return self.ended

    def last(self) -> Frame | None:
        """The chunk with the usage."""
        if self._usage is None:
            return None
        frame = self._frame({**self._head, "choices": [], "usage": usage_shown(self._usage)})
        frame.usage = self._usage
        frame.usage_only = True
        return frame

    # events -------------------------------------------------------------------------------

    def _start(self, response: JsonObject) -> Frame:
        self._read_head(response)
        return self._chunk({"role": "assistant", "content": ""})

    def _text(self, field: str, event: JsonObject) -> Frame | None:
        text = event.get("delta")
        if not isinstance(text, str) or not text:
            return None
        place = (event.get("output_index"), event.get("summary_index", 0))
        if self._wrote.setdefault(field, place) != place:
            self._wrote[field] = place
            text = BETWEEN + text
        if field == "content":
            part = (event.get("output_index"), event.get("content_index"))
            before = len(text) - len(event["delta"])
            self._starts.setdefault(part, self._length + before)
            self._length += len(text)
        return self._chunk({field: text}, text=text, logprobs=logprobs_of(event.get("logprobs")))

    def _annotated(self, event: JsonObject) -> Frame | None:
        part = (event.get("output_index"), event.get("content_index"))
        found = annotation_of(event.get("annotation"), self._starts.get(part, 0))
        return self._chunk({"annotations": found}) if found else None

    def _added(self, event: JsonObject) -> Frame | None:
        item, place = _object(event.get("item")), event.get("output_index")
        if not is_call(item) or place in self._calls:
            return None
        number = self._calls[place] = len(self._calls)
        call = call_of(item)
        written = "".join(str(v) for n, v in call[call["type"]].items() if n != "name")
        if written:
            self._argued.add(place)
        return self._chunk({"tool_calls": [{"index": number, **call}]}, text=written, content=True)

    def _arguments(self, event: JsonObject, kind: str, field: str) -> Frame | None:
        text, place = event.get("delta"), event.get("output_index")
        if not isinstance(text, str) or not text or place not in self._calls:
            return None
        self._argued.add(place)
        return self._more(place, kind, field, text)

    def _more(self, place: Any, kind: str, field: str, text: str) -> Frame:
        call = {"index": self._calls[place], kind: {field: text}}
        return self._chunk({"tool_calls": [call]}, text=text, content=True)

    def _item_done(self, event: JsonObject) -> Frame | None:
        """An item is complete: what was not streamed of it is in here."""
        item, place = _object(event.get("item")), event.get("output_index")
        if is_call(item):
            if place not in self._calls:
                return self._added(event)
            call = call_of(item)
            kind: str = call["type"]
            for field, text in call[kind].items():
                if field != "name" and text and place not in self._argued:
                    return self._more(place, kind, field, text)
            return None
        if item.get("type") == "reasoning" and (kept := reasoning_items(self._server, item)):
            return self._chunk({"reasoning_items": kept})
        return None

    def _finish(self, response: JsonObject, payload: bytes) -> Frame:
        self.ended = True
        self._read_head(response)
        delta, text = self._unsaid(response)
        reason = finish_reason(response, called=bool(self._calls or delta.get("tool_calls")))
        self._usage = with_searches(usage_of(response), payload)
        frame = self._chunk(delta, text=text, content=bool(text), finish=reason)
        frame.finish_reason = reason
        # `last` says it once more, for callers who asked for it.
        frame.usage = self._usage
        return frame

    def _unsaid(self, response: JsonObject) -> tuple[JsonObject, str]:
        """The answer, where nothing of it was streamed."""
        output = response.get("output")
        if self.began or not isinstance(output, list):
            return {}, ""
        said, _ = message_of(self._server, output)
        calls = said.pop("tool_calls", [])
        if calls:
            said["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        text = "".join(str(said.get(name) or "") for name in set(_TEXTS.values()))
        text += "".join(_ENCODER.encode(call).decode() for call in calls)
        return ({n: v for n, v in said.items() if v} if text else {}), text

    # frames -------------------------------------------------------------------------------

    def _decoded(self, payload: bytes) -> JsonObject:
        try:
            event = msgspec.json.decode(payload)
        except DECODE_ERRORS:
            event = None
        if isinstance(event, dict) and (event.get("type") or event.get("error")):
            return event
        error = unreadable(self._server, payload, _NO_EVENT)
        if self.began:
            error.billed = "unknown"
        raise error

    def _read_head(self, response: JsonObject) -> None:
        if not response:
            raise malformed(self._server, _NO_EVENT)
        self._head["id"] = response.get("id") or self._head["id"]
        self._head["model"] = response.get("model") or self._head["model"]
        self._head["created"] = created_of(response, self._seen)
        service = response.get("service_tier")
        if isinstance(service, str) and service != "auto":
            self._service = self._head["service_tier"] = service

    def _chunk(
        self,
        delta: JsonObject,
        *,
        text: str = "",
        content: bool = False,
        logprobs: JsonObject | None = None,
        finish: str | None = None,
    ) -> Frame:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        frame = self._frame({**self._head, "choices": [choice]})
        frame.content = content or bool(text)
        frame.output_bytes = text_bytes(text)
        self.began = self.began or frame.content
        return frame

    def _frame(self, data: JsonObject) -> Frame:
        return Frame(
            data=encode_event(_ENCODER.encode(data)),
            response_id=str(self._head["id"]),
            response_model=str(self._head["model"]),
            provider_request_id=self._seen.request_id,
            service=self._service,
        )


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
