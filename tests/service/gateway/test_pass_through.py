"""Requests to a provider's own endpoints: where they go, what goes along, and what they cost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.endpoints import Site
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at
from tests.support.piecewise import Pieces, piecewise
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider

KEY = "sk-provider-secret-0123456789"
MAY = ("free", "rich")
HELLO: Any = [{"role": "user", "content": "hello"}]


def site_of(
    folder: Path, models: list[dict[str, Any]], **gateway: Any
) -> contextlib.AbstractContextManager[Site]:
    """A gateway with these deployments; the keys of `MAY` may pass requests through."""
    ledger = folder / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {
        name: records.create_key(name, "", [], 1, pass_through=name in MAY)[0]
        for name in (*MAY, "plain", "capped")
    }
    keys["narrow"] = records.create_key("narrow", "", ["second"], 1, pass_through=True)[0]
    keys["spent"] = records.create_key("spent", "", [], 1, pass_through=True)[0]
    records.set_budgets(
        [
            Budget("rich-daily", "customer", "rich", 10**15, "day"),
            Budget("capped-daily", "customer", "capped", 10**15, "day"),
            Budget("spent-daily", "customer", "spent", 0, "day"),
        ],
        1,
    )
    records.close()
    config = parse_config(
        {
            "model_list": models,
            "router_settings": {"num_retries": 0, "cooldown_time": 0},
            "gateway": {"port": 0, "total_timeout_s": 20, **gateway},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )

    @contextlib.contextmanager
    def running() -> Iterator[Site]:
        with Running(config) as url:
            yield Site(url, "", ledger, keys)

    return running()


def entry(route: str, model: str, base: str, **params: Any) -> dict[str, Any]:
    """A deployment."""
    given = {"model": model, "api_base": base, "api_key": KEY, **params}
    return {"model_name": route, "litellm_params": given, "model_info": {"id": f"d-{route}"}}


@pytest.fixture(scope="module")
def provider() -> Iterator[RawProvider]:
    """A provider that answers what a test says."""
    with raw_provider(lambda _request: Sent()) as found:
        yield found


@pytest.fixture(scope="module")
def raw(provider: RawProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway in front of it, with two deployments of one provider, and one that LiteLLM serves."""
    models = [
        entry("first", "openai/gpt-4o-mini", f"{provider.url}/base/v1"),
        entry("second", "openai/gpt-4o", f"{provider.url}/other/v1"),
        entry("claude", "anthropic/claude-haiku-4-5", provider.url),
        entry("azure", "azure/gpt-4o", f"{provider.url}/openai/deployments/gpt-4o?api-version=7"),
    ]
    with site_of(tmp_path_factory.mktemp("raw"), models, pass_through="all") as site:
        yield site


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "provider" in request.fixturenames:
        found = request.getfixturevalue("provider")
        found.received.clear()
        found.answer = lambda _request: Sent()


def ask(
    site: Site,
    method: str,
    path: str,
    body: bytes | None = None,
    key: str = "free",
    **headers: str,
) -> tuple[HTTPResponse, bytes]:
    """Send a path as it is written; header names with underscores for dashes."""
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        named["authorization"] = f"Bearer {site.keys[key]}"
    with contextlib.closing(connection):
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer, answer.read()


def rows(site: Site) -> list[dict[str, Any]]:
    """The attempts of requests that were passed through, oldest first, once all have ended."""
    query = (
        "SELECT a.*, r.outcome FROM attempts a JOIN requests r USING (request_id)"
        " WHERE r.operation = 'pass_through' ORDER BY a.started_ns"
    )
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        connection.row_factory = sqlite3.Row

        def all_ended() -> bool:
            running = "SELECT count(*) FROM requests WHERE ended_ns IS NULL"
            return bool(connection.execute(running).fetchone()[0] == 0)

        wait_for(all_ended)
        return [dict(row) for row in connection.execute(query)]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
