"""Token counting of the Responses API: by the provider where it can, by us elsewhere; free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.config import Config, parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_responses import HELLO, WEATHER, ResponsesSite
from tests.support.ledgers import store_at
from tests.support.raw_provider import Received, Sent, raw_provider

ESTIMATED = "x-spanledger-estimated"
LONG = "Say hello, please. " * 200


def configuration(base: str, ledger: Path) -> Config:
    """A route that serves the Responses API, one of another account, one that has chat alone."""

    def entry(route: str, key: str = "sk-sim", **info: Any) -> dict[str, Any]:
        params: Any = {"model": "openai/gpt-4o-mini", "api_base": f"{base}/v1", "api_key": key}
        params["temperature"] = 0.5
        return {
            "model_name": route,
            "litellm_params": params,
            "model_info": {"id": f"d-{route}", **info},
        }

    chat: Any = {"supported_endpoints": ["/v1/chat/completions"]}
    return parse_config(
        {
            "model_list": [entry("gpt"), entry("other", "sk-other"), entry("chat", **chat)],
            "gateway": {"port": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponsesSite]:
    """A gateway at the simulator, with two customers."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("rich", "stranger")}
    records.close()
    with sim_in_thread() as sim, Running(configuration(sim.url, ledger)) as url:
        yield ResponsesSite(url, sim.url, ledger, keys)


def counted(site: ResponsesSite, route: str, **more: Any) -> tuple[int, dict[str, str]]:
    """A count by the real client, and the headers it came with."""
    with site.client() as client:
        raw = client.responses.input_tokens.with_raw_response.count(model=route, **more)
    found = raw.parse()
    assert found.object == "response.input_tokens"
    return found.input_tokens, dict(raw.headers)


@pytest.mark.parametrize("more", [{}, {"instructions": "Be brief."}, {"tools": [WEATHER]}])
def test_the_provider_counts(site: ResponsesSite, more: dict[str, Any]) -> None:
    """The count is that of the request itself, free of charge and without a row."""
    before = len(site.billed()), len(site.rows("request_id"))
    tokens, headers = counted(site, "gpt", input=HELLO, **more)
    assert (len(site.billed()), len(site.rows("request_id"))) == before
    assert headers["x-spanledger-deployment"] == "d-gpt"
    assert ESTIMATED not in headers

    with site.client() as client:
        answer = client.responses.create(model="gpt", input=HELLO, **more)
    assert answer.usage
    assert answer.usage.input_tokens == tokens


def test_elsewhere_it_is_an_estimate(site: ResponsesSite) -> None:
    """And says so."""
    tokens, headers = counted(site, "chat", input=HELLO, tools=[WEATHER])
    longer, _ = counted(site, "chat", input=LONG)
    assert headers[ESTIMATED] == "true"
    assert "x-spanledger-deployment" not in headers
    assert 0 < tokens < longer


def test_what_an_earlier_answer_adds(site: ResponsesSite) -> None:
    """The account that keeps an answer counts it; elsewhere, its tokens in the ledger are added."""
    with site.client() as client:
        first = client.responses.create(model="gpt", input=LONG)
        assert first.usage
        tokens, headers = counted(site, "gpt", input=HELLO, previous_response_id=first.id)
        other, elsewhere = counted(site, "other", input=HELLO, previous_response_id=first.id)

    assert ESTIMATED not in headers
    assert tokens > first.usage.total_tokens
    assert elsewhere[ESTIMATED] == "true"
    assert other > first.usage.total_tokens


def test_answers_of_others_are_not_counted(site: ResponsesSite) -> None:
    """Nor is it said that there is one."""
    with site.client() as client:
        first = client.responses.create(model="gpt", input=HELLO)
    with (
        site.client("stranger") as stranger,
        pytest.raises(openai.BadRequestError, match="not found") as caught,
    ):
        stranger.responses.input_tokens.count(
            model="gpt", input=HELLO, previous_response_id=first.id
        )
    assert caught.value.code == "previous_response_not_found"


@pytest.mark.parametrize(
    "body", [{"model": "gpt"}, {"input": HELLO}, {"model": "gpt", "input": []}]
)
def test_a_bad_request_is_refused(site: ResponsesSite, body: dict[str, Any]) -> None:
    """With what is missing."""
    with site.client() as client, pytest.raises(openai.BadRequestError):
        client.post("/responses/input_tokens", body=body, cast_to=object)


def test_another_method_is_refused(site: ResponsesSite) -> None:
    """With the one that is allowed."""
    with site.client() as client, pytest.raises(openai.APIStatusError) as caught:
        client.get("/responses/input_tokens", cast_to=object)
    assert caught.value.status_code == 405


def test_a_provider_without_it_still_serves(tmp_path: Path) -> None:
    """The caller gets an estimate, and the provider is not called for a count again for a while."""

    def answer(request: Received) -> Sent:
        del request
        return Sent(404, b'{"error": {"message": "Not Found"}}')

    with raw_provider(answer) as provider:
        config = configuration(provider.url, tmp_path / "ledger.db")
        with (
            Running(config) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            for _ in range(2):
                raw = client.responses.input_tokens.with_raw_response.count(
                    model="gpt", input=HELLO
                )
                assert raw.headers[ESTIMATED] == "true"
                assert raw.parse().input_tokens > 0

    (request,) = provider.received
    assert request.path == "/v1/responses/input_tokens"
    assert request.json() == {"model": "gpt-4o-mini", "input": HELLO}
