"""The name of an output cap: guessed, learned from one refusal, remembered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spanledger.errors import ProviderError
from spanledger.providers.base import Deployment
from spanledger.providers.caps import NEW, OLD, Caps, guessed
from spanledger.providers.http import HttpProvider
from tests.service.providers.samples import ANSWER, DONE, STREAM, failure
from tests.service.providers.scripted import Scripted, ask, call, collect, deployment

AZURE = "https://acme.openai.azure.com/openai/v1"
OWN = "http://10.0.0.7:8000/v1"


@pytest.mark.parametrize(
    ("api_base", "model", "name"),
    [
        (None, "gpt-4o", NEW),
        ("https://api.openai.com/v1", "gpt-4o-mini", NEW),
        (AZURE, "prod-eu-1", NEW),
        ("https://acme.services.ai.azure.com/openai/v1", "gpt-5-chat", NEW),
        (OWN, "gpt-5", NEW),
        (OWN, "gpt-5.1-chat", NEW),
        (OWN, "openai/o3-mini", NEW),
        (OWN, "o1", NEW),
        ("https://openrouter.ai/api/v1", "openai/gpt-5-mini", NEW),
        (OWN, "gpt-4o", OLD),
        (OWN, "llama-3.3-70b", OLD),
        (OWN, "olmo-2", OLD),
        ("https://api.openai.com.evil.example/v1", "m", OLD),
    ],
)
def test_the_first_guess(api_base: str | None, model: str, name: str) -> None:
    """Host and model determine the first guess."""
    assert guessed(Deployment("d", "r", "openai", "openai", model, model, api_base)) == name


REFUSALS: dict[str, tuple[int, Any, str]] = {
    "OpenAI and Azure": (
        400,
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model."
                " Use 'max_completion_tokens' instead.",
                "type": "invalid_request_error",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        },
        OLD,
    ),
    "an older Azure API": (
        400,
        {"error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}},
        NEW,
    ),
    "Mistral": (
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "max_completion_tokens"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
        },
        NEW,
    ),
    "Groq": (
        400,
        {"error": {"message": "property 'max_completion_tokens' is unsupported"}},
        NEW,
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("ours", [False, True], ids=["the caller's cap", "a budget's cap"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_name_is_learnt_once(
    server: Scripted, openai_provider: HttpProvider, refusal: Any, ours: bool, stream: bool
) -> None:
    """The request is repeated with the other name, and the next one uses that name at once."""
    status, body, refused = refusal
    known = OLD if refused == NEW else NEW
    target = deployment(server.url, model="gpt-5-like" if refused == NEW else "other")
    fields = ask() if ours else ask(**{refused: 77})
    wanted = call(target, fields, max_output_tokens=77 if ours else None)

    async def script(writer: asyncio.StreamWriter) -> None:
        if refused in server.requests[-1].json:
            server.json(status, body)
        elif stream:
            server.events(b"".join(STREAM) + DONE)
        else:
            server.json(200, ANSWER)
        answer, server.script = server.script, script
        assert answer is not None
        await answer(writer)

    server.script = script
    for _ in range(3):
        if stream:
            assert await collect(openai_provider, wanted)
        else:
            await openai_provider.complete(wanted)

    caps = [{k: r.json[k] for k in (OLD, NEW) if k in r.json} for r in server.requests]
    assert caps == [{refused: 77}, {known: 77}, {known: 77}, {known: 77}]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "max_tokens is too large: 100000. This model supports at most 16384 tokens"),
        (400, "max_tokens must be at least 1"),
        (400, "Unsupported value: 'temperature' does not support 0.2 with this model"),
        (500, "unsupported parameter max_tokens"),
    ],
)
async def test_other_refusals_are_not_repeated(
    server: Scripted, openai_provider: HttpProvider, status: int, message: str
) -> None:
    """A value that is too large, another field, a server error: one request each."""
    server.json(status, {"error": {"message": message}})

    await failure(openai_provider, call(deployment(server.url), ask(max_tokens=5)))

    assert len(server.requests) == 1


async def test_what_did_not_help_is_not_remembered(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """A server that refuses both names got two requests, and the next call starts with the first
    name."""
    server.json(400, {"error": {"message": "max_tokens, max_completion_tokens: unknown"}})
    wanted = call(deployment(server.url), ask(max_tokens=5))
    for _ in range(2):
        error = await failure(openai_provider, wanted)
        assert isinstance(error, ProviderError)
        assert error.kind == "invalid_request"

    names = [next(k for k in (OLD, NEW) if k in r.json) for r in server.requests]
    assert names == [OLD, NEW, OLD, NEW]


async def test_a_server_may_refuse_the_name_and_stream_options(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Each is fixed once, whichever is reported first, and both are remembered."""
    for order in ((OLD, "stream_options"), ("stream_options", OLD)):
        server.requests.clear()
        target = replace(deployment(server.url, model="other"), id=order[0])

        async def script(writer: asyncio.StreamWriter, order: tuple[str, ...] = order) -> None:
            sent = server.requests[-1].json
            refused = next((name for name in order if name in sent), None)
            if refused is None:
                server.events(b"".join(STREAM) + DONE)
            else:
                server.json(400, {"error": {"message": f"unknown field {refused!r}"}})
            answer, server.script = server.script, script
            assert answer is not None
            await answer(writer)

        server.script = script
        for _ in range(2):
            assert await collect(openai_provider, call(target, ask(max_tokens=5)))

        names = (*order, NEW)
        sent = [[name for name in names if name in r.json] for r in server.requests]
        assert sent[0] == list(order)
        assert sent[2:] == [[NEW], [NEW]]


def test_a_null_hides_no_cap() -> None:
    """Clients send null for fields they do not set: the cap keeps its value when renamed."""
    target, caps = deployment(OWN), Caps()
    caps.remember(target, NEW)

    sent = caps.applied(call(target, ask(max_tokens=50, max_completion_tokens=None))).fields

    assert (bytes(sent[NEW]), OLD in sent) == (b"50", False)


@pytest.mark.parametrize(
    "fields",
    [{NEW: 50, OLD: None}, {NEW: 50}, {OLD: 50, NEW: None}],
    ids=["beside a null", "alone", "under its own name"],
)
def test_a_null_hides_no_renamed_cap(fields: dict[str, Any]) -> None:
    """Mistral accepts only `max_tokens`; without a cap it could cost more than was held."""
    target = replace(deployment(OWN), renames={NEW: OLD}, defaults={OLD: msgspec.Raw(b"99")})
    sent = target.fields_for(call(target, ask(**fields)).fields)

    assert {name: bytes(sent[name]) for name in (OLD, NEW) if name in sent} == {OLD: b"50"}