def test_any_method_any_body(raw: Site, provider: RawProvider, method: str) -> None:
    """Method, path, query and body arrive as they were sent, and so does the answer."""
    said = b'{"object":"list"}'
    provider.answer = lambda _request: Sent(200, said, headers=(("x-kept", "1"),))
    body = b"\x00\xffbytes" if method in ("POST", "PUT", "PATCH") else None

    answer, got = ask(
        raw, method, "/v1/openai/fine_tuning/jobs/ftjob-1/events?limit=2&after=a%2Fb", body
    )

    (request,) = provider.received
    assert request.method == method
    assert request.path == "/base/v1/fine_tuning/jobs/ftjob-1/events?limit=2&after=a%2Fb"
    assert request.body == (body or b"")
    assert (answer.status, answer.headers["x-kept"]) == (200, "1")
    assert got == (b"" if method == "HEAD" else said)
    assert answer.headers["x-spanledger-deployment"] == "d-first"
    row = rows(raw)[-1]
    detail = json.loads(row["detail"])
    assert detail["http.request.method"] == method
    assert detail["url.template"] == "/fine_tuning/jobs/{id}/events"
    assert (row["state"], row["cost_nano"], row["unpriced"]) == ("settled", 0, 0)


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/v1/openai/v1/models", "/base/v1/models"),
        ("/v1/openai/v2/models", "/base/v2/models"),
        ("/v1/anthropic/v1/models", "/v1/models"),
        ("/v1/azure/chat?x=1", "/openai/deployments/gpt-4o/chat?x=1&api-version=7"),
        ("/v1/azure/chat?api-version=8", "/openai/deployments/gpt-4o/chat?api-version=8"),
    ],
)
def test_where_a_path_goes(raw: Site, provider: RawProvider, path: str, arrives: str) -> None:
    """A path goes behind its provider's address; a version in both stands there once."""
    assert ask(raw, "GET", path)[0].status == 200
    assert provider.received[0].path == arrives


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/openai/../admin", "/v1/openai/%2e%2e/admin", "/v1/openai/a/.%2E/b"),
        *("/v1/openai/%252e%252e/x", "/v1/openai/a%2fb", "/v1/openai/a%252Fb", "/v1/openai/a%5cb"),
        *("/v1/openai//evil.example/x", "/v1/openai/a//b", "/v1/openai/a\\b", "/v1/openai/a/"),
        *("/v1/openai/a%0d%0ahost:evil", "/v1/openai/" + "a/" * 20 + "b", "/v1/openai/a%zz"),
    ],
)
def test_paths_with_two_meanings(raw: Site, provider: RawProvider, path: str) -> None:
    """A path that could leave the deployment's address is refused, and nothing is sent."""
    answer, body = ask(raw, "GET", path)
    assert answer.status == 400
    assert json.loads(body)["error"]["code"] == "invalid_path"
    assert provider.received == []


def test_an_address_in_the_path_is_a_path(raw: Site, provider: RawProvider) -> None:
    """`@` and `:` in a path do not make it another host's."""
    answer, _ = ask(raw, "GET", "/v1/openai/@evil.example:80")
    assert answer.status == 200
    assert provider.received[0].path == "/base/v1/@evil.example:80"


def test_headers_of_a_request(raw: Site, provider: RawProvider) -> None:
    """What says who is calling stays here; what says something of the request goes on."""
    ask(
        raw,
        "POST",
        "/v1/openai/things",
        b"{}",
        content_type="application/json",
        openai_beta="assistants=v2",
        cookie="session=1",
        openai_organization="org-of-somebody",
        x_forwarded_for="10.0.0.1",
        x_goog_api_key=raw.keys["free"],
        x_unknown=f"key {raw.keys['free']}",
        traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
        connection="x-of-the-connection",
        x_of_the_connection="1",
        accept_encoding="gzip",
    )
    sent = provider.received[0].headers
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["openai-beta"] == "assistants=v2"
    assert sent["content-type"] == "application/json"
    assert sent["accept-encoding"] == "identity"
    assert not any(raw.keys["free"] in value for value in sent.values())
    gone = {"cookie", "openai-organization", "x-forwarded-for", "traceparent", "x-goog-api-key"}
    assert sent.keys().isdisjoint({*gone, "x-unknown", "x-of-the-connection"})


