"""Requests that OpenAI accepts and Anthropic refuses are sent in the closest accepted form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from spanledger.providers.base import Call
from spanledger.providers.http import HttpProvider
from spanledger.sim.host import RunningSim
from spanledger.wires.anthropic.models import Abilities, abilities_of
from spanledger.wires.anthropic.oddities import ODDITIES, Oddity
from spanledger.wires.anthropic.request import encode_messages_request
from tests.service.providers.scripted import call, collect, deployment, payload


def request_of(row: Oddity, url: str | None, **fields: Any) -> Call:
    """The row's example as a call."""
    messages = row.messages or [{"role": "user", "content": "Hi"}]
    body = {"model": "route", "messages": messages, **row.fields, **fields}
    return call(deployment(url, "anthropic", row.model), body)


def named(row: Oddity) -> str:
    """The test id of a row."""
    return row.request


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("row", ODDITIES, ids=named)
async def test_anthropic_takes_it(
    sim: RunningSim, anthropic_provider: HttpProvider, row: Oddity, stream: bool
) -> None:
    """A provider that refuses what Anthropic refuses answers, and the caller sees what was
    changed."""
    request = request_of(row, sim.url)

    if stream:
        assert await collect(anthropic_provider, request)
    else:
        assert (await anthropic_provider.complete(request)).body

    assert ", ".join(dict.fromkeys(request.changed)) == row.changed


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("non-whitespace text", {"messages": [{"role": "user", "content": " "}]}),
    (
        "must be non-empty",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
    ),
    ("non-empty content", {"messages": [{"role": "user", "content": ""}]}),
    ("an email address", {"metadata": {"user_id": "ada@example.com"}}),
    ("a phone number", {"metadata": {"user_id": "+49 30 1234567"}}),
    ("at most 256", {"metadata": {"user_id": "u" * 300}}),
    ("temperature: range", {"temperature": 1.5}),
    ("cannot both be specified", {"temperature": 0.5, "top_p": 0.5}),
    ("deprecated for this model", {"model": "claude-opus-4-7", "temperature": 0.5}),
    ("deprecated for this model", {"model": "claude-opus-5", "top_p": 0.5}),
    ("type: Field required", {"tools": [{"name": "f", "input_schema": {}}]}),
    ("'object'", {"tools": [{"name": "f", "input_schema": {"type": "string"}}]}),
    (
        "at the top level",
        {"tools": [{"name": "f", "input_schema": {"type": "object", "anyOf": []}}]},
    ),
    ("should match pattern", {"tools": [{"name": "a.b", "input_schema": {"type": "object"}}]}),
    ("must be unique", {"tools": [{"name": "f", "input_schema": {"type": "object"}}] * 2}),
    ("while providing tools", {"tool_choice": {"type": "any"}}),
    ("not supported for this model", {"model": "claude-opus-4-7", "thinking": "enabled"}),
    ("adaptive thinking is not", {"thinking": {"type": "adaptive"}}),
    ("greater than or equal to 1024", {"thinking": {"type": "enabled", "budget_tokens": 5}}),
    ("must be greater than", {"thinking": {"type": "enabled", "budget_tokens": 9000}}),
    ("set to 1 when thinking", {"thinking": "enabled", "temperature": 0.5}),
    ("greater than or equal to 0.95", {"thinking": "enabled", "top_p": 0.5}),
    ("unset when thinking", {"thinking": "enabled", "top_k": 5}),
    ("stop sequence", {"stop_sequences": [" "]}),
    ("prefill", {"model": "claude-opus-4-6", "prefill": "Once"}),
    ("trailing whitespace", {"prefill": "Once "}),
]


@pytest.mark.parametrize(("says", "fields"), REFUSED, ids=str)
def test_the_simulator_refuses_as_anthropic_does(
    sim: RunningSim, says: str, fields: dict[str, Any]
) -> None:
    """Sent unchanged, each of them ends in 400 with Anthropic's message."""
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }
    if body.get("thinking") == "enabled":
        body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    if text := body.pop("prefill", None):
        body["messages"] = [*body["messages"], {"role": "assistant", "content": text}]
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}

    answer = httpx.post(f"{sim.url}/v1/messages", json=body, headers=headers)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def convert(row: Oddity) -> Any:
    """The Messages request for a row."""
    return json.loads(encode_messages_request(request_of(row, None), stream=False).body)


def row(request: str) -> Oddity:
    """The row with this name."""
    (found,) = (row for row in ODDITIES if row.request == request)
    return found


def test_a_person_becomes_an_opaque_id() -> None:
    """The same person always has the same id, and the address is not in the request."""
    body = convert(row("`user` is an e-mail address or a phone number"))

    assert body["metadata"]["user_id"] == hashlib.sha256(b"ada@example.com").hexdigest()
    assert "ada@" not in json.dumps(body)


def test_alternatives_become_one_object() -> None:
    """Anything that satisfied one of the alternatives still does."""
    body = convert(row("a tool whose `parameters` are alternatives"))

    assert body["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
    }


