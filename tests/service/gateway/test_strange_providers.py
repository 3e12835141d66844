"""Providers with odd answers, seen by real clients through the gateway, and what they cost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from spanledger.config import parse_config

from .harness import import_litellm
from .test_clients import Running

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello, please."}]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
PRICES = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5}
GOOD_NANO = 10 * 1_000 + 5 * 10_000
STREAM, JSON = "text/event-stream", "application/json"
DONE = "data: [DONE]\n\n"


def completion(**choice: Any) -> dict[str, Any]:
    """A non-streamed answer; `choice` overrides an ordinary one."""
    message = {"role": "assistant", "content": "Hello."}
    first = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [first],
        "usage": USAGE,
    }


def chunk(finish: str | None = None, **delta: Any) -> str:
    """A stream event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return event({**data, "choices": [choice]})


def event(data: object) -> str:
    """An event with this JSON."""
    return f"data: {json.dumps(data)}\n\n"


COUNTED = event(
    {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": USAGE,
    }
)
HELLO_STREAM = chunk(role="assistant", content="") + chunk(content="Hello.") + chunk("stop")
B1 = {
    "object": "error",
    "message": "engine died",
    "type": "InternalServerError",
    "param": None,
    "code": 500,
}
B2 = {"id": "x", "choices": None, "error_type": "InternalServerError", "error_message": "boom"}
B3 = completion(
    finish_reason="error",
    message={"role": "assistant", "content": ""},
    error={"code": 502, "message": "upstream"},
) | {"usage": None}
B5 = {
    "index": 0,
    "id": "call_x",
    "type": "function",
    "function": {"name": "f", "arguments": {}},
}

ANSWERS: dict[str, tuple[str, str]] = {
    "good": (JSON, json.dumps(completion())),
    "good-stream": (STREAM, HELLO_STREAM + COUNTED + DONE),
    "b1": (STREAM, event(B1) + DONE),
    "b2": (STREAM, event(B2) + DONE),
    "b3": (JSON, json.dumps(B3)),
    "error-counted": (JSON, json.dumps(B3 | {"usage": USAGE})),
    "list": (JSON, '[{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}]'),
    "page": ("text/html", "<!doctype html><title>Welcome</title>"),
    "b4": (STREAM, HELLO_STREAM),
    "b5": (STREAM, chunk(tool_calls=[B5]) + chunk("tool_calls") + COUNTED + DONE),
    "a6-json": (JSON, json.dumps(completion())),
    "a6-stream": (STREAM, HELLO_STREAM + COUNTED + DONE),
    "b8": (STREAM, chunk(content="Hel") + event(B1)),
}


TOO_LONG: dict[str, dict[str, Any]] = {
    "copilot": {
        "error": {
            "message": "prompt token count of 125516 exceeds the limit of 64000",
            "code": "model_max_prompt_tokens_exceeded",
        }
    },
    "bedrock": {"message": "Input is too long for requested model."},
    "zhipu": {"error": {"code": "1261", "message": "Prompt exceeds max length"}},
}


class Provider(BaseHTTPRequestHandler):
    """Answers by the model's name; `b6` refuses `stream_options`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One answer."""
        size = int(self.headers["content-length"])
        body = json.loads(self.rfile.read(size))
        status, name = 200, body["model"]
        if name == "good" and body.get("stream"):
            name = "good-stream"
        kind, text = ANSWERS.get(name, (STREAM, HELLO_STREAM + DONE))
        if name == "b6" and "stream_options" in body:
            status, kind = 422, JSON
            text = '{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs"}]}'
        if name in TOO_LONG:
            status, kind, text = 400, JSON, json.dumps(TOO_LONG[name])
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@dataclass
class Gateway:
    """A gateway in front of the odd provider."""

    url: str
    ledger: Path

    def client(self) -> openai.OpenAI:
        """The real client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def attempts(self, request_id: str) -> list[tuple[Any, ...]]:
        """Error type, cost and whether it was estimated, for each attempt."""
        query = (
            "SELECT error_type, cost_nano, estimated FROM attempts"
            " WHERE request_id = ? ORDER BY number"
        )
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return list(connection.execute(query, (request_id,)))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A route for each answer; those that fail fall back to `good`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}/v1"
    ledger = tmp_path_factory.mktemp("strange") / "ledger.db"
    config = parse_config(
        {
            "model_list": [
                {
                    "model_name": name,
                    "litellm_params": {"model": f"openai/{name}", "api_base": base, **PRICES},
                    "model_info": {"id": name},
                }
                for name in (*ANSWERS, *TOO_LONG, "b6")
            ],
            "router_settings": {
                "num_retries": 0,
                "fallbacks": [{n: ["good"]} for n in ANSWERS if n not in ("good", "b8")],
                "context_window_fallbacks": [{n: ["good"]} for n in TOO_LONG],
            },
            "gateway": {"port": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )
    with Running(config) as url:
        yield Gateway(url, ledger)
    server.shutdown()
    server.server_close()
    thread.join()


def streamed(gateway: Gateway, route: str, **more: Any) -> tuple[str, list[Any]]:
    """The request's id and all chunks."""
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model=route, messages=HELLO, stream=True, **more
        )
        return str(raw.request_id), list(raw.parse())