def test_anthropics_headers(raw: Site, provider: RawProvider) -> None:
    """Anthropic gets its key in its own header, and a version where the caller sends none."""
    ask(raw, "GET", "/v1/anthropic/v1/messages/batches")
    ask(raw, "GET", "/v1/anthropic/v1/messages/batches", anthropic_version="2099-01-01")
    first, second = (request.headers for request in provider.received)
    assert (first["x-api-key"], first["anthropic-version"]) == (KEY, "2023-06-01")
    assert second["anthropic-version"] == "2099-01-01"
    assert "authorization" not in first


def test_a_key_in_the_query(raw: Site, provider: RawProvider) -> None:
    """A key of ours in the query is refused: the provider would get it."""
    answer, _ = ask(raw, "GET", f"/v1/openai/models?key={raw.keys['free']}")
    assert answer.status == 400
    assert provider.received == []


def test_our_key_never_comes_back(raw: Site, provider: RawProvider) -> None:
    """A provider that repeats what it was sent does not tell the caller our key."""

    def echo(request: Received) -> Sent:
        headers = (("x-echo", request.headers["authorization"]), ("set-cookie", "a=b"))
        return Sent(
            200, f"you sent {request.headers['authorization']}!".encode(), "text/plain", headers
        )

    provider.answer = echo
    answer, body = ask(raw, "GET", "/v1/openai/echo")
    assert KEY not in str(answer.headers)
    assert "set-cookie" not in answer.headers
    assert body == b"you sent Bearer " + b"*" * len(KEY) + b"!"

    def refuse(request: Received) -> Sent:
        message = f"no such thing for {request.headers['authorization'][:20]}"
        return Sent(404, json.dumps({"error": {"message": message}}).encode())

    provider.answer = refuse
    answer, body = ask(raw, "GET", "/v1/openai/echo")
    assert answer.status == 404
    assert KEY[:12].encode() not in body


def test_our_key_is_not_the_callers_fault(raw: Site, provider: RawProvider) -> None:
    """A provider that refuses our key is a fault of the gateway, not 401 to a caller whose key is good."""
    provider.answer = lambda _request: Sent(401, b'{"error":{"message":"Incorrect API key"}}')
    answer, body = ask(raw, "GET", "/v1/openai/models")
    assert answer.status == 502
    assert json.loads(body)["error"]["code"] == "authentication_failed"


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
def test_refusals_pass(raw: Site, provider: RawProvider, status: int) -> None:
    """A provider's refusal reaches the caller as it is, costs nothing, and is not tried elsewhere."""
    said = b'{"error":{"message":"no","type":"t","code":"c"}}'
    provider.answer = lambda _request: Sent(status, said, headers=(("retry-after", "7"),))
    answer, body = ask(raw, "POST", "/v1/openai/things", b"{}")
    assert (answer.status, body) == (status, said)
    assert answer.headers["retry-after"] == "7"
    assert len(provider.received) == 1
    row = rows(raw)[-1]
    assert (row["state"], row["http_status"], row["outcome"]) == ("released", status, "error")


def test_redirects_are_the_callers(raw: Site, provider: RawProvider) -> None:
    """A redirect is never followed with our key; one within the provider leads back to us."""
    for there, back in (
        (f"{provider.url}/base/v1/files/f/content?x=1", "/v1/openai/files/f/content?x=1"),
        ("https://storage.example/signed?sig=1", "https://storage.example/signed?sig=1"),
        ("/elsewhere", "/elsewhere"),
    ):
        provider.answer = lambda _request, there=there: Sent(  # type: ignore[misc]  # bound in the loop
            302, b"", headers=(("location", there),)
        )
        answer, _ = ask(raw, "GET", "/v1/openai/files/f")
        assert (answer.status, answer.headers["location"]) == (302, back)
    assert {request.path for request in provider.received} == {"/base/v1/files/f"}


