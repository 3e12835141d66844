"""The edge over a real socket: what it serves, refuses and reports, with a scripted router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from spanledger.errors import ConfigError, ProviderError
from spanledger.gateway.app import Application
from spanledger.gateway.auth import check_exposure
from spanledger.gateway.replies import reply_to
from spanledger.gateway.server import make_server
from spanledger.gateway.turn import WHOLE, Turn

from .harness import (
    PATIENCE_S,
    PROVIDER_S,
    SECRET,
    Edge,
    chat,
    config_with,
    read_response,
    request,
    running_edge,
    wait_for,
)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway without keys."""
    with running_edge(config_with()) as running:
        yield running


def test_answer_carries_the_figures(edge: Edge) -> None:
    """A served request reports its cost, its deployment and the remaining budget."""
    answer = edge.post(chat(temperature=0.1, unknown={"kept": [1]}))
    assert answer.status == 200
    assert answer.json()["echo"]["unknown"] == {"kept": [1]}
    headers = answer.headers
    exchange = edge.router.seen[-1]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == exchange.start.request_id
    assert headers["x-spanledger-trace-id"] == exchange.start.trace_id
    assert headers["x-spanledger-attempts"] == "2"
    assert headers["x-spanledger-deployment"] == "primary"
    assert headers["x-spanledger-cost-usd"] == "0.000001234"
    assert headers["x-spanledger-budget-remaining-usd"] == "5.00"
    assert exchange.start.customer == "default"


def test_an_answer_is_one_write() -> None:
    """The head of an answer is written together with what follows it, an interim response and the
    rest of a stream at once; closing loses no head."""
    written: list[bytes] = []

    class Recorder(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            written.append(bytes(data))

        def close(self) -> None:
            written.append(b"closed")

        def is_closing(self) -> bool:
            return False

    def turn(**more: bool) -> Turn:
        transport = Recorder()
        expects = {"expects_continue": False, "keep_alive": True} | more
        return Turn({"method": "POST"}, transport, FlowControl(transport), lambda: None, **expects)

    async def answered() -> None:
        whole, streamed, begun = turn(expects_continue=True), turn(), turn()
        whole.arrived(b"{}")
        assert (await whole.receive())["body"] == b"{}"
        length = [(b"content-length", b"2")]
        start = {"type": "http.response.start", "status": 200}
        await whole.send({**start, "headers": length, WHOLE: b"ok"})
        await streamed.send({**start, "headers": []})
        for more in (True, False):
            await streamed.send({"type": "http.response.body", "body": b"part", "more_body": more})
        begun.start(200, length)
        begun.abandon()

    asyncio.run(answered())
    assert written == [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"4\r\npart\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
        b"closed",
    ]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"a\x7f"])
def test_a_header_cannot_add_another(value: bytes) -> None:
    """No line break and no control character of a value gets into the head of an answer."""
    transport = asyncio.Transport()
    turn = Turn(
        {"method": "POST"},
        transport,
        FlowControl(transport),
        lambda: None,
        expects_continue=False,
        keep_alive=True,
    )
    with pytest.raises(RuntimeError, match="control character"):
        turn.start(200, [(b"content-type", value)])


def test_stream_is_relayed_with_figures_before_the_end_mark(edge: Edge) -> None:
    """Events pass through unchanged; the comment with the cost comes before `[DONE]`."""
    answer = edge.post(chat(stream=True, stream_options={"include_usage": True}))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-spanledger-attempts"] == "2"
    assert "x-spanledger-cost-usd" not in answer.headers
    events = answer.body.split(b"\n\n")
    assert events[:3] == [b'data: {"n": 0}', b'data: {"n": 1}', b'data: {"n": 2}']
    assert events[3:] == [
        b": spanledger cost_usd=0.000000077 attempts=2 deployment=primary",
        b"data: [DONE]",
        b"",
    ]
    assert edge.router.seen[-1].ask.include_usage


def test_stream_events_are_not_held_back(edge: Edge) -> None:
    """The client has what arrived so far while the provider is silent; disconnecting cancels it."""
    before = len(edge.router.cancelled)
    with edge.connect() as sock:
        sock.sendall(request(chat("hang-in-stream", stream=True)))
        data = b""
        while b'{"n": 2}' not in data:
            data += sock.recv(65536)
    wait_for(lambda: len(edge.router.cancelled) == before + 1)
    wait_for(lambda: edge.server.edge.in_flight == 0)
    assert edge.router.seen[-1].start.request_id in edge.router.closed


