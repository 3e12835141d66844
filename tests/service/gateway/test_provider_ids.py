"""`gateway.provider_ids: refuse`: ids that only a provider knows are of nobody who can be checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from spanledger.config import parse_config
from spanledger.wires.fields import decode
from spanledger.wires.provider_ids import provider_ids
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_file_ids import Answers
from tests.support.ledgers import store_at
from tests.support.raw_provider import RawProvider, raw_provider

NAMED: list[tuple[str, dict[str, Any]]] = [
    ("vs_1", {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
    ("cntr_1", {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}),
    (
        "cntr_2",
        {
            "tools": [
                {
                    "type": "shell",
                    "environment": {"type": "container_reference", "container_id": "cntr_2"},
                }
            ]
        },
    ),
    ("container_1", {"container": {"id": "container_1", "skills": []}}),
    ("msg_1", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
    ("pmpt_1", {"prompt": {"id": "pmpt_1", "version": "2"}}),
    ("cachedContents/c", {"cachedContent": "cachedContents/c"}),
    (
        "https://generativelanguage.googleapis.com/v1beta/files/f",
        {
            "contents": [
                {
                    "parts": [
                        {
                            "fileData": {
                                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/f"
                            }
                        }
                    ]
                }
            ]
        },
    ),
]
HARMLESS: list[dict[str, Any]] = [
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"tools": [{"parameters": {"properties": {"container": "x", "vector_store_id": "y"}}}]},
    {"messages": [{"content": [{"type": "tool_use", "input": {"container": "docker"}}]}]},
    {"contents": [{"parts": [{"functionCall": {"args": {"fileUri": "files/mine"}}}]}]},
    {"contents": [{"parts": [{"fileData": {"fileUri": "https://youtu.be/x"}}]}]},
    {"metadata": {"container": "cntr_1"}},
    {"messages": [{"role": "user", "content": "the container is cntr_1"}]},
    {"prompt": "Once upon a time"},
]


@pytest.mark.parametrize(("unique", "body"), NAMED)
def test_where_they_stand(unique: str, body: dict[str, Any]) -> None:
    """Each is found, also where a field's name is written with an escape."""
    data = json.dumps(body)
    assert list(provider_ids(decode(data.encode()))) == [unique]
    hidden = data.replace("_id", "\\u005fid").replace("fileUri", "file\\u0055ri")
    assert list(provider_ids(decode(hidden.encode()))) == [unique]


@pytest.mark.parametrize("body", HARMLESS)
def test_what_is_none(body: dict[str, Any]) -> None:
    """Texts, schemas, the caller's own tools and addresses on the web may have the same words."""
    assert list(provider_ids(decode(json.dumps(body).encode()))) == []
    assert list(provider_ids({"input": msgspec.Raw(b'["container')})) == []


@pytest.fixture(scope="module", params=["pass_on", "refuse"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[bool, str, dict[str, str], RawProvider]]:
    """A gateway with either setting, and a provider that answers anything."""
    ledger: Path = tmp_path_factory.mktemp("ids") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {"plain": records.create_key("acme", "", [], 1)[0]}
    keys["trusted"] = records.create_key("acme", "", [], 1, pass_through=True)[0]
    records.close()
    with raw_provider(Answers("a")) as provider:
        params = {"model": "openai/gpt-4o", "api_base": f"{provider.url}/v1", "api_key": "sk-x"}
        config = parse_config(
            {
                "model_list": [{"model_name": "gpt", "litellm_params": params}],
                "gateway": {"port": 0, "provider_ids": request.param},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield request.param == "refuse", url, keys, provider


@pytest.mark.parametrize("key", ["plain", "trusted"])
@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-x"}]}]},
    ],
)
def test_who_may_name_them(
    site: tuple[bool, str, dict[str, str], RawProvider], key: str, more: dict[str, Any]
) -> None:
    """With `refuse`, only a key that may pass through; nothing else is sent to the provider."""
    refuses, url, keys, provider = site
    provider.received.clear()
    answer = httpx.post(
        f"{url}/v1/responses",
        json={"model": "gpt", "input": "Hello", **more},
        headers={"authorization": f"Bearer {keys[key]}"},
    )
    if refuses and key == "plain":
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_provider_id"
        assert not provider.received
    else:
        assert answer.status_code == 200
        assert provider.received
