"""Requests that only a deployment of their own wire can serve: no other one is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.service.gateway.endpoints import Site, running_site

CHAT = ["/v1/chat/completions"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Routes that speak the Responses API or not, and fall back to the others."""
    models = {"native": "openai/gpt-4.1", "chat": "openai/gpt-4o", "back": "openai/gpt-4o"}
    with running_site(
        tmp_path_factory.mktemp("own"),
        models,
        fallbacks={"native": "chat", "back": "native"},
        endpoints={"chat": CHAT, "back": CHAT},
    ) as found:
        yield found


def ask(site: Site, model: str, **more: Any) -> Any:
    """Ask for an answer, without budgets."""
    key = site.keys["free"]
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client:
        return client.responses.with_raw_response.create(model=model, input="Hello", **more)


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_that_cannot_store_it_is_not_asked(site: Site, *, stream: bool) -> None:
    """The caller of an answer in the background gets the first failure, and there is one attempt."""
    site.fault("429;retry_after=0", model="gpt-4.1")
    try:
        with pytest.raises(openai.RateLimitError) as raised:
            ask(site, "native", background=True, stream=stream)
    finally:
        site.fault("")
    assert len(site.attempts(raised.value.response.headers["x-request-id"])) == 1


def test_a_fallback_that_can_store_it_is_asked(site: Site) -> None:
    """A route that cannot leaves the request to its fallback at once."""
    raw = ask(site, "back", background=True)
    assert raw.headers["x-spanledger-deployment"] == "d-native"
    assert len(site.attempts(raw.headers["x-request-id"])) == 1


@pytest.mark.parametrize("asked", [{"background": True}, {"prompt": {"id": "pmpt_1"}}])
def test_without_any_the_error_says_why(site: Site, asked: dict[str, Any]) -> None:
    """Where no deployment speaks the wire, the answer names the field to leave out."""
    with pytest.raises(openai.BadRequestError, match=next(iter(asked))):
        ask(site, "chat", **asked)
