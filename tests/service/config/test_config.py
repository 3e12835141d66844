"""Configuration files as people have them."""

from __future__ import annotations

import pytest

from spanledger.config import parse_config
from spanledger.errors import ConfigError


def test_a_section_with_nothing_in_it_is_as_good_as_none() -> None:
    """A section whose last entry is commented out still has its name."""
    sections = ("model_list", "router_settings", "gateway", "ledger", "telemetry", "budgets")

    empty = dict.fromkeys((*sections, "litellm_settings", "general_settings"))

    assert parse_config(empty, {}, "c.yaml") == parse_config({}, {}, "c.yaml")


def test_an_id_may_be_a_number() -> None:
    """LiteLLM accepts `id: 1`, so files written for it use it."""
    entry = {"model_name": "a", "litellm_params": {"model": "openai/a"}, "model_info": {"id": 1}}

    config = parse_config({"model_list": [entry]}, {}, "c.yaml")

    assert config.model_list[0].model_info.id == "1"


@pytest.mark.parametrize("place", ["model_name", "model", "id"])
@pytest.mark.parametrize("name", ["", "a`b", "a\nb", " a", "x" * 257])
def test_what_becomes_a_label_is_a_name(place: str, name: str) -> None:
    """Like customers, routes, models and deployments appear in series, answers and terminals."""
    names = {"model_name": "a", "model": "openai/a", "id": "a", place: name}
    entry = {
        "model_name": names["model_name"],
        "litellm_params": {"model": names["model"]},
        "model_info": {"id": names["id"]},
    }

    with pytest.raises(ConfigError, match=place):
        parse_config({"model_list": [entry]}, {}, "c.yaml")


@pytest.mark.parametrize("name", ["", "*", " a", "a\nb", "x" * 129])
def test_the_customer_of_an_open_gateway_has_a_name(name: str) -> None:
    """It is booked like any other, and `*` stands for every customer."""
    with pytest.raises(ConfigError, match="default_customer"):
        parse_config({"gateway": {"default_customer": name}}, {}, "c.yaml")


def test_a_price_of_a_million_tokens_is_refused() -> None:
    """A price copied from a price page gets an error that explains the unit."""
    entry = {
        "model_name": "a",
        "litellm_params": {"model": "openai/a", "output_cost_per_token": 10},
    }

    with pytest.raises(ConfigError, match=r"output_cost_per_token.*too high for one token"):
        parse_config({"model_list": [entry]}, {}, "c.yaml")
