"""Providers that pass back what HTTP does not allow, or allows and few expect."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.gateway.endpoints import Site
from tests.service.gateway.test_pass_through import ask, entry, rows, site_of

PATH = "/v1/openai/files/file-1"


class Bytes:
    """A provider that answers every request with the same bytes, and keeps its connections open."""

    def __init__(self) -> None:
        self.answer = b""
        self.requests: list[bytes] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a free port."""
        state = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data = b""
                while more := self.request.recv(65_536):
                    data += more
                    if b"\r\n\r\n" in data:
                        state.requests.append(data)
                        data = b""
                        self.request.sendall(state.answer)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        with Server(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
            server.shutdown()


@pytest.fixture(scope="module")
def provider() -> Bytes:
    return Bytes()


@pytest.fixture(scope="module")
def site(provider: Bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("odd")
    with (
        provider.running() as url,
        site_of(
            folder,
            [
                entry("first", "openai/gpt-4o-mini", url),
                entry("azure", "azure/gpt-4o", url.replace("/v1", "/openai/deployments/gpt-4o")),
            ],
            pass_through="all",
            stream_idle_timeout_s=30,
        ) as found,
    ):
        yield found


def test_a_missing_thing_asked_for_with_head(site: Site, provider: Bytes) -> None:
    """A refusal of HEAD has a length and no body, so there is nothing to wait for."""
    provider.answer = (
        b"HTTP/1.1 404 X\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n"
    )

    answer, body = ask(site, "HEAD", PATH)

    assert (answer.status, body) == (404, b"")
    assert answer.headers["content-length"] == "90"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(
    site: Site, provider: Bytes, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """204 and 304 have no body, whatever length they tell."""
    provider.answer = b"HTTP/1.1 %d X\r\netag: x\r\ncontent-length: 90\r\n\r\n" % status

    answer, body = ask(site, "GET", PATH)

    assert (answer.status, body, answer.headers["etag"]) == (status, b"", "x")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert rows(site)[-1]["outcome"] == "ok"


@pytest.mark.parametrize("status", [b"099", b"600", b"999"])
def test_statuses_that_do_not_exist(site: Site, provider: Bytes, status: bytes) -> None:
    """A status that HTTP does not have is a fault of the provider, and is told as such."""
    provider.answer = b"HTTP/1.1 %b X\r\ncontent-length: 2\r\n\r\n{}" % status

    answer, body = ask(site, "GET", PATH)

    assert (answer.status, b"malformed_response" in body) == (502, True)
    assert rows(site)[-1]["error_type"] == "malformed_response"


@pytest.mark.parametrize("value", [b"a\x00b", b"a\x01set-cookie: b", b"a\x1bb", b"a\x7fb"])
def test_control_characters_in_headers(site: Site, provider: Bytes, value: bytes) -> None:
    """A header that could be read as two is not passed back; the rest of the answer is."""
    provider.answer = b"HTTP/1.1 200 OK\r\nx-odd: %b\r\ncontent-length: 2\r\n\r\n{}" % value

    answer, body = ask(site, "GET", PATH)

    assert (answer.status, body, answer.headers["x-odd"]) == (200, b"{}", None)


def test_a_lone_carriage_return_in_a_header(site: Site, provider: Bytes) -> None:
    """What some read as the end of a line does not make a header of its own."""
    provider.answer = b"HTTP/1.1 200 OK\r\nx-odd: a\rset-cookie: b\r\ncontent-length: 2\r\n\r\n{}"

    answer, _ = ask(site, "GET", PATH)

    assert answer.headers["set-cookie"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/azure/chat/completions",
        "/v1/openai/deployments/gpt-4o/chat/completions",
        "/v1/openai/models/gpt%2D4o:generate",
    ],
)
def test_the_address_names_the_model(site: Site, provider: Bytes, path: str) -> None:
    """Where an address names the model, the provider ignores another one in the body, and so do its
    price and row."""
    usage = {"prompt_tokens": 1_000, "completion_tokens": 1_000, "total_tokens": 2_000}
    body = json.dumps({"usage": usage}).encode()
    kind = b"content-type: application/json"
    provider.answer = (
        b"HTTP/1.1 200 OK\r\n%b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body
    )

    ask(site, "POST", path, b'{"model": "gpt-4o-mini"}')

    row = rows(site)[-1]
    assert (row["model"], row["cost_nano"]) == ("gpt-4o", 12_500_000)
