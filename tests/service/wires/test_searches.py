"""Which web searches of an answer are billed one by one, in every wire that shows them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from spanledger.pricing.searches import queries_billed, searches_in
from spanledger.pricing.usage import Usage
from spanledger.providers.base import Call, Deployment
from spanledger.wires import GENERATE, INBOUND, LATE, OUTBOUND
from spanledger.wires.base import Answer, Frame, Habits, Reader, Seen
from spanledger.wires.batch import read_result
from spanledger.wires.failures import reported_by
from spanledger.wires.meter import Meter

SEEN = Seen("theirs", 1, "req_0123456789abcdef01234567")
SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
WIRES = {wire.name: wire for wire in (*INBOUND.values(), GENERATE)}
CITED = [{"type": "url_citation", "url_citation": {"url": "https://e.org", "title": "E"}}]
CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


def response(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer of the Responses API with these items before its text."""
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "A"}],
    }
    usage = {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16}
    return {"id": "r", "status": "completed", "output": [*items, said], "usage": usage, **more}


def completion(message: str = "message", usage: Any = CHAT_USAGE, **said: Any) -> dict[str, Any]:
    """A chat completion, or a chunk of one."""
    choice = {"index": 0, message: {"content": "A", **said}, "finish_reason": "stop"}
    return {"id": "c", "model": "m", "choices": [choice], "usage": usage}


def sent(body: dict[str, Any]) -> bytes:
    """As a provider sends it."""
    return json.dumps(body).encode()


def called(spoken: str, asked: str, model: str = "gpt-4.1") -> tuple[Any, Any]:
    """A wire, and a request that it wrote."""
    wire = OUTBOUND[asked, spoken]
    server = Deployment("d", "r", "openai", "openai", model, f"p/{model}")
    hello = [{"role": "user", "content": "hi"}]
    fields = {"contents": [], "input": "hi", "messages": hello, "max_tokens": 9}
    names = {"chat": ["messages"], "messages": ["messages", "max_tokens"], "responses": ["input"]}
    inbound = WIRES[asked]
    raw = {
        name: msgspec.Raw(json.dumps(fields[name]).encode())
        for name in names.get(asked, ["contents"])
    }
    return wire, wire.request(Call(server, inbound, raw, 60), False, Habits())


def whole(spoken: str, asked: str, body: dict[str, Any], model: str = "gpt-4.1") -> Usage:
    """The usage of a complete answer."""
    wire, written = called(spoken, asked, model)
    answer: Answer = wire.answer(written, sent(body), SEEN)
    assert answer.usage is not None
    return answer.usage


def streamed(spoken: str, asked: str, events: list[Any], model: str = "gpt-4.1") -> Usage:
    """The usage of a stream, ended or not."""
    wire, written = called(spoken, asked, model)
    reader: Reader = wire.reader(written, SEEN)
    frames: list[Frame] = [frame for e in events if (frame := reader.read(sent(e))) is not None]
    usage = reported_by(frames)
    assert usage is not None
    return usage


@pytest.mark.parametrize(
    ("items", "more", "count"),
    [
        ([SEARCH, SEARCH], {}, 2),
        ([{"type": "web_search_call", "status": "completed"}], {}, 1),
        ([{**SEARCH, "action": {"type": "search", "queries": ["a", "b"]}}], {}, 1),
        ([{**SEARCH, "action": {"type": "open_page"}}], {}, 0),
        ([{**SEARCH, "action": {"type": "find_in_page"}}], {}, 0),
        ([{**SEARCH, "status": "failed"}], {}, 0),
        ([SEARCH, SEARCH], {"tool_usage": {"web_search": {"num_requests": 1}}}, 1),
        ([SEARCH], {"tool_usage": {"web_search": {"num_requests": None}}}, 1),
        ([SEARCH], {"tool_usage": ["web_search"]}, 1),
        ([{"type": "file_search_call"}], {"tools": [{"type": "web_search"}]}, 0),
    ],
)
def test_items_of_a_response(items: list[Any], more: dict[str, Any], count: int) -> None:
    """Searches are counted, pages that were opened and searches that failed are not; the provider's own
    count wins. So it is in a whole answer, in a stream, later, in a batch, and for a chat's caller."""
    body = response(*items, **more)
    last = {"type": "response.completed", "response": body}
    late = LATE["responses"](sent(body))
    line = read_result(sent({"response": {"status_code": 200, "body": body}}))
    passed = Meter("application/json", anthropic=False)
    passed.feed(sent(body))
    passed.end()

    assert late is not None
    for usage in (
        *(whole("responses", asked, body) for asked in ("responses", "chat", "messages")),
        *(streamed("responses", asked, [last]) for asked in ("responses", "chat")),
        *(late.usage, line.usage, passed.usage),
    ):
        assert usage is not None
        assert (usage.searches, usage.input_tokens, usage.output_tokens) == (count, 9, 7)


