"""Requests that share a connection, over a real socket."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from spanledger.gateway import connection

from .harness import Edge, chat, config_with, read_response, request, running_edge, wait_for

KEPT = {"connection": "keep-alive"}
UNKNOWN = b"GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway without keys."""
    with running_edge(config_with()) as running:
        yield running


def _rest_of(sock: socket.socket) -> bytes:
    """What comes until the server closes."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    """Requests sent without waiting get their answers in the order in which they were sent, one by one."""
    before = edge.server.server_state.total_requests
    first = request(chat(seed=1), **KEPT)
    second = request(chat("hang-up", seed=2), path="/v1/nothing", **KEPT)
    third = request(chat(seed=3))
    with edge.connect() as sock:
        sock.sendall(first + second + third)
        data = _rest_of(sock)
    heads = [line for line in data.split(b"\r\n") if b"HTTP/1.1 " in line]
    statuses = [line[line.index(b"HTTP/1.1 ") :].split()[1] for line in heads]
    assert statuses == [b"200", b"404", b"200"]
    assert re.findall(rb'"seed":\d|unknown_url', data.replace(b" ", b"")) == [
        b'"seed":1',
        b"unknown_url",
        b'"seed":3',
    ]
    assert edge.server.server_state.total_requests == before + 3


def test_a_connection_serves_request_after_request(edge: Edge) -> None:
    """Requests one after the other share a connection until one of them asks to close it."""
    with edge.connect() as sock:
        for seed in (1, 2):
            sock.sendall(request(chat(seed=seed), **KEPT))
            answer = read_response(sock)
            assert (answer.status, answer.json()["echo"]["seed"]) == (200, seed)
            assert "connection" not in answer.headers
        sock.sendall(request(chat(stream=True), **KEPT))
        assert read_response(sock).body.endswith(b"data: [DONE]\n\n")
        sock.sendall(request(chat()))
        assert read_response(sock).headers["connection"] == "close"
        assert _rest_of(sock) == b""


def test_an_older_client_is_not_kept(edge: Edge) -> None:
    """The connection of a client that speaks HTTP/1.0 ends with the answer."""
    with edge.connect() as sock:
        sock.sendall(request(chat(), **KEPT).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert read_response(sock).headers["connection"] == "close"
        assert _rest_of(sock) == b""


def test_a_head_has_no_body(edge: Edge) -> None:
    """The answer to HEAD says how long a body would be, and the next answer follows at once."""
    with edge.connect() as sock:
        sock.sendall(UNKNOWN.replace(b"GET", b"HEAD") + request(chat()))
        data = _rest_of(sock)
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"content-length: 0" not in head
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is asked any more is closed; one in use is not, however long its
    request takes."""
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.2)
    with running_edge(config_with()) as edge, edge.connect() as idle, edge.connect() as busy:
        for sock in (idle, busy):
            sock.sendall(UNKNOWN)
            assert read_response(sock).status == 404
        busy.sendall(request(chat("slow"), **KEPT))
        assert _rest_of(idle) == b""
        assert len(edge.server.server_state.connections) == 1
        assert edge.router.running == 1
        busy.close()
        wait_for(lambda: not edge.server.server_state.connections)


def test_a_fault_of_the_application_is_an_answer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug outside what answers calls gives 500 in the wire's shape, and a log line without its text."""

    prompt = "tell nobody"

    async def broken(*_: object) -> None:
        raise ValueError(prompt)

    monkeypatch.setattr(edge.server.edge, "_post", broken)
    answer = edge.post(chat())
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["code"] == "internal_error"
    assert answer.headers["connection"] == "close"
    assert "ValueError" in caplog.text
    assert prompt not in caplog.text
