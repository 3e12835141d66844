"""Token counting: by the provider where it can, by us elsewhere; free, and never in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam

from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.support.ledgers import store_at
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider

from .test_clients import Running
from .test_messages import CLEARING, HELLO, THINKING, WEATHER, Site, configuration

LONG: list[MessageParam] = [{"role": "user", "content": "Say hello, please. " * 200}]
ESTIMATED = "x-spanledger-estimated"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 2},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway at the simulator; the key `narrow` may use one route."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {"rich": records.create_key("rich", "", [], 1)[0]}
    keys["narrow"] = records.create_key("narrow", "", ["gpt"], 1)[0]
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield Site(url, sim.url, ledger, keys)


def counted(site: Site, route: str, **more: Any) -> tuple[int, dict[str, str]]:
    """A count by the real client, and the headers it came with."""
    more.setdefault("messages", HELLO)
    with site.messages() as client:
        raw = client.messages.with_raw_response.count_tokens(model=route, **more)
        return raw.parse().input_tokens, dict(raw.headers)


@pytest.mark.parametrize(
    "more",
    [
        {"system": "Be brief."},
        {"tools": [WEATHER]},
        {"thinking": THINKING},
    ],
)
def test_the_provider_counts(site: Site, more: dict[str, Any]) -> None:
    """The count is that of the request itself, free of charge and without a row."""
    before = len(site.billed()), len(site.rows("request_id"))

    tokens, headers = counted(site, "claude", **more)

    assert (len(site.billed()), len(site.rows("request_id"))) == before
    assert headers["x-spanledger-deployment"] == "d-claude"
    assert headers["request-id"] == headers["x-request-id"]
    assert ESTIMATED not in headers
    with site.messages() as client:
        usage = client.messages.create(
            model="claude", messages=HELLO, max_tokens=2000, **more
        ).usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    assert tokens == usage.input_tokens + cached


@pytest.mark.parametrize("route", ["gpt", "second"])
def test_elsewhere_it_is_an_estimate(site: Site, route: str) -> None:
    """And says so."""
    tokens, headers = counted(site, route, system="Be brief.", tools=[WEATHER])
    longer, _ = counted(site, route, messages=LONG)

    assert headers[ESTIMATED] == "true"
    assert "x-spanledger-deployment" not in headers
    assert 0 < tokens < longer


def test_a_deployments_defaults_are_not_sent(site: Site) -> None:
    """They have no part in the input."""
    tokens, headers = counted(site, "preset")

    assert tokens > 0
    assert ESTIMATED not in headers


def test_the_beta_of_it(site: Site) -> None:
    """`?beta=true`, with fields and headers of a beta."""
    with site.messages() as client:
        found = client.beta.messages.count_tokens(
            model="claude",
            messages=[{"role": "user", "content": "Hello"}],
            thinking=THINKING,
            betas=["context-management-2025-06-27"],
            context_management=CLEARING,
        )

    assert found.input_tokens > 0


@pytest.mark.parametrize(
    ("key", "route", "error", "kind"),
    [
        ("narrow", "claude", anthropic.PermissionDeniedError, "permission_error"),
        ("rich", "nobody", anthropic.NotFoundError, "not_found_error"),
        ("none", "claude", anthropic.AuthenticationError, "authentication_error"),
    ],
)
def test_callers_are_checked(
    site: Site, key: str, route: str, error: type[anthropic.APIStatusError], kind: str
) -> None:
    """As for a message."""
    api_key = site.keys.get(key, "slk_unknown")
    client = anthropic.Anthropic(base_url=site.url, api_key=api_key, max_retries=0)
    with client, pytest.raises(error) as caught:
        client.messages.count_tokens(model=route, messages=HELLO)
    assert caught.value.type == kind


@pytest.mark.parametrize("body", [{"model": "claude"}, {"messages": HELLO}, []])
def test_a_bad_request_is_refused(site: Site, body: object) -> None:
    """With what is missing, in Anthropic's shape."""
    with site.messages() as client, pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages/count_tokens", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"


