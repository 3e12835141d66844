"""Errors from before a request is read have the shape of the wire that its caller speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import anthropic
import pytest

from .harness import Edge, Response, config_with, read_response, request, running_edge

MAX_HEAD = 4_096
MAX_BODY = 100_000
PAGE = "https://app.example"
PATHS = ("/v1/messages", "/v1/messages/count_tokens", "/messages", "/v1/v1/messages")
VERSION = {"anthropic_version": "2023-06-01"}


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with small limits, which a page may call."""
    limits = {"max_header_bytes": MAX_HEAD, "max_body_bytes": MAX_BODY, "body_timeout_s": 0.5}
    with running_edge(config_with(allow_origins=[PAGE], **limits)) as running:
        yield running


def problem(answer: Response) -> tuple[int, str, str]:
    """Status, type and code of an error in Anthropic's shape."""
    body = answer.json()
    assert body["type"] == "error"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    return answer.status, body["error"]["type"], body["error"]["code"]


@pytest.mark.parametrize("path", PATHS)
def test_by_path(edge: Edge, path: str) -> None:
    """The path is enough, however it is spelled."""
    large = request({}, path, content_length=str(MAX_BODY + 1))
    long_head = request({}, path, x_long="x" * MAX_HEAD)
    twice = request({}, path, api_key="a").replace(b"api-key: a", b"api-key: a\r\napi-key: b")
    get = edge.get(path)

    kind = "invalid_request_error"
    assert problem(edge.send(large)) == (413, "request_too_large", "request_too_large")
    assert problem(edge.send(long_head)) == (431, kind, "request_head_too_large")
    assert problem(edge.send(twice)) == (400, kind, "repeated_header")
    assert problem(edge.post(b"{", path)) == (400, kind, "invalid_json")
    assert problem(edge.post(b"{}", path, content_type="text/plain"))[0] == 415
    assert problem(get) == (405, kind, "method_not_allowed")
    assert get.headers["allow"] == "POST"


def test_by_path_when_the_rest_never_comes(edge: Edge) -> None:
    """A request that trickles in is answered by what arrived of it."""
    for start in (b"POST /v1/messages HTTP/1.1\r\n", request(b"{", PATHS[0], content_length="9")):
        with edge.connect() as sock:
            sock.sendall(start)
            assert problem(read_response(sock))[::2] == (408, "request_timeout")


@pytest.mark.parametrize(
    "path", ["/v1/complete", "/api/event_logging/v2/batch", "/nowhere", "/metrics", "/v1/models"]
)
def test_by_header(edge: Edge, path: str) -> None:
    """On other paths, `anthropic-version` says it."""
    answer = edge.post(b"{}", path, **VERSION)
    assert problem(answer)[0] in (404, 405)
    large = request({}, path, **VERSION, content_length=str(MAX_BODY + 1))
    assert problem(edge.send(large))[0] == 413


def test_a_wrong_key_by_header(edge: Edge) -> None:
    """The list of models has no wire of its own."""
    answer = edge.get("/v1/models", x_api_key="slk_wrong", **VERSION)
    assert problem(answer) == (401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/complete", "/nowhere"])
def test_everybody_else_gets_openais(edge: Edge, path: str) -> None:
    """As before."""
    large = edge.send(request({}, path, content_length=str(MAX_BODY + 1)))

    assert large.error["code"] == "request_too_large"
    assert "request-id" not in large.headers


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_claude_code_says_hello(edge: Edge, method: str) -> None:
    """It opens its connection with that, before it has anything to ask."""
    head = f"{method} /api/hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    assert edge.send(head.encode()).status == 200


def test_a_page_with_anthropics_client(edge: Edge) -> None:
    """The browser allows the headers that the client sends, and shows it the request's id."""
    client = anthropic.Anthropic(api_key="k", default_headers={"anthropic-beta": "b"})
    names = {*client.default_headers, "x-api-key", "anthropic-dangerous-direct-browser-access"}
    sent = ",".join(sorted(name.lower() for name in names))
    preflight = request(
        b"",
        "/v1/messages",
        origin=PAGE,
        access_control_request_method="POST",
        access_control_request_headers=sent,
    )

    allowed = edge.send(preflight.replace(b"POST", b"OPTIONS", 1))
    answer = edge.post(b"{}", "/v1/messages", origin=PAGE)

    assert allowed.status == 200
    listed = allowed.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    assert {"x-api-key", "anthropic-version", "anthropic-beta"} <= set(listed)
    assert set(sent.split(",")) <= set(listed)
    assert "request-id" in answer.headers["access-control-expose-headers"].split(", ")
    assert json.loads(answer.body)["type"] == "error"