def test_broken_stream_ends_with_an_error_event(edge: Edge) -> None:
    """A broken stream ends with an error in OpenAI's shape and no end mark. The comment follows it:
    Go's client reads anything before it as part of the error's JSON."""
    answer = edge.post(chat("break-in-stream", stream=True))
    assert answer.status == 200
    *_, last, figures, end = answer.body.split(b"\n\n")
    assert end == b""
    assert figures.startswith(b": spanledger cost_usd=0.00 ")
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_interrupted"
    assert b"[DONE]" not in answer.body
    assert SECRET.encode() not in answer.body


def test_leaving_cancels_a_plain_request(edge: Edge) -> None:
    """A client that closes its connection stops the work done for it."""
    before = len(edge.router.cancelled)
    with edge.connect() as sock:
        sock.sendall(request(chat("slow")))
        wait_for(lambda: edge.router.running == 1)
    wait_for(lambda: len(edge.router.cancelled) == before + 1)
    wait_for(lambda: edge.server.edge.in_flight == 0)


def test_leaving_is_noticed_after_a_large_body(edge: Edge) -> None:
    """A body larger than the read buffer does not hide the end of the connection."""
    before = len(edge.router.cancelled)
    with edge.connect() as sock:
        sock.sendall(request(chat("slow", padding="x" * 3_000_000)))
        wait_for(lambda: edge.router.running == 1)
    wait_for(lambda: len(edge.router.cancelled) == before + 1)