@pytest.mark.parametrize("route", ["b1", "b2", "b3", "list", "page"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_under_200_falls_back_and_costs_nothing(
    gateway: Gateway, route: str, stream: bool
) -> None:
    """The caller gets the other route's answer; the failed attempt is free."""
    if stream:
        request_id, chunks = streamed(gateway, route)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    else:
        with gateway.client() as client:
            raw = client.chat.completions.with_raw_response.create(model=route, messages=HELLO)
        request_id, text = str(raw.request_id), raw.parse().choices[0].message.content or ""

    first, second = gateway.attempts(request_id)
    assert text == "Hello."
    assert first[0] in ("server_error", "overloaded", "malformed_response")
    assert (first[1], second) == (0, ("", GOOD_NANO, 0))


def test_an_error_that_was_counted_is_paid_and_falls_back(gateway: Gateway) -> None:
    """The usage that the provider reports is charged, to the token."""
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="error-counted", messages=HELLO
        )

    first, second = gateway.attempts(str(raw.request_id))
    assert first == ("server_error", GOOD_NANO, 0)
    assert second == ("", GOOD_NANO, 0)


@pytest.mark.parametrize("route", TOO_LONG)
def test_a_prompt_that_is_too_long_goes_to_a_longer_window(gateway: Gateway, route: str) -> None:
    """In each provider's own wording."""
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=route, messages=HELLO)

    first, second = gateway.attempts(str(raw.request_id))
    assert first == ("context_window_exceeded", 0, 0)
    assert second == ("", GOOD_NANO, 0)


@pytest.mark.parametrize(("route", "estimated"), [("b4", 1), ("b6", 1), ("a6-json", 0)])
def test_a_stream_that_is_whole_is_an_answer(gateway: Gateway, route: str, estimated: int) -> None:
    """A stream that lacks its end mark, was sent without `stream_options` or arrives in one piece
    is one attempt, charged once."""
    request_id, chunks = streamed(gateway, route)

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello."
    ((error, cost, guess),) = gateway.attempts(request_id)
    assert (error, guess) == ("", estimated)
    assert cost == GOOD_NANO or estimated


def test_a_whole_answer_may_come_as_a_stream(gateway: Gateway) -> None:
    """A caller that requested no stream gets an object, priced by its usage."""
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="a6-stream", messages=HELLO)

    answer = raw.parse()
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "Hello."
    assert answer.usage is not None
    assert gateway.attempts(str(raw.request_id)) == [("", GOOD_NANO, 0)]


def test_arguments_that_are_an_object_reach_the_client_as_text(gateway: Gateway) -> None:
    """The client concatenates pieces of text, and must not get an object."""
    request_id, chunks = streamed(gateway, "b5")

    assert chunks[0].choices[0].delta.tool_calls[0].function.arguments == "{}"
    assert gateway.attempts(request_id) == [("", GOOD_NANO, 0)]


def read_all(chunks: Any, text: list[str]) -> None:
    """Collect the text of a stream, as far as it arrives."""
    text.extend(part.choices[0].delta.content or "" for part in chunks)


@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
def test_our_own_broken_stream_reaches_clients_as_an_error(gateway: Gateway) -> None:
    """With OpenAI's client and with LiteLLM's: text, then an error with our code."""
    text: list[str] = []
    with gateway.client() as client:
        chunks = client.chat.completions.create(model="b8", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as caught:
            read_all(chunks, text)
    assert ("".join(text), caught.value.code) == ("Hel", "server_error")

    text.clear()
    through = import_litellm().completion(
        model="openai/b8",
        api_base=f"{gateway.url}/v1",
        api_key="none",
        messages=HELLO,
        stream=True,
        max_retries=0,
    )
    with pytest.raises(Exception, match="the provider failed"):
        read_all(through, text)
    assert "".join(text) == "Hel"
