"""Hostile and broken clients on a raw socket: each limit trips, nothing crashes, others are
served."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from spanledger.gateway import connection

from .harness import (
    Edge,
    chat,
    config_with,
    is_closed,
    read_response,
    request,
    running_edge,
    wait_for,
)

MAX_BODY, MAX_HEAD, PATIENCE = 100_000, 4_000, 0.5


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with small limits."""
    config = config_with(
        max_body_bytes=MAX_BODY,
        max_header_bytes=MAX_HEAD,
        body_timeout_s=PATIENCE,
        stream_idle_timeout_s=PATIENCE,
        max_concurrent_requests=3,
    )
    with pytest.MonkeyPatch.context() as patch, running_edge(config) as running:
        patch.setattr(connection, "LINGER_S", 0.5)
        yield running


@pytest.fixture(autouse=True)
def _still_serving(edge: Edge) -> Iterator[None]:
    """Whatever a test did, nothing is left in flight, and the next caller is served."""
    yield
    wait_for(lambda: edge.server.edge.in_flight == 0)
    assert edge.post(chat()).status == 200


def test_announced_body_too_large(edge: Edge) -> None:
    """A Content-Length over the limit is refused before any of the body is read."""
    answer = edge.send(request(b"", content_length=str(MAX_BODY + 1)))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert answer.headers["connection"] == "close"


def test_sent_body_too_large(edge: Edge) -> None:
    """A client that sends a large body completely still gets to read the refusal."""
    answer = edge.post(chat(padding="x" * (MAX_BODY * 30)))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_chunked_body_too_large(edge: Edge) -> None:
    """A body without a length is counted as it arrives."""
    seen = len(edge.router.seen)
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    answer = edge.send(_chunked() + chunk * 11)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert len(edge.router.seen) == seen


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * (MAX_HEAD + 1) + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx-endless: " + b"a" * 500_000,
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"a%d: 1\r\n" % n for n in range(101)) + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"a: 1\r\n" * 100_000,
        b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["long", "endless", "many", "flood", "target"],
)
def test_head_too_large(edge: Edge, head: bytes) -> None:
    """Headers over the limit, by size or number, are refused while they still arrive."""
    with edge.connect() as sock:
        for start in range(0, len(head), 3_000):
            try:
                sock.sendall(head[start : start + 3_000])
            except ConnectionError:
                break
        answer = read_response(sock)
    assert (answer.status, answer.error["code"]) == (431, "request_head_too_large")


def test_head_within_the_limit(edge: Edge) -> None:
    """The limits do not affect headers just below them, sent in pieces."""
    head = request(chat(), x_padding="a" * (MAX_HEAD - 300))
    with edge.connect() as sock:
        for start in range(0, len(head), 500):
            sock.sendall(head[start : start + 500])
        assert read_response(sock).status == 200


def test_slow_head(edge: Edge) -> None:
    """Headers that trickle in time out."""
    with edge.connect() as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        for _ in range(4):
            time.sleep(PATIENCE / 5)
            sock.sendall(b"x-drip: 1\r\n")
        answer = read_response(sock)
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert is_closed(sock)


def test_slow_body(edge: Edge) -> None:
    """A body that trickles in times out, and frees its place among the requests in flight."""
    with edge.connect() as sock:
        sock.sendall(request(b'{"model"', content_length="500"))
        wait_for(lambda: edge.server.edge.in_flight == 1)
        answer = read_response(sock)
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    wait_for(lambda: edge.server.edge.in_flight == 0)


def test_silent_connection(edge: Edge) -> None:
    """A silent connection is closed."""
    with edge.connect() as sock:
        assert is_closed(sock)


def test_body_owed_after_an_early_answer(edge: Edge) -> None:
    """A client that is refused on its headers cannot hold the connection with a slow body."""
    with edge.connect() as sock:
        sock.sendall(request(b"{", "/v1/none", content_length="500", connection="keep-alive"))
        assert read_response(sock).status == 404
        assert is_closed(sock)


def test_reader_that_stops_holds_no_stream(edge: Edge) -> None:
    """A client that stops reading loses its stream, and the call to the provider is cancelled."""
    closed = len(edge.router.closed)
    with edge.connect() as sock:
        sock.sendall(request(chat("flood", stream=True)))
        sock.recv(1000)
        wait_for(lambda: len(edge.router.closed) == closed + 1)