@pytest.mark.parametrize(
    ("route", "status", "code", "retry", "after"),
    [
        ("provider-server_error", 502, "server_error", "true", "3"),
        ("provider-rate_limited", 429, "rate_limit_exceeded", "true", "3"),
        ("provider-authentication_failed", 502, "authentication_failed", "false", None),
        ("provider-cooldown", 503, "cooldown", "true", "3"),
        ("provider-invalid_request", 400, "theirs", "false", None),
        ("bug", 500, "internal_error", "false", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_have_status_code_and_advice(
    edge: Edge, route: str, status: int, code: str, retry: str, after: str | None, *, stream: bool
) -> None:
    """A failure before the first byte is a JSON error that says whether to retry."""
    answer = edge.post(chat(route, stream=stream))
    assert answer.status == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-should-retry"] == retry
    assert answer.headers.get("retry-after") == after
    assert answer.headers["x-spanledger-trace-id"] == edge.router.seen[-1].start.trace_id
    assert SECRET.encode() not in answer.body
    assert (b"their text" in answer.body) == (route == "provider-invalid_request")


def test_a_bug_is_logged_without_its_text(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    """The log says where a bug of ours is, by request id, and quotes nothing from the request."""
    answer = edge.post(chat("bug"))
    assert answer.headers["x-request-id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "in complete" in caplog.text
    assert SECRET not in caplog.text


def test_budget_refusal_names_every_figure(edge: Edge) -> None:
    """A budget refusal is 429, must not be retried, and says who, how much and until when."""
    answer = edge.post(chat("broke"))
    assert answer.status == 429
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert answer.error == {
        "message": "budget 'acme-monthly' (customer 'acme') has no room for this request: limit "
        "$12.50, spent $12.40, held $0.09, needed $0.02; it renews at 2026-12-01T00:00:00Z",
        "type": "insufficient_quota",
        "param": None,
        "code": "budget_exceeded",
        "budget": "acme-monthly",
        "scope": "customer",
        "subject": "acme",
        "limit_usd": "12.50",
        "spent_usd": "12.40",
        "held_usd": "0.09",
        "needed_usd": "0.02",
        "renews_at": "2026-12-01T00:00:00Z",
    }


def test_other_paths_and_methods(edge: Edge) -> None:
    """Paths and methods that are not served get errors in OpenAI's shape too."""
    unknown = edge.post({}, "/v1/nothing").error
    assert unknown["code"] == "unknown_url"
    assert "POST /v1/files, GET /v1/files, POST /v1/batches" in unknown["message"]
    assert "POST /v1/chat/completions" in edge.post({}, "/v1/nothing").error["message"]
    assert edge.post({}, "/v1/models/gemini-2.5-pro:embedContent").status == 404
    assert edge.post({}, "/v1/models/echo").status == 405
    answer = edge.get("/v1/chat/completions")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.error["code"] == "method_not_allowed"
    assert edge.post({}, "/healthz").status == 405


def test_models(edge: Edge) -> None:
    """Routes are listed as models; one with a slash can be fetched by name."""
    listed = edge.get("/v1/models").json()
    assert listed["object"] == "list"
    assert "other/route" in [model["id"] for model in listed["data"]]
    assert edge.get("/v1/models/other%2Froute").json()["object"] == "model"
    assert edge.get("/v1/models/none").error["code"] == "model_not_found"


def test_health_and_metrics(edge: Edge) -> None:
    """The probes answer, and readiness follows the ledger."""
    assert edge.get("/healthz").json() == {"status": "ok"}
    ready = edge.get("/readyz")
    up = len(edge.get("/v1/models").json()["data"])
    assert (ready.status, ready.json()["deployments"]) == (200, {"up": up, "cooling": 0, "off": 0})
    metrics = edge.get("/metrics")
    assert (metrics.status, metrics.body) == (200, b"spanledger_up 1\n")
    edge.ledger.down = True
    try:
        answer = edge.get("/readyz")
        assert (answer.status, answer.json()) == (503, {"status": "ledger_unavailable"})
        assert answer.headers["x-request-id"].startswith("req_")
        assert edge.get("/healthz").status == 200
        edge.ledger.journal_has_room = True
        answer = edge.get("/readyz")
        assert (answer.status, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["ledger"] == "unavailable"
    finally:
        edge.ledger.down = edge.ledger.journal_has_room = False


def test_what_the_gateway_adds_is_observed(edge: Edge) -> None:
    """For non-streamed answers: their time less the providers'. Streams and refusals have no such
    figure."""
    edge.overheads.clear()
    assert edge.post(chat()).status == 200
    assert edge.post(chat(stream=True)).status == 200
    assert edge.post(chat("no-such-model")).status == 404

    (overhead,) = edge.overheads
    assert -PROVIDER_S < overhead < PATIENCE_S - PROVIDER_S


def test_traceparent_is_taken_over(edge: Edge) -> None:
    """A caller's trace continues; its span is the parent."""
    edge.post(chat(), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    start = edge.router.seen[-1].start
    assert start.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert start.parent_span_id == "b7ad6b7169203331"
    assert len(start.span_id) == 16
    assert start.span_id != start.parent_span_id


def test_two_requests_on_one_connection(edge: Edge) -> None:
    """A connection is kept, after an error too, and if both requests arrive at once."""
    pair = request(chat(), connection="keep-alive") + request(b"{", connection="keep-alive")
    with edge.connect() as sock:
        sock.sendall(request(b"{", connection="keep-alive"))
        assert read_response(sock).status == 400
        sock.sendall(request(chat(), connection="keep-alive"))
        assert read_response(sock).status == 200
        sock.sendall(pair)
        first = read_response(sock)
        assert first.status == 200
        rest = first.body.partition(b"HTTP/1.1 ")[2] or sock.recv(65536).partition(b" ")[2]
        assert rest.startswith(b"400")


def test_keyless_gateway_is_for_this_machine() -> None:
    """Without keys the gateway does not listen for other machines; with one it may."""
    with pytest.raises(ConfigError, match=r"spanledger keys create"):
        check_exposure("0.0.0.0", has_keys=False)
    with pytest.raises(ConfigError, match=r"only this machine"):
        check_exposure("gateway.example", has_keys=False)
    check_exposure("0.0.0.0", has_keys=True)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_exposure(host, has_keys=False)


def test_taken_port_is_named(edge: Edge) -> None:
    """A port in use is one clear message."""
    config = config_with(port=edge.port)
    app = cast("Application", edge.server.config.app)
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{edge.port}"):
        make_server(app, config)


def test_shutdown_lets_requests_end() -> None:
    """During shutdown, readiness and new requests get 503; requests in flight may finish."""
    with running_edge(config_with()) as edge, edge.connect() as slow:
        slow.sendall(request(chat("slow")))
        wait_for(lambda: edge.router.running == 1)
        edge.server.should_exit = True
        wait_for(lambda: edge.get("/readyz").status == 503)
        answer = edge.post(chat())
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["x-should-retry"] == "true"
        assert edge.get("/healthz").status == 200
        edge.router.release()
        assert read_response(slow).status == 200


@pytest.mark.parametrize("route", ["slow", "hang-in-stream"])
def test_shutdown_cancels_what_outlives_its_grace(route: str) -> None:
    """After the grace period, running requests are cancelled, and their callers told to retry."""
    with running_edge(config_with(shutdown_grace_s=0.2)) as edge, edge.connect() as sock:
        sock.sendall(request(chat(route, stream=route != "slow")))
        wait_for(lambda: edge.router.running == 1)
        edge.server.should_exit = True
        answer = read_response(sock)
        assert b'"shutting_down"' in answer.body
        assert b"[DONE]" not in answer.body
        assert answer.status == (503 if route == "slow" else 200)
        assert len(edge.router.cancelled) == 1


def test_a_request_that_is_too_large_is_not_to_be_sent_again() -> None:
    """Waiting does not make a request smaller, whatever the provider says about waiting."""
    error = ProviderError("rate_limited", SECRET, status=429, retry_after_s=9, request_alone=True)
    reply = reply_to(error, 2)
    assert reply.status == 429
    assert reply.headers == ((b"x-should-retry", b"false"),)
    assert b"make it smaller (after 2 attempts)" in reply.body


@pytest.mark.parametrize("path", ["/metrics/", "/healthz/", "/readyz/", "//evil.example/metrics/"])
def test_no_redirect_names_the_callers_host(edge: Edge, path: str) -> None:
    """A path with an extra slash is not found; a redirect would lead to a host of the caller's
    choice."""
    answer = edge.get(path, host="evil.example")
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/chat/completions",
        "/chat/completions/",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/v1/v1/chat/completions",
    ],
)
def test_other_spellings_of_a_path(edge: Edge, path: str) -> None:
    """A base URL without `/v1`, or with an extra slash, reaches the intended path."""
    assert edge.post(chat(), path).status == 200
    assert edge.router.seen[-1].ask.wire.operation == "chat"


def test_other_spellings_of_the_models(edge: Edge) -> None:
    """The same applies to the list of models and to a single model."""
    listed = edge.get("/v1/models").json()
    for path in ("/models", "/models/", "/v1/models/", "/v1/v1/models"):
        assert edge.get(path).json() == listed
    assert edge.get("/models/echo").json()["id"] == "echo"


def test_probes_of_litellm(edge: Edge) -> None:
    """Health checks written for LiteLLM's proxy find their paths."""
    for path in ("/health/liveliness", "/health/liveness"):
        assert edge.get(path).json() == {"status": "ok"}
    assert edge.get("/health/readiness").json()["status"] == "ready"


PAGE = "https://app.example"


def test_pages_that_may_call() -> None:
    """A listed origin gets CORS headers and may call without a key; another one must not."""
    with running_edge(config_with(allow_origins=[PAGE])) as edge:
        preflight = {"access_control_request_method": "POST"}
        asked = edge.send(request(b"", origin=PAGE, **preflight).replace(b"POST", b"OPTIONS", 1))
        assert asked.status == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        answer = edge.post(chat(), origin=PAGE)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-spanledger-cost-usd" in answer.headers["access-control-expose-headers"]
        other = edge.post(chat(), origin="https://evil.example")
        assert other.status == 403
        assert "access-control-allow-origin" not in other.headers


def test_any_page_is_no_trusted_page() -> None:
    """`*` lets every page read answers, but no page spend money without a key."""
    with running_edge(config_with(allow_origins=["*"])) as edge:
        answer = edge.post(chat(), origin=PAGE)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (403, "*")


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "ftp://app.example"])
def test_an_origin_is_written_as_browsers_do(origin: str) -> None:
    """An origin that no browser would ever send is refused at startup."""
    with pytest.raises(ConfigError, match=r"https://app\.example"):
        config_with(allow_origins=[origin])


def test_a_path_stays_on_its_line_of_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    """A caller cannot forge a log line with a line break in a path."""
    with (
        caplog.at_level("INFO", "spanledger.access"),
        running_edge(config_with(access_log=True)) as edge,
    ):
        assert edge.get("/v1/a%0A%1B[2Jb").status == 404

    [said] = [r.getMessage() for r in caplog.records if r.name == "spanledger.access"]
    assert said == "GET /v1/a%0A%1B%5B2Jb"
