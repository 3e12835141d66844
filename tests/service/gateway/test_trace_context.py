"""Trace context goes on to deployments whose configuration says so, and to no other."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from spanledger.config import parse_config
from spanledger.errors import ConfigError
from spanledger.routing.plan import Plan
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider

from .harness import import_litellm, wait_for
from .test_clients import Running
from .test_count_tokens import MESSAGE
from .test_strange_providers import completion

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-"
STATE = "vendor=a1,other=b2"
HELLO = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}


def answer(request: Received) -> Sent:
    """An answer in the wire of the path; a route whose model is `bad` always fails."""
    if request.json()["model"] == "bad":
        return Sent(500)
    whole: Any = MESSAGE if request.path.endswith("/messages") else completion()
    return Sent(body=json.dumps(whole).encode())


@dataclass
class Site:
    """A gateway at a raw provider."""

    url: str
    ledger: Path
    provider: RawProvider

    def ask(self, route: str, path: str = "/v1/chat/completions", **headers: str) -> list[Received]:
        """Send a request; what the provider was sent for it."""
        before = len(self.provider.received)
        body = {"model": route, **HELLO}
        reply = httpx.post(self.url + path, json=body, headers=headers, timeout=20)
        assert reply.status_code == 200, reply.text
        return self.provider.received[before:]

    def spans(self) -> list[tuple[str, str]]:
        """Trace and span ids of the last request's attempts, in order."""
        query = (
            "SELECT r.trace_id, a.span_id FROM attempts a JOIN requests r USING (request_id)"
            " WHERE r.request_id = (SELECT max(request_id) FROM requests) ORDER BY a.number"
        )
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return list(connection.execute(query))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Routes that forward the trace context, and one that does not."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    import_litellm()  # which serves the route `far`
    with raw_provider(answer) as provider:

        def entry(route: str, model: str, *, forward: bool = True) -> dict[str, Any]:
            params = {"model": model, "api_key": "k"}
            params["api_base"] = provider.url + ("" if "anthropic" in model else "/v1")
            info = {"forward_trace_context": True} if forward else {}
            return {"model_name": route, "litellm_params": params, "model_info": info}

        config = parse_config(
            {
                "model_list": [
                    entry("ours", "openai/m"),
                    entry("claude", "anthropic/claude-haiku-4-5"),
                    entry("wild-*", "openai/*"),
                    entry("far", "baseten/m"),
                    entry("theirs", "openai/m", forward=False),
                    entry("failing", "openai/bad"),
                ],
                "router_settings": {"fallbacks": [{"failing": ["ours"]}]},
                "gateway": {"port": 0},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, ledger, provider)


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("ours", "/v1/chat/completions"),
        ("ours", "/v1/messages"),
        ("claude", "/v1/messages"),
        ("claude", "/v1/chat/completions"),
        ("wild-m", "/v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_attempts_span_is_the_parent(site: Site, route: str, path: str, flags: str) -> None:
    """In the caller's trace, with its state and its decision about sampling, on every wire."""
    (sent,) = site.ask(route, path, traceparent=CALLER + flags, tracestate=STATE)

    wait_for(lambda: bool(site.spans()))
    ((trace_id, span_id),) = site.spans()
    assert trace_id == TRACE
    assert sent.headers["traceparent"] == f"00-{TRACE}-{span_id}-{flags}"
    assert sent.headers["tracestate"] == STATE


@pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning")
def test_litellm_sends_it_too(site: Site) -> None:
    """For deployments that only LiteLLM serves."""
    (sent,) = site.ask("far", traceparent=CALLER + "01", tracestate=STATE)

    ((_, span_id),) = site.spans()
    assert sent.headers["traceparent"] == f"00-{TRACE}-{span_id}-01"
    assert sent.headers["tracestate"] == STATE


def test_each_attempt_is_a_parent_of_its_own(site: Site) -> None:
    """A fallback's spans belong to the fallback."""
    sent = site.ask("failing", traceparent=CALLER + "01")

    parents = [f"00-{trace}-{span}-01" for trace, span in site.spans()]
    assert [request.headers["traceparent"] for request in sent] == parents
    assert len(set(parents)) == 2


def test_a_caller_without_a_trace(site: Site) -> None:
    """The trace is ours. A state without a trace belongs to nothing, and is not sent."""
    (sent,) = site.ask("ours", tracestate=STATE)

    ((trace_id, span_id),) = site.spans()
    assert sent.headers["traceparent"] == f"00-{trace_id}-{span_id}-01"
    assert "tracestate" not in sent.headers


def test_a_state_that_is_too_long_is_left_out(site: Site) -> None:
    """The rest of the context goes on."""
    (sent,) = site.ask("ours", traceparent=CALLER + "01", tracestate="a=" + "x" * 600)

    assert TRACE in sent.headers["traceparent"]
    assert "tracestate" not in sent.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_strangers_learn_nothing(site: Site, path: str) -> None:
    """By default, no provider learns of the traces of a caller."""
    (sent,) = site.ask("theirs", path, traceparent=CALLER + "01", tracestate=STATE)

    assert not {"traceparent", "tracestate"} & sent.headers.keys()


def test_in_the_wrong_section_it_is_refused() -> None:
    """There it would be a field of every request."""
    params = {"model": "openai/m", "api_key": "k", "forward_trace_context": True}
    config = parse_config(
        {"model_list": [{"model_name": "a", "litellm_params": params}]}, {}, "test"
    )

    with pytest.raises(ConfigError, match="belongs under model_info"):
        Plan.from_config(config)
