"""Configuration files as people have them."""

from __future__ import annotations

from spanledger.config import parse_config


def test_a_section_with_nothing_in_it_is_as_good_as_none() -> None:
    """Whoever comments out the last entry of a section leaves its name behind."""
    sections = ("model_list", "router_settings", "gateway", "ledger", "telemetry", "budgets")

    empty = dict.fromkeys((*sections, "litellm_settings", "general_settings"))

    assert parse_config(empty, {}, "c.yaml") == parse_config({}, {}, "c.yaml")


def test_an_id_may_be_a_number() -> None:
    """LiteLLM takes `id: 1`, and so do files that were written for it."""
    entry = {"model_name": "a", "litellm_params": {"model": "openai/a"}, "model_info": {"id": 1}}

    config = parse_config({"model_list": [entry]}, {}, "c.yaml")

    assert config.model_list[0].model_info.id == "1"