def test_which_deployment(raw: Site, provider: RawProvider) -> None:
    """The provider's first deployment is called, the one a header names, or one that the key may use."""
    ask(raw, "GET", "/v1/openai/models", x_spanledger_deployment="d-second")
    ask(raw, "GET", "/v1/openai/models", key="narrow")
    assert [r.path for r in provider.received] == ["/other/v1/models"] * 2
    for wanted in ("d-claude", "nothing"):
        answer, body = ask(raw, "GET", "/v1/openai/models", x_spanledger_deployment=wanted)
        assert (answer.status, json.loads(body)["error"]["code"]) == (404, "deployment_not_found")
    answer, _ = ask(
        raw, "GET", "/v1/openai/models", key="narrow", x_spanledger_deployment="d-first"
    )
    assert answer.status == 404


def test_what_is_no_provider(raw: Site) -> None:
    """A path below a name that no deployment is of is unknown, and a key is needed for one that is."""
    assert ask(raw, "GET", "/v1/cohere/v2/rerank")[0].status == 404
    answer, body = ask(raw, "GET", "/v1/gemini/models")
    assert answer.status == 404
    assert b"add one to model_list" in body
    assert ask(raw, "GET", "/v1/openai")[0].status == 404
    assert ask(raw, "GET", "/v1/openai/models", key="")[0].status == 401


def test_websockets_and_other_methods(raw: Site, provider: RawProvider) -> None:
    """What cannot be passed on is refused in so many words."""
    answer, body = ask(
        raw,
        "GET",
        "/v1/openai/realtime?model=x",
        connection="Upgrade",
        upgrade="websocket",
        sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
        sec_websocket_version="13",
    )
    assert (answer.status, json.loads(body)["error"]["code"]) == (501, "websocket_unsupported")
    assert ask(raw, "TRACE", "/v1/openai/models")[0].status == 405
    assert provider.received == []


def test_a_blocking_budget(raw: Site, provider: RawProvider) -> None:
    """Where a budget blocks, only a key that is allowed to may send what nothing bounds."""
    answer, body = ask(raw, "POST", "/v1/openai/things", b"{}", key="capped")
    assert (answer.status, json.loads(body)["error"]["code"]) == (400, "unbounded_cost")
    assert "--allow-pass-through" in json.loads(body)["error"]["message"]
    answer, body = ask(raw, "POST", "/v1/openai/things", b"{}", key="spent")
    assert (answer.status, json.loads(body)["error"]["code"]) == (429, "budget_exceeded")
    assert provider.received == []
    assert ask(raw, "POST", "/v1/openai/things", b"{}", key="rich")[0].status == 200
    assert ask(raw, "POST", "/v1/openai/things", b"{}", key="plain")[0].status == 200


@pytest.mark.parametrize("allowed", ["off", "keys"])
def test_the_setting(tmp_path: Path, provider: RawProvider, allowed: str) -> None:
    """`off` lets nobody through, `keys` those keys that are allowed to."""
    models = [entry("first", "openai/gpt-4o-mini", f"{provider.url}/v1")]
    with site_of(tmp_path, models, pass_through=allowed) as site:
        assert ask(site, "GET", "/v1/openai/models", key="plain")[0].status == 403
        good = ask(site, "GET", "/v1/openai/models", key="free")[0].status
    assert good == (403 if allowed == "off" else 200)


