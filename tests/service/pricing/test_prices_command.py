"""`spanledger prices` as people and scripts use it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from spanledger.commands.prices import app
from spanledger.pricing.book import PriceBook


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4o", "2026-11-23/gpt-4o"])
def test_a_price_is_shown_as_data(name: str) -> None:
    """By exact name, as in a configuration, and by the price id of a row."""
    result = run("show", name, "--json")

    shown = json.loads(result.output)
    assert shown["model"] == "gpt-4o"
    assert shown["price_id"].endswith("/gpt-4o")
    assert shown["usd_per_million_tokens"]["input"] == "2.50"
    assert shown["usd_per_million_tokens"]["cache_read"] == "1.25"
    assert shown["usd_per_million_tokens"]["output"] == "10.00"


def test_a_price_is_shown_with_its_tiers() -> None:
    """A long-context price is shown next to the ordinary one, in words."""
    result = run("show", "gemini/gemini-2.5-pro")

    assert result.exit_code == 0
    assert "above 200,000" in result.output
    assert f"{PriceBook.load().date}/gemini/gemini-2.5-pro" in result.output
    assert "service tier priority: input 2.25, output 18.00" in result.output
    assert "per web search: 0.035" in result.output
    tiers = json.loads(run("show", "gemini/gemini-2.5-pro", "--json").output)["tiers"]
    assert [tier["above_input_tokens"] for tier in tiers] == [200_000]
    assert tiers[0]["usd_per_million_tokens"]["output"] == "15.00"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-4oo", "gpt-4o"),
        ("sonar-pro", "perplexity/sonar-pro"),
        ("perplexity/sonar", "pays for its search"),
        ("2020-01-01/gpt-4o", "no price book"),
    ],
)
def test_a_model_without_price_is_answered(name: str, says: str) -> None:
    """For an unknown name it suggests similar ones, for an unpriced model the reason; both exit
    with 1."""
    result = run("show", name)

    assert result.exit_code == 1
    assert says in result.stderr


def test_models_are_listed_by_provider() -> None:
    """The list has the models of one provider, and none of an unknown one."""
    models = json.loads(run("list", "--provider", "anthropic", "--json").output)

    assert {model["provider"] for model in models} == {"anthropic"}
    assert "claude-sonnet-4-5" in {model["model"] for model in models}
    assert "claude-sonnet-4-5" in run("list").output
    unknown = run("list", "--provider", "nobody")
    assert unknown.exit_code == 1
    assert "anthropic" in unknown.stderr
    typo = run("list", "--provider", "antropic")
    assert "did you mean 'anthropic'?" in typo.stderr
    assert "openai" not in typo.stderr
