"""Wildcard routes at the edge: who may use them, what is booked, and which names are invalid."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from spanledger.config import Config, parse_config

from .harness import Edge, ScriptedLedger, chat, running_edge

WIDE, BY_NAME, BY_ROUTE, OTHER = (f"slk_{letter * 40}" for letter in "abcd")


def config() -> Config:
    """Two wildcards and a name."""
    names = ("openai/*", "*", "echo")
    models: list[dict[str, Any]] = [
        {"model_name": name, "litellm_params": {"model": "openai/x", "api_key": "k"}}
        for name in names
    ]
    return parse_config({"model_list": models, "gateway": {"port": 0}}, {}, "test")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with keys for a name, for a wildcard, and for neither."""
    ledger = ScriptedLedger()
    ledger.add(WIDE, "acme")
    ledger.add(BY_NAME, "acme", routes=("openai/gpt-4o",))
    ledger.add(BY_ROUTE, "acme", routes=("openai/*",))
    ledger.add(OTHER, "acme", routes=("echo",))
    with running_edge(config(), ledger) as running:
        yield running


@pytest.mark.parametrize(
    ("model", "route", "asked"),
    [
        ("openai/gpt-4o", "openai/*", "openai/gpt-4o"),
        ("anything", "*", "anything"),
        ("echo", "echo", ""),
    ],
)
def test_what_is_booked_is_configured(edge: Edge, model: str, route: str, asked: str) -> None:
    """The booked route is the wildcard's, however many models callers name."""
    assert edge.post(chat(model), authorization=f"Bearer {WIDE}").status == 200

    exchange = edge.router.seen[-1]
    assert (exchange.start.route, exchange.asked) == (route, asked)


@pytest.mark.parametrize("model", ["openai/*", "*", "a\nb", "a`b"])
def test_what_is_no_model_of_a_wildcard(edge: Edge, model: str) -> None:
    """A star, a line break or a backtick is sent to no provider and stored in no row."""
    answer = edge.post(chat(model), authorization=f"Bearer {WIDE}")

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert edge.router.rejected[-1][0].start.route == "unknown"


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [
        (BY_NAME, "openai/gpt-4o", 200),
        (BY_NAME, "openai/o3", 403),
        (BY_ROUTE, "openai/o3", 200),
        (BY_ROUTE, "other", 403),
        (OTHER, "openai/o3", 403),
    ],
)
def test_a_key_may_name_the_model_or_the_wildcard(
    edge: Edge, key: str, model: str, status: int
) -> None:
    """Either grant allows a request, and neither allows more than itself."""
    assert edge.post(chat(model), authorization=f"Bearer {key}").status == status


def test_models_of_a_wildcard_are_shown_when_asked_for(edge: Edge) -> None:
    """The list has the wildcards; a model can be fetched by name if a wildcard serves it."""
    headers = {"authorization": f"Bearer {WIDE}"}
    listed = [model["id"] for model in edge.get("/v1/models", **headers).json()["data"]]
    shown = edge.get(f"/v1/models/{urllib.parse.quote('openai/gpt-4o', safe='/')}", **headers)

    assert listed == ["openai/*", "*", "echo"]
    assert shown.json()["id"] == "openai/gpt-4o"