@pytest.mark.parametrize(
    "body", [b'{"output": "web_search"}', b'{"output": [web_search', b'["web_search_call"]']
)
def test_what_is_not_an_answer_has_no_searches(body: bytes) -> None:
    """Reading them never fails."""
    assert searches_in(body) == 0


def test_a_response_without_usage() -> None:
    """Its searches are known all the same, and its tokens are left to be counted."""
    usage = whole("responses", "responses", response(SEARCH, usage=None))
    assert (usage.searches, usage.ambiguity) == (1, "prompt_missing")


def test_a_stream_that_breaks() -> None:
    """Each search counts once it is done; the whole answer's count replaces the sum."""
    done = {"type": "response.output_item.done", "item": SEARCH}
    assert streamed("responses", "responses", [done, done]).searches == 2
    last = {"type": "response.completed", "response": response(SEARCH, SEARCH)}
    usage = streamed("responses", "responses", [done, done, last])
    assert (usage.searches, usage.input_tokens, usage.ambiguity) == (2, 9, "")


def test_a_chat_that_cites_pages() -> None:
    """One search is charged, because chats do not say how many there were."""
    assert whole("chat", "chat", completion(annotations=CITED)).searches == 1
    assert whole("chat", "chat", completion(annotations=[])).searches == 0
    told = {**CHAT_USAGE, "server_tool_use": {"web_search_requests": 3}}
    assert whole("chat", "chat", completion(annotations=CITED, usage=told)).searches == 3
    cited = completion("delta", None, annotations=CITED)
    counted = {**completion(), "choices": []}
    usage = streamed("chat", "chat", [cited, counted])
    assert (usage.searches, usage.input_tokens, usage.ambiguity) == (1, 9, "")


def test_xai_counts_in_its_usage() -> None:
    """xAI's count of calls is read, and wins over the items."""
    told = {**CHAT_USAGE, "server_side_tool_usage_details": {"web_search_calls": 2}}
    assert whole("chat", "chat", completion(usage=told)).searches == 2


@pytest.mark.parametrize(
    ("model", "count"), [("gemini-3.1-pro-preview", 2), ("gemini-2.5-flash", 1)]
)
def test_google_names_its_queries(model: str, count: int) -> None:
    """Up to Gemini 2.5, a prompt with searches is one; later, each query is, however often named."""
    queries = ["a", "b", "", "a"]
    assert queries_billed(set(queries), model) == count

    def event(**more: Any) -> dict[str, Any]:
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 7, "totalTokenCount": 16}
        candidate = {"content": {"parts": [{"text": "A"}]}, **more}
        return {"candidates": [candidate], "usageMetadata": usage}

    asked = "generate_content"
    grounded = {"groundingMetadata": {"webSearchQueries": queries}}
    end = {"finishReason": "STOP"}
    assert whole(asked, asked, event(**grounded, **end), model).searches == count
    assert whole(asked, asked, event(groundingMetadata="?", **end), model).searches == 0
    events = [event(**grounded), event(), event(**grounded, **end)]
    assert streamed(asked, asked, events, model).searches == count
