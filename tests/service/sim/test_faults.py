"""Real clients see each fault correctly, and it costs what the bill's rules say."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam

from spanledger.sim.host import RunningSim
from tests.service.sim.books import bill, only_entry
from tests.support.processes import poll

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How are you today?"}]
SAY: list[MessageParam] = [{"role": "user", "content": "How are you today?"}]
INPUT_TOKENS = 8
GPT_IN, GPT_OUT = 150, 600  # nano-USD a token of gpt-4o-mini, times a thousand
HAIKU_IN, HAIKU_OUT = 1_000, 5_000


@dataclass(frozen=True)
class Case:
    """A fault that replaces the answer."""

    directive: str
    gpt_error: type[Exception]
    claude_error: type[Exception]
    status: int = 0
    code: str | None = None
    kind: str | None = None


REFUSALS = [
    Case("429;retry_after=2", openai.RateLimitError, anthropic.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_error"),
    Case("500", openai.InternalServerError, anthropic.InternalServerError, 500, None, "api_error"),
    Case("503", openai.InternalServerError, anthropic.ServiceUnavailableError, 503, None, "api_error"),
    Case("529", openai.InternalServerError, anthropic.OverloadedError, 529, "overloaded", "overloaded_error"),
    Case("401", openai.AuthenticationError, anthropic.AuthenticationError, 401, "invalid_api_key", "authentication_error"),
    Case("400", openai.BadRequestError, anthropic.BadRequestError, 400, None, "invalid_request_error"),
    Case("404", openai.NotFoundError, anthropic.NotFoundError, 404, "model_not_found", "not_found_error"),
    Case("context_window", openai.BadRequestError, anthropic.BadRequestError, 400, "context_length_exceeded", "invalid_request_error"),
    Case("content_filter", openai.BadRequestError, anthropic.BadRequestError, 400, "content_filter", "invalid_request_error"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.directive)
def test_refusals_on_openais_wire(
    gpt: openai.OpenAI, web: httpx.Client, case: Case, stream: bool
) -> None:
    """The OpenAI client raises its matching error, and nothing is billed."""
    with pytest.raises(case.gpt_error) as caught:
        gpt.chat.completions.create(
            model=f"gpt-4o-mini!{case.directive}", messages=ASK, stream=stream
        )
    assert isinstance(caught.value, openai.APIStatusError)

    assert (caught.value.status_code, caught.value.code) == (case.status, case.code)
    assert caught.value.request_id == only_entry(web)["request_id"]
    assert only_entry(web)["billed"] is False
    assert only_entry(web)["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.directive)
def test_refusals_on_anthropics_wire(
    claude: anthropic.Anthropic, web: httpx.Client, case: Case, stream: bool
) -> None:
    """The Anthropic client raises its matching error, and nothing is billed."""
    with pytest.raises(case.claude_error) as caught:
        claude.messages.create(
            model=f"claude-haiku-4-5!{case.directive}", max_tokens=5, messages=SAY, stream=stream
        )
    assert isinstance(caught.value, anthropic.APIStatusError)
    assert isinstance(caught.value.body, dict)

    assert (caught.value.status_code, caught.value.body["error"]["type"]) == (
        case.status,
        case.kind,
    )
    assert only_entry(web)["billed"] is False


def test_retry_after(web: httpx.Client) -> None:
    """Retry-After is whole seconds, rounded up, and exact in milliseconds if the wire supports that."""
    body = {"model": "gpt-4o-mini!429;retry_after=1.25", "messages": ASK}
    headers = web.post(
        "/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}
    ).headers

    assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1250")


def test_the_clients_retry_logic(sim: RunningSim, web: httpx.Client) -> None:
    """A client that retries gets through a storm, and only its last attempt is billed."""
    fault = {"model": "gpt-4o-mini", "fault": "429", "retry_after": 0.01, "for_requests": 2}
    web.post("/sim/faults", json=fault).raise_for_status()
    with openai.OpenAI(base_url=sim.openai_url, api_key="k", max_retries=2) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=ASK)

    assert [entry["outcome"] for entry in bill(web)["entries"]] == ["error", "error", "answered"]
    assert bill(web)["billed_calls"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_reset(gpt: openai.OpenAI, web: httpx.Client, stream: bool) -> None:
    """A reset is a TCP reset, not an orderly close, and costs nothing."""
    with pytest.raises(openai.APIConnectionError) as caught:
        gpt.chat.completions.create(model="gpt-4o-mini!reset", messages=ASK, stream=stream)

    assert isinstance(caught.value.__cause__, httpx.ReadError)
    assert (only_entry(web)["outcome"], only_entry(web)["nano_usd"]) == ("reset", 0)


@pytest.mark.parametrize("stream", [False, True])
def test_timeout(gpt: openai.OpenAI, web: httpx.Client, stream: bool) -> None:
    """Without an answer the client gives up, and its input is billed."""
    with pytest.raises(openai.APITimeoutError):
        gpt.chat.completions.create(
            model="gpt-4o-mini!timeout", messages=ASK, stream=stream, timeout=1.0
        )

    assert only_entry(web)["outcome"] == "timeout"
    assert only_entry(web)["nano_usd"] == INPUT_TOKENS * GPT_IN


def read_gpt(gpt: openai.OpenAI, model: str, **options: Any) -> Iterator[str]:
    """The tokens of a stream, until it ends or is broken off."""
    with gpt.chat.completions.create(model=model, messages=ASK, stream=True, **options) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def read_claude(claude: anthropic.Anthropic, model: str) -> Iterator[str]:
    """The tokens of a streamed message, until it ends or is broken off."""
    with claude.messages.create(model=model, max_tokens=100, messages=SAY, stream=True) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text


@pytest.mark.parametrize("after", [0, 1, 5])
def test_cut_on_openais_wire(gpt: openai.OpenAI, web: httpx.Client, after: int) -> None:
    """A stream broken off delivers exactly the tokens before that, and exactly these are billed."""
    seen: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        seen.extend(read_gpt(gpt, f"gpt-4o-mini!cut:{after}"))

    assert len(seen) == after
    assert only_entry(web)["outcome"] == "cut"
    assert only_entry(web)["nano_usd"] == INPUT_TOKENS * GPT_IN + after * GPT_OUT


def test_cut_on_anthropics_wire(claude: anthropic.Anthropic, web: httpx.Client) -> None:
    """Anthropic's stream is broken off the same way."""
    seen: list[str] = []
    with pytest.raises(Exception, match="incomplete chunked read"):
        seen.extend(read_claude(claude, "claude-haiku-4-5!cut:5"))

    assert len(seen) == 5
    assert only_entry(web)["nano_usd"] == INPUT_TOKENS * HAIKU_IN + 5 * HAIKU_OUT


