"""`model_group_alias` at the edge: another name for a route, wherever a route can be named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spanledger.config import parse_config

from .harness import ROUTES, Edge, chat, running_edge

ALIASES = {"gpt-4": "echo", "secret": {"model": "echo", "hidden": True}, "slow": "echo"}


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """A gateway with aliases. One of them has the name of a route, which wins."""
    models = [{"model_name": r, "litellm_params": {"model": f"openai/{r}"}} for r in ROUTES]
    data = {
        "model_list": models,
        "gateway": {"port": 0},
        "router_settings": {"model_group_alias": ALIASES},
    }
    with running_edge(parse_config(data, {}, "test")) as running:
        yield running


@pytest.mark.parametrize("name", ["gpt-4", "secret", "echo"])
def test_a_request_by_an_alias_is_its_routes(edge: Edge, name: str) -> None:
    """An alias is served, and booked on its route."""
    assert edge.post(chat(name)).status == 200
    assert edge.router.seen[-1].start.route == "echo"


def test_a_route_wins_over_an_alias_of_its_name(edge: Edge) -> None:
    """As in LiteLLM."""
    assert edge.get("/v1/models/slow").status == 200
    assert edge.post(chat("slow", stream=True)).status
    assert edge.router.seen[-1].start.route == "slow"


def test_aliases_are_listed_unless_hidden(edge: Edge) -> None:
    """A hidden alias can still be fetched by name."""
    listed = [model["id"] for model in edge.get("/v1/models").json()["data"]]
    assert "gpt-4" in listed
    assert "secret" not in listed
    assert listed.count("slow") == 1
    assert edge.get("/v1/models/secret").json()["id"] == "secret"
