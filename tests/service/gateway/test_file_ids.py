"""Files in requests: a caller's own are sent by the provider's ids, and nobody else's are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from spanledger.config import parse_config
from tests.service.gateway.batch_calls import theirs
from tests.service.gateway.endpoints import Site, running_site
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_strange_providers import completion
from tests.support.ledgers import store_at
from tests.support.raw_provider import RawProvider, Received, Sent, raw_provider


class Answers:
    """A provider that keeps files and answers on every wire."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.files = 0

    def __call__(self, request: Received) -> Sent:
        if request.path.endswith("/files"):
            self.files += 1
            unique = f"file-{self.name}{self.files}"
            return _json({"id": unique, "object": "file", "purpose": "user_data", "bytes": 1})
        if request.path.endswith("/input_tokens"):
            return _json({"object": "response.input_tokens", "input_tokens": 7})
        if "/responses" in request.path:
            usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
            whole = {"id": "resp_1", "object": "response", "status": "completed", "usage": usage}
            return _json({**whole, "output": [], "model": "gpt-4o-mini"})
        return _json(completion())


def _json(data: Any) -> Sent:
    return Sent(body=json.dumps(data).encode())


@dataclass
class Two(Site):
    """A gateway at two accounts."""

    here: RawProvider
    there: RawProvider

    def asked(self) -> tuple[RawProvider, Received]:
        """Who got the last request that was not an upload, and the request."""
        found = [
            (provider, each)
            for provider in (self.here, self.there)
            for each in provider.received
            if not each.path.endswith("/files")
        ]
        return found[-1]

    def forget(self) -> None:
        """Forget what was asked so far."""
        self.here.received.clear()
        self.there.received.clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """The gateway: `mini` and `big` at one account, `other` and the fallback of `first` at another."""
    ledger: Path = tmp_path_factory.mktemp("ids") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("rich", "free")}
    keys["team"] = records.create_key("rich", "red", [], 1)[0]
    keys["twin"] = records.create_key("rich", "", [], 1)[0]
    records.close()
    with raw_provider(Answers("a")) as here, raw_provider(Answers("b")) as there:

        def entry(route: str, model: str, provider: RawProvider) -> dict[str, Any]:
            params = {"model": model, "api_base": f"{provider.url}/v1", "api_key": "sk-sim"}
            return {
                "model_name": route,
                "litellm_params": params,
                "model_info": {"id": f"d-{route}"},
            }

        config = parse_config(
            {
                "model_list": [
                    entry("mini", "openai/gpt-4o-mini", here),
                    entry("big", "openai/gpt-4o", here),
                    entry("other", "openai/gpt-4o-mini", there),
                    entry("claude", "anthropic/claude-haiku-4-5", there),
                ],
                "router_settings": {
                    "num_retries": 0,
                    "cooldown_time": 0,
                    "fallbacks": [{"mini": ["other"]}, {"other": ["big"]}],
                },
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Two(url, "", ledger, keys, here, there)


@pytest.fixture
def two(running: Two) -> Two:
    """The gateway, without earlier requests."""
    running.forget()
    return running


def upload(two: Two, customer: str = "rich", route: str = "mini") -> str:
    """A file of a customer at the account of a route."""
    with two.client(customer) as client:
        more = {"target_model_names": route}
        return client.files.create(file=("a.pdf", b"x"), purpose="user_data", extra_body=more).id


def chat(client: openai.OpenAI, model: str, *files: str) -> Any:
    """A request with files."""
    parts: Any = [{"type": "file", "file": {"file_id": unique}} for unique in files]
    message: Any = {"role": "user", "content": [{"type": "text", "text": "Read it."}, *parts]}
    return client.chat.completions.create(model=model, messages=[message])


@pytest.mark.parametrize("customer", ["rich", "twin"])
def test_a_file_in_a_message(two: Two, customer: str) -> None:
    """Its owner's keys name it by our id, and the account is sent its own."""
    unique = upload(two)
    with two.client(customer) as client:
        chat(client, "mini", unique)
    provider, request = two.asked()
    assert provider is two.here
    assert request.json()["messages"][0]["content"][1]["file"] == {"file_id": theirs(unique)}


@pytest.mark.parametrize("kind", ["input_file", "input_image"])
def test_a_file_in_responses(two: Two, kind: str) -> None:
    """The same in the Responses API, and where its input is counted."""
    unique = upload(two)
    content: Any = [{"type": kind, "file_id": unique}]
    given: Any = [{"role": "user", "content": content}]
    with two.client("rich") as client:
        client.responses.create(model="mini", input=given)
        assert b"file-a" in two.asked()[1].body
        client.responses.input_tokens.count(model="mini", input=given)
    _, request = two.asked()
    assert request.path.endswith("/input_tokens")
    assert request.json()["input"][0]["content"][0]["file_id"] == theirs(unique)


def test_it_is_served_where_the_file_is(two: Two) -> None:
    """Another route of the account serves it, and so does a fallback there; no other account does."""
    unique = upload(two)
    with two.client("rich", max_retries=0) as client:
        chat(client, "big", unique)
        assert two.asked()[0] is two.here
        chat(client, "other", unique)  # its fallback is at the account
        provider, request = two.asked()
        assert provider is two.here
        assert request.json()["model"] == "gpt-4o"
        elsewhere = upload(two, route="other")
        with pytest.raises(openai.BadRequestError, match="target_model_names=big") as caught:
            chat(client, "big", elsewhere)
        assert caught.value.code == "file_not_here"
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, "claude", unique)
        assert "target_model_names" not in str(caught.value)  # nothing there keeps files
        with pytest.raises(openai.BadRequestError, match="several accounts"):
            chat(client, "mini", unique, elsewhere)


@pytest.mark.parametrize("customer", ["free", "team"])
def test_a_file_of_somebody_else(two: Two, customer: str) -> None:
    """Neither our id nor the provider's opens a file of another customer or team, and nothing is sent."""
    unique = upload(two)
    two.forget()
    with two.client(customer) as client:
        for name in (unique, theirs(unique), f"file-{'0' * 24}_file-a1"):
            with pytest.raises(openai.NotFoundError) as caught:
                chat(client, "mini", name)
            assert caught.value.code == "file_not_found"
    assert not two.here.received


def test_a_file_that_was_not_uploaded_here(two: Two) -> None:
    """A provider's id that nobody uploaded through the gateway is passed on, and so is one's own."""
    unique = upload(two)
    with two.client("rich") as client:
        for name in ("file-of-the-console", theirs(unique)):
            chat(client, "mini", name)
            assert name.encode() in two.asked()[1].body


def test_a_file_in_a_batch(two: Two) -> None:
    """The lines of a batch name files as requests do, and are refused as they are."""
    unique, other = upload(two), upload(two, "free")
    elsewhere = upload(two, route="other")

    def lines(name: str) -> bytes:
        content = [{"type": "file", "file": {"file_id": name}}]
        asked: dict[str, Any] = {"model": "mini", "max_tokens": 9}
        asked["messages"] = [{"role": "user", "content": content}]
        line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}
        return json.dumps(line).encode()

    with two.client("rich") as client:
        client.files.create(file=("in.jsonl", lines(unique)), purpose="batch")
        body = two.here.received[-1].body
        assert f'"file_id": "{theirs(unique)}"'.encode() in body.replace(b'":"', b'": "')
        assert f'"custom_id":"{unique}"'.encode() in body
        with pytest.raises(openai.NotFoundError):
            client.files.create(file=("in.jsonl", lines(other)), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="another account"):
            client.files.create(file=("in.jsonl", lines(elsewhere)), purpose="batch")


def test_at_a_provider_that_checks(tmp_path: Path) -> None:
    """The simulator knows the files of its key, as OpenAI does: one of ours is read there, and one that
    it does not have is its refusal."""
    routes = {"cheap": "openai/gpt-4o-mini"}
    with running_site(tmp_path, routes, fallbacks={}) as site, site.client("rich") as client:
        file = client.files.create(file=("a.pdf", b"x"), purpose="user_data")
        assert chat(client, "cheap", file.id).choices[0].message.content
        given: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": file.id}]}]
        assert client.responses.create(model="cheap", input=given).output_text
        with pytest.raises(openai.NotFoundError, match="No such File"):
            chat(client, "cheap", "file-unknown")