def odd(provider: RawProvider, ledger: Path, **more: Any) -> Config:
    """One route at a raw provider that speaks Messages."""
    params = {"model": "anthropic/claude-haiku-4-5", "api_base": provider.url, "api_key": "k"}
    entry = {"model_name": "odd", "litellm_params": {**params, **more}}
    return parse_config(
        {
            "model_list": [{**entry, "model_info": {"id": "d-odd"}}],
            "router_settings": {"allowed_fails": 0},
            "gateway": {"port": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


def answers(count: Sent) -> Any:
    """A provider that serves messages, and answers a count with this."""

    def answer(request: Received) -> Sent:
        if request.path.endswith("/count_tokens"):
            return count
        return Sent(body=json.dumps(MESSAGE).encode())

    return answer


def error_of(kind: str, message: str) -> bytes:
    """An error in Anthropic's shape."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize(
    "count",
    [
        Sent(404, error_of("not_found_error", "Not found")),
        Sent(405, b"no"),
        Sent(401, error_of("authentication_error", "invalid x-api-key")),
        Sent(429, error_of("rate_limit_error", "slow down")),
        Sent(500, b"<html>oops</html>", "text/html"),
        Sent(200, b'{"tokens": 4}'),
        Sent(200, b"<html>Welcome</html>", "text/html"),
    ],
)
def test_a_provider_that_cannot_count_still_serves(tmp_path: Path, count: Sent) -> None:
    """The caller gets an estimate, and a failed count never starts a cooldown."""
    with raw_provider(answers(count)) as provider:
        config = odd(provider, tmp_path / "ledger.db")
        with (
            Running(config) as url,
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        ):
            for _ in range(3):
                raw = client.messages.with_raw_response.count_tokens(model="odd", messages=HELLO)
                assert raw.headers[ESTIMATED] == "true"
                assert raw.parse().input_tokens > 0
            answer = client.messages.create(model="odd", messages=HELLO, max_tokens=10)

    assert answer.content[0].type == "text"
    asked = [request for request in provider.received if request.path.endswith("/count_tokens")]
    assert len(asked) == (1 if count.status in (404, 405) else 3)


def test_a_refusal_of_the_request_is_the_callers(tmp_path: Path) -> None:
    """In the provider's own words: an estimate would hide what is wrong with the request."""
    refusal = Sent(400, error_of("invalid_request_error", "messages.0: no such role"))
    with raw_provider(answers(refusal)) as provider:
        config = odd(provider, tmp_path / "ledger.db")
        with (
            Running(config) as url,
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
            pytest.raises(anthropic.BadRequestError, match="no such role"),
        ):
            client.messages.count_tokens(model="odd", messages=HELLO)


def test_what_is_sent(tmp_path: Path) -> None:
    """The caller's body and beta headers, with the deployment's model and key."""
    with raw_provider(answers(Sent(body=b'{"input_tokens": 17}'))) as provider:
        config = odd(provider, tmp_path / "ledger.db", temperature=0.5, max_tokens=9)
        with (
            Running(config) as url,
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        ):
            found = client.beta.messages.count_tokens(
                model="odd", messages=[{"role": "user", "content": "Hi"}], betas=["one", "two"]
            )

    assert found.input_tokens == 17
    (request,) = provider.received
    assert request.path == "/v1/messages/count_tokens"
    assert request.json() == {
        "model": "claude-haiku-4-5",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert request.headers["x-api-key"] == "k"
    assert request.headers["anthropic-version"] == client.default_headers["anthropic-version"]
    assert "one" in request.headers["anthropic-beta"]


def test_a_count_is_within_the_deployments_rpm(tmp_path: Path) -> None:
    """Once that is used up, the caller gets an estimate."""
    with raw_provider(answers(Sent(body=b'{"input_tokens": 17}'))) as provider:
        config = odd(provider, tmp_path / "ledger.db", rpm=2)
        with (
            Running(config) as url,
            anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        ):
            found = [
                client.messages.with_raw_response.count_tokens(model="odd", messages=HELLO)
                for _ in range(3)
            ]

    assert [ESTIMATED in raw.headers for raw in found] == [False, False, True]
    assert len(provider.received) == 2