def test_malformed(gpt: openai.OpenAI, claude: anthropic.Anthropic, web: httpx.Client) -> None:
    """A malformed chunk is not JSON and follows exactly the requested tokens."""
    gpt_seen: list[str] = []
    claude_seen: list[str] = []
    with pytest.raises(json.JSONDecodeError):
        gpt_seen.extend(read_gpt(gpt, "gpt-4o-mini!malformed:3"))
    with pytest.raises(json.JSONDecodeError):
        claude_seen.extend(read_claude(claude, "claude-haiku-4-5!malformed:4"))

    assert (len(gpt_seen), len(claude_seen)) == (3, 4)
    assert [entry["usage"]["output_tokens"] for entry in bill(web)["entries"]] == [3, 4]
    assert bill(web)["by_outcome"] == {"malformed": 2}


def test_stall(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """A stalled stream sends nothing more; its output is billed once the client has disconnected."""
    seen: list[str] = []
    with pytest.raises(httpx.ReadTimeout):
        seen.extend(read_gpt(gpt, "gpt-4o-mini!stall:2", timeout=1.0))

    assert len(seen) == 2
    assert (only_entry(web)["outcome"], only_entry(web)["detail"]) == ("aborted", "stall")
    assert only_entry(web)["nano_usd"] == INPUT_TOKENS * GPT_IN + 2 * GPT_OUT


@pytest.mark.parametrize("fault", ["cut:1", "malformed:1", "stall:1"])
def test_broken_plain_answers(gpt: openai.OpenAI, web: httpx.Client, fault: str) -> None:
    """A non-streamed answer breaks off mid-body; its usage never arrived, so only input is billed."""
    errors = (openai.APIConnectionError, json.JSONDecodeError)
    with pytest.raises(errors):
        gpt.chat.completions.create(model=f"gpt-4o-mini!{fault}", messages=ASK, timeout=1.0)

    assert only_entry(web)["nano_usd"] == INPUT_TOKENS * GPT_IN


def test_missing_usage(gpt: openai.OpenAI, web: httpx.Client) -> None:
    """An answer without usage is billed anyway."""
    plain = gpt.chat.completions.create(model="gpt-4o-mini!missing_usage", messages=ASK)
    chunks = list(
        gpt.chat.completions.create(
            model="gpt-4o-mini!missing_usage!tokens:7",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert plain.usage is None
    assert all(chunk.usage is None for chunk in chunks)
    assert bill(web)["entries"][-1]["nano_usd"] == INPUT_TOKENS * GPT_IN + 7 * GPT_OUT


def test_wrong_usage(gpt: openai.OpenAI, claude: anthropic.Anthropic, web: httpx.Client) -> None:
    """Wrong usage is twice what was produced, and is billed."""
    said = gpt.chat.completions.create(model="gpt-4o-mini!wrong_usage!tokens:7", messages=ASK)
    with claude.messages.stream(
        model="claude-haiku-4-5!wrong_usage!tokens:7", max_tokens=50, messages=SAY
    ) as stream:
        told = stream.get_final_message()
    assert said.usage is not None

    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (16, 14)
    assert (told.usage.input_tokens, told.usage.output_tokens) == (16, 14)
    assert [entry["nano_usd"] for entry in bill(web)["entries"]] == [
        16 * GPT_IN + 14 * GPT_OUT,
        16 * HAIKU_IN + 14 * HAIKU_OUT,
    ]


def test_filtered_after_tokens(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """An answer filtered midway reports this with each wire's finish reason."""
    said = gpt.chat.completions.create(model="gpt-4o-mini!content_filter:2", messages=ASK)
    told = claude.messages.create(
        model="claude-haiku-4-5!content_filter:2", max_tokens=50, messages=SAY
    )

    assert said.choices[0].finish_reason == "content_filter"
    assert said.usage is not None
    assert said.usage.completion_tokens == 2
    assert told.stop_reason == "refusal"


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_and_huge(web: httpx.Client, stream: bool) -> None:
    """Garbage is 200 without JSON; huge is an enormous body; neither is billed."""
    key = {"authorization": "Bearer k"}
    body = {"messages": ASK, "stream": stream}
    garbage = web.post(
        "/v1/chat/completions", json={**body, "model": "gpt-4o!garbage"}, headers=key
    )
    with web.stream(
        "POST", "/v1/chat/completions", json={**body, "model": "gpt-4o!huge:2"}, headers=key
    ) as huge:
        size = sum(map(len, huge.iter_bytes()))

    assert garbage.status_code == 200
    assert garbage.text.startswith("<html>")
    assert size > 2 * 1024 * 1024
    assert bill(web)["total_usd"] == "0.00"


def test_headers_metadata_and_names(gpt: openai.OpenAI) -> None:
    """A fault can be in a header, in the metadata, or be the model's entire name."""
    asks: list[Callable[[], object]] = [
        lambda: gpt.chat.completions.create(
            model="gpt-4o", messages=ASK, extra_headers={"x-sim-fault": "429;retry_after=1"}
        ),
        lambda: gpt.chat.completions.create(model="gpt-4o", messages=ASK, metadata={"sim": "429"}),
        lambda: gpt.chat.completions.create(model="sim-429", messages=ASK),
        lambda: gpt.embeddings.create(model="text-embedding-3-small!429", input="x"),
    ]
    for ask in asks:
        with pytest.raises(openai.RateLimitError):
            ask()


def test_a_storm_hits_one_model_on_one_wire(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, web: httpx.Client
) -> None:
    """A fault on the board affects only its model, as often as set, and can be switched off."""
    fault = {"model": "gpt-4o-mini", "wire": "openai", "fault": "529", "for_requests": 2}
    made = web.post("/sim/faults", json=fault)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            gpt.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        gpt.chat.completions.create(model="gpt-4o", messages=ASK)
        claude.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=SAY)
    gpt.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    web.post("/sim/faults", json={"wire": "anthropic", "fault": "529"})
    gpt.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    with pytest.raises(anthropic.OverloadedError):
        claude.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=SAY)
    removed = web.delete("/sim/faults").json()
    claude.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=SAY)

    assert made.status_code == 201
    assert removed == {"removed": 1}


def test_a_share_of_the_requests(web: httpx.Client) -> None:
    """A share affects about that part of many requests, and a retry of the same one may succeed."""
    web.post("/sim/faults", json={"fault": "500", "share": 0.5}).raise_for_status()
    key = {"authorization": "Bearer k"}
    body = {"model": "gpt-4o", "messages": ASK}
    statuses = [
        web.post("/v1/chat/completions", json=body, headers=key).status_code for _ in range(100)
    ]

    assert 30 < statuses.count(500) < 70


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"fault": "nonsense"},
        {"fault": "cut"},
        {"fault": "cut:-1"},
        {"fault": "299"},
        {"fault": "429", "color": "red"},
        {"fault": "429", "wire": "cohere"},
        {"fault": "429", "share": "half"},
        {"fault": "500;retry_after=soon"},
    ],
)
def test_faults_that_make_no_sense(web: httpx.Client, fault: dict[str, object]) -> None:
    """A directive outside the grammar is rejected, not ignored."""
    answer = web.post("/sim/faults", json=fault)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert web.get("/sim/faults").json() == {"faults": []}