def test_concurrent_requests(edge: Edge) -> None:
    """Beyond the limit: 429, to be retried; health still answers, and a freed place is used."""
    with ThreadPoolExecutor() as pool:
        sockets = [edge.connect() for _ in range(3)]
        try:
            for sock in sockets:
                sock.sendall(request(chat("slow")))
            wait_for(lambda: edge.router.running == 3)
            answer = pool.submit(edge.post, chat()).result()
            assert (answer.status, answer.error["code"]) == (429, "gateway_overloaded")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-should-retry"] == "true"
            assert edge.get("/healthz").status == 200
        finally:
            for sock in sockets:
                sock.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\na\x00: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad name: b\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\nx",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http(edge: Edge, data: bytes) -> None:
    """Broken and ambiguous requests are refused and their connection closed, so no part of them can
    be taken for a second request."""
    booked = len(edge.router.seen) + len(edge.router.rejected)
    with edge.connect() as sock:
        sock.sendall(data + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = read_response(sock)
        assert (answer.status, answer.error["code"]) == (400, "invalid_http")
        sock.shutdown(socket.SHUT_WR)
        assert is_closed(sock)
    assert len(edge.router.seen) + len(edge.router.rejected) == booked


@pytest.mark.parametrize("size", [b"zz", b"-1", b"5;" + b"a" * 5, b"fffffffffffffffff", b"5"])
def test_bad_chunks(edge: Edge, size: bytes) -> None:
    """Chunk sizes that are invalid, or do not match what follows, never reach a route."""
    seen = len(edge.router.seen)
    with edge.connect() as sock:
        sock.sendall(_chunked() + size + b"\r\n{}\r\n0\r\n\r\n")
        assert read_response(sock).status in (400, 408, 413)
    assert len(edge.router.seen) == seen


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"model": "echo", "messages": ' + b"[" * 40_000, 400),
        (b'{"model": "echo", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", 400),
        (b'{"model": "echo", "messages": ["\xff"]}', 400),
        (b'{"model": "none", "messages": [1]}', 404),
        (b'{"model": "' + b"m" * 50_000 + b'", "messages": [1]}', 400),
        (b'{"messages": [1]}', 400),
    ],
)
def test_bad_bodies_are_booked(edge: Edge, body: bytes, status: int) -> None:
    """An invalid request of a known caller is refused, booked, and reaches no provider."""
    seen, rejected = len(edge.router.seen), len(edge.router.rejected)
    answer = edge.post(body)
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert len(edge.router.seen) == seen
    assert len(edge.router.rejected) == rejected + 1
    exchange, _ = edge.router.rejected[-1]
    assert exchange.start.request_id == answer.headers["x-request-id"]
    assert len(exchange.start.route) <= 256


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "origin",
        "authorization",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
        "x-spanledger-customer",
    ],
)
def test_a_caller_is_named_once(edge: Edge, name: str) -> None:
    """Of two identity headers, a proxy before us may have checked the one that we ignore."""
    seen = len(edge.router.seen)
    line = f"{name}: localhost\r\n".encode()
    head, _, body = request(chat()).partition(b"\r\n\r\n")
    head = head.replace(b"host: localhost\r\n", b"")

    answer = edge.send(head + b"\r\n" + line + line.upper() + b"\r\n" + body)

    assert (answer.status, answer.error["code"]) == (400, "repeated_header")
    assert len(edge.router.seen) == seen


def test_a_trailer_names_nobody(edge: Edge) -> None:
    """Trailers are not treated as headers, which a proxy would have checked."""
    body = request(chat()).partition(b"\r\n\r\n")[2]
    whole = b"%x\r\n%s\r\n0\r\nx-spanledger-customer: victim\r\n\r\n" % (len(body), body)

    assert edge.send(_chunked() + whole).status == 200

    assert edge.router.seen[-1].start.customer == "default"


def test_compressed_bodies_are_not_inflated(edge: Edge) -> None:
    """A gzip body is refused by its header, so a compression bomb is never expanded."""
    bomb = gzip.compress(b" " * 10_000_000)
    answer = edge.post(bomb, content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")


def test_other_content_types(edge: Edge) -> None:
    """JSON is accepted with its content type or with none; content that a web form can send is
    not."""
    body = b'{"model": "echo", "messages": [1]}'
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"):
        assert edge.post(body, content_type=kind).status == 200
    bare = request(body).replace(b"content-type: application/json\r\n", b"")
    assert edge.send(bare).status == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert edge.post(body, content_type=kind).status == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/realtime?model=gpt-realtime"),
        ("POST", "/v1/realtime/client_secrets"),
        ("GET", "/realtime"),
    ],
)
def test_the_realtime_api_is_not_served(edge: Edge, method: str, path: str) -> None:
    """Its clients are told so, also where they offer a WebSocket."""
    offer = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: AA==\r\n"
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
    for more in ("", offer):
        answer = edge.send(f"{head}{more}\r\n".encode())
        assert answer.status == 501
        assert answer.error["code"] == "realtime_unsupported"
        assert "/v1/audio/speech" in answer.error["message"]


def test_upgrade_is_not_taken(edge: Edge) -> None:
    """A request that offers an upgrade is served without it."""
    headers = {"upgrade": "h2c", "connection": "upgrade, close", "http2_settings": "AAM"}
    assert edge.post(chat(), **headers).status == 200


def test_expect_continue(edge: Edge) -> None:
    """A client that waits for permission to send its body gets it once its key was checked."""
    data = request(chat(), expect="100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    with edge.connect() as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_response(sock).status == 200


def test_client_that_leaves_at_once(edge: Edge) -> None:
    """Connections dropped at any point of a request leave nothing behind."""
    data = request(chat("slow"))
    for size in (1, 20, 100, len(data) - 1, len(data)):
        with edge.connect() as sock:
            sock.sendall(data[:size])
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _chunked() -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