@pytest.fixture(scope="module")
def sim_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway in front of the simulator."""
    with sim_in_thread() as sim:
        models = [
            entry("chat", "openai/gpt-4o-mini", f"{sim.url}/v1"),
            entry("claude", "anthropic/claude-haiku-4-5", sim.url),
        ]
        with site_of(tmp_path_factory.mktemp("sim"), models) as site:
            yield Site(site.url, sim.url, site.ledger, site.keys)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses", "embeddings", "messages"])
def test_usage_is_priced(sim_site: Site, api: str, *, stream: bool) -> None:
    """An answer with usage in a known form costs what the provider bills, whole and streamed."""
    before = sim_site.billed_nano()
    key = sim_site.keys["rich"]
    base = f"{sim_site.url}/v1"
    with openai.OpenAI(base_url=f"{base}/openai", api_key=key) as client:
        answer: Any
        if api == "chat":
            more = {"stream_options": {"include_usage": True}} if stream else {}
            answer = client.chat.completions.create(  # type: ignore[call-overload]  # not literal
                model="gpt-4o-mini", messages=HELLO, stream=stream, **more
            )
        elif api == "responses":
            answer = client.responses.create(model="gpt-4.1", input="hello", stream=stream)
        elif api == "embeddings":
            answer = client.embeddings.create(model="text-embedding-3-small", input="hello")
        else:
            with anthropic.Anthropic(base_url=f"{sim_site.url}/v1/anthropic", api_key=key) as other:
                answer = other.messages.create(
                    model="claude-haiku-4-5",
                    max_tokens=64,
                    messages=HELLO,
                    stream=stream,
                )
                answer = list(answer) if stream else answer
        if stream and api in ("chat", "responses"):
            assert list(answer)
    row = rows(sim_site)[-1]
    assert row["cost_nano"] == sim_site.billed_nano() - before > 0
    assert row["input_tokens"] > 0
    assert row["price_id"]
    assert (row["estimated"], row["unpriced"]) == (0, 0)
    assert row["model"] not in ("other", "")


def test_an_unknown_model(sim_site: Site) -> None:
    """A model that nothing prices is `other` in rows and metrics, and its usage is unpriced."""
    body = json.dumps({"model": "mine-own", "messages": HELLO}).encode()
    ask(sim_site, "POST", "/v1/openai/chat/completions", body, content_type="application/json")
    row = rows(sim_site)[-1]
    assert (row["model"], row["cost_nano"], row["unpriced"]) == ("other", 0, 1)
    assert row["input_tokens"] > 0


def test_pieces_pass_unbuffered(tmp_path: Path) -> None:
    """Each piece of a body reaches the provider, and each of the answer the caller, before the next."""
    with piecewise() as server:
        models = [entry("first", "openai/gpt-4o-mini", f"{server.url}/v1")]
        with site_of(tmp_path, models) as site:
            host = urlsplit(site.url)
            connection = HTTPConnection(host.netloc, timeout=10)
            with contextlib.closing(connection):
                connection.putrequest("POST", "/v1/openai/audio")
                connection.putheader("authorization", f"Bearer {site.keys['free']}")
                connection.putheader("transfer-encoding", "chunked")
                connection.endheaders()
                for piece in (b"one", b"two"):
                    connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    wait_for(lambda piece=piece: server.body.endswith(piece))  # type: ignore[misc]  # bound in the loop
                connection.send(b"0\r\n\r\n")
                server.send(b"first")
                answer = connection.getresponse()
                assert answer.read1(5) == b"first"
                server.send(b"second")
                assert answer.read1(6) == b"second"
                server.finish()
                assert answer.read() == b""


def test_an_answer_that_breaks_off(tmp_path: Path) -> None:
    """A caller can tell an answer that broke off from a complete one."""
    with piecewise() as server:
        models = [entry("first", "openai/gpt-4o-mini", f"{server.url}/v1")]
        with site_of(tmp_path, models) as site:
            request = urllib.request.Request(
                f"{site.url}/v1/openai/things",
                headers={"authorization": f"Bearer {site.keys['free']}"},
            )
            server.send(b"half")
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.read1(4) == b"half"
                server.break_off()
                with pytest.raises((IncompleteRead, ConnectionError)):
                    answer.read()
            row = rows(site)[-1]
    assert (row["error_type"], row["outcome"]) == ("stream_interrupted", "error")


def test_a_caller_that_leaves(tmp_path: Path) -> None:
    """When the caller disconnects, the call to the provider ends, and the row says so."""
    with piecewise() as server:
        models = [entry("first", "openai/gpt-4o-mini", f"{server.url}/v1")]
        with site_of(tmp_path, models) as site:
            connection = HTTPConnection(urlsplit(site.url).netloc, timeout=10)
            headers = {"authorization": f"Bearer {site.keys['free']}"}
            connection.request("GET", "/v1/openai/things", headers=headers)
            server.send(b"half")
            assert connection.getresponse().read1(4) == b"half"
            connection.close()
            wait_for(lambda: left(server))
            row = rows(site)[-1]
    assert (row["error_type"], row["outcome"]) == ("cancelled", "cancelled")


def left(server: Pieces) -> bool:
    """Whether the gateway has closed its connection."""
    return server.closed