def test_results_without_calls_and_calls_without_results() -> None:
    """Nothing the caller said is lost, and nothing is invented except that there is no result."""
    orphan = convert(row("a result without a call"))["messages"]
    missing = convert(row("a tool call without a result"))["messages"]
    late = convert(row("a tool's result after what the user says"))["messages"]

    assert [b["text"] for b in orphan[0]["content"]] == ["Hi", "Result of a tool: found"]
    assert [(b["tool_use_id"], b.get("is_error", False)) for b in missing[2]["content"]] == [
        ("c1", False),
        ("c2", True),
    ]
    assert [b["type"] for b in late[2]["content"]] == ["tool_result", "text"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tools_name_comes_back_as_the_caller_wrote_it(
    sim: RunningSim, anthropic_provider: HttpProvider, stream: bool
) -> None:
    """Two names that would become the same stay distinct."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("a.b", "a_b", "a/b")
    ]
    wanted = {"type": "function", "function": {"name": "a/b"}}
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": tools,
        "tool_choice": wanted,
    }
    request = call(deployment(sim.url, "anthropic", "claude-haiku-4-5"), body)

    if stream:
        frames = [payload(frame) for frame in await collect(anthropic_provider, request)]
        deltas = [f["choices"][0]["delta"] for f in frames if f["choices"]]
        (called,) = (
            c["function"]["name"]
            for d in deltas
            for c in d.get("tool_calls", ())
            if "name" in c["function"]
        )
    else:
        answer = json.loads((await anthropic_provider.complete(request)).body)
        called = answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"]

    assert called == "a/b"
    sent = json.loads(encode_messages_request(request, stream=False).body)
    assert [tool["name"] for tool in sent["tools"]] == ["a_b", "a_b_2", "a_b_3"]


@pytest.mark.parametrize(
    ("given", "sent", "changed"),
    [
        ({"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}, []),
        ({"temperature": 0.2, "top_p": 1}, {"temperature": 0.2}, []),
        ({"temperature": 1, "reasoning_effort": "low"}, {"temperature": 1}, []),
        ({"top_p": 0.97, "reasoning_effort": "low"}, {"top_p": 0.97}, []),
        ({"seed": 7, "logprobs": False, "presence_penalty": 0}, {}, ["seed"]),
        ({"frequency_penalty": 0.5, "store": True}, {}, ["frequency_penalty"]),
        ({"response_format": {"type": "json_object"}}, {}, ["response_format"]),
    ],
    ids=str,
)
def test_only_what_makes_a_difference_is_told(
    given: dict[str, Any], sent: dict[str, Any], changed: list[str]
) -> None:
    """A field with its default value may be dropped silently; one that a caller could miss is
    named."""
    request = request_of(Oddity("", "", "", "", "", fields=given), None)
    body = json.loads(encode_messages_request(request, stream=False).body)

    assert {k: v for k, v in body.items() if k in ("temperature", "top_p")} == sent
    assert request.changed == changed


@pytest.mark.parametrize(
    ("model", "able"),
    [
        ("claude-3-haiku-20240307", Abilities(False, False, False, "any", True, True)),
        ("claude-3-5-sonnet-20241022", Abilities(False, False, False, "any", True, True)),
        ("claude-3-7-sonnet-20250219", Abilities(True, False, False, "any", True, True)),
        ("claude-sonnet-4-20250514", Abilities(True, False, False, "any", True, True)),
        ("claude-opus-4-1-20250805", Abilities(True, False, False, "one", True, True)),
        ("claude-haiku-4-5-20251001", Abilities(True, False, False, "one", True, True)),
        ("claude-opus-4.6", Abilities(True, True, False, "one", False, True)),
        ("us.anthropic.claude-sonnet-4-6", Abilities(True, True, False, "one", False, True)),
        ("claude-opus-4-7", Abilities(False, True, True, "none", False, False)),
        ("claude-sonnet-5-5", Abilities(False, True, True, "none", False, False)),
        ("claude-opus-5", Abilities(False, True, True, "none", False, False)),
        ("my-alias", Abilities(True, True, True, "any", True, True)),
    ],
)
def test_what_a_model_takes_is_told_by_its_version(model: str, able: Abilities) -> None:
    """Each change at Anthropic came with a version, so new models are handled from day one."""
    assert abilities_of(model) == able


def test_every_row_has_its_source() -> None:
    """Every row needs a source, so that it can be checked."""
    assert [row.request for row in ODDITIES if not (row.source and row.says and row.sent)] == []


def test_a_base_model_says_what_a_deployment_takes() -> None:
    """A custom name says nothing; the model behind it decides."""
    target = replace(
        deployment(None, "anthropic", "prod-eu-1"), base_model="anthropic/claude-opus-4-8"
    )
    body = {"model": "route", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
    request = call(target, body)

    sent = json.loads(encode_messages_request(request, stream=False).body)

    assert (sent["model"], "temperature" in sent) == ("prod-eu-1", False)
    assert request.changed == ["temperature"]