def test_the_board_is_bounded(web: httpx.Client) -> None:
    """The board rejects faults above its limit; a single one can be removed."""
    answers = [web.post("/sim/faults", json={"model": "none", "fault": "500"}) for _ in range(65)]
    first = answers[0].json()["id"]

    assert [answer.status_code for answer in answers] == [201] * 64 + [400]
    assert web.delete(f"/sim/faults?id={first}").json() == {"removed": 1}
    assert web.delete("/sim/faults?id=first").status_code == 400


def test_a_fault_for_some_seconds(web: httpx.Client) -> None:
    """A fault with a time limit is off after it."""
    web.post("/sim/faults", json={"fault": "500", "for_seconds": 0.05}).raise_for_status()
    over = poll(lambda: not web.get("/sim/faults").json()["faults"], every_s=0.01)

    assert over


def test_an_abandoned_stream(sim: RunningSim, web: httpx.Client) -> None:
    """A client that disconnects mid-stream pays for what was produced so far."""
    body = {"model": "gpt-4o-mini!tokens:2000!slow:0.5", "messages": ASK, "stream": True}
    sim.state.speed = 1.0
    try:
        with web.stream(
            "POST", "/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}
        ) as answer:
            read = list(itertools.islice(answer.iter_lines(), 20))
        entry = only_entry(web)
    finally:
        sim.state.speed = 0.0
    contents = [line for line in read if '"content":"' in line and '"content":""' not in line]
    produced = entry["usage"]["output_tokens"]

    assert entry["outcome"] == "aborted"
    assert len(contents) <= produced < 2_000
    assert entry["nano_usd"] == INPUT_TOKENS * GPT_IN + produced * GPT_OUT


def test_nobody_is_held_for_ever(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never gives up is eventually disconnected."""
    monkeypatch.setattr("spanledger.sim.channel.HOLD_MAX_S", 0.05)
    with pytest.raises(httpx.TransportError):
        web.post(
            "/v1/chat/completions",
            json={"model": "gpt-4o-mini!timeout", "messages": ASK},
            headers={"authorization": "Bearer k"},
            timeout=10,
        )

    assert only_entry(web)["outcome"] == "timeout"


def test_a_body_that_never_comes(sim: RunningSim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops in the middle of its request gets a 408."""
    monkeypatch.setattr("spanledger.sim.channel.BODY_READ_MAX_S", 0.05)
    address = ("127.0.0.1", int(sim.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer k\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        status = client.recv(64).split(b"\r\n")[0]

    assert status == b"HTTP/1.1 408 Request Timeout"
