"""Rates in files, ours and LiteLLM's."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger.config.rates import rate_of
from spanledger.rates.model import Rate, RateLimits
from tests.service.config.test_litellm_files import config_of, problems_of


def rates_of(**sections: Any) -> list[Rate]:
    """The rates of a file with these sections."""
    return [rate_of(entry) for entry in config_of({"MAX": "7"}, **sections).rates]


def test_a_rate_of_a_file() -> None:
    """Any scope and any combination, as budgets have."""
    entry = {
        "name": "r",
        "customer": "*",
        "model": "gpt-4o",
        "rpm_limit": 5,
        "tpm_limit": "1000",
        "usd_per_minute": "0.25",
        "max_parallel_requests": 2,
        "default": True,
    }
    assert rates_of(rates=[entry]) == [
        Rate("r", "customer,model", "*,gpt-4o", RateLimits(5, 1_000, 250_000_000, 2), True)
    ]


def test_all_mistakes_at_once() -> None:
    """Each with its place, and with what to write."""
    problems = problems_of(
        rates=[
            {"name": "a", "rpm": 5},
            {"name": "b", "customer": None, "rpm_limit": 5},
            {"name": "b", "team": "t", "default": True, "tpm_limit": 5},
            {"team": "t", "rpm_limit": 5},
        ],
    )
    text = "\n".join(problems)
    assert "unknown key 'rates.0.rpm'; did you mean 'rpm_limit'?" in text
    assert "rates.0: it limits nothing" in text
    assert "rate 'b': customer is empty" in text
    assert "rate 'b' is set twice" in text
    assert "rate 'b': only one for each subject ('*') can be a default" in text
    assert "rates.3.name: required, but missing" in text


def test_litellms_defaults_are_rates_of_each() -> None:
    """Of keys, teams and users that no other rate names; limits by model are by route."""
    rates = rates_of(
        litellm_settings={
            "default_key_generate_params": {
                "rpm_limit": 5,
                "max_parallel_requests": "os.environ/MAX",
                "model_rpm_limit": {"chat": 3},
                "model_tpm_limit": {"chat": 300, "other": 400},
            },
            "default_team_params": {"tpm_limit": 100},
            "default_internal_user_params": {"rpm_limit": 9},
        },
        general_settings={"global_max_parallel_requests": 50},
    )
    assert rates == [
        Rate("litellm-key", "key", "*", RateLimits(5, None, None, 7), True),
        Rate("litellm-key-chat", "key,route", "*,chat", RateLimits(3, 300), True),
        Rate("litellm-key-other", "key,route", "*,other", RateLimits(None, 400), True),
        Rate("litellm-team", "team", "*", RateLimits(None, 100), True),
        Rate("litellm-user", "user", "*", RateLimits(9), True),
        Rate("litellm-global", "global", "*", RateLimits(None, None, None, 50)),
    ]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"rpm_limit": "lots"}, "rpm_limit: expected a whole number, got 'lots'"),
        ({"model_rpm_limit": 5}, "model_rpm_limit: expected a mapping from models to limits"),
        ({"rpm_limit": "os.environ/NOT_THERE"}, "NOT_THERE is not set"),
        ([1], "expected a mapping, got list"),
    ],
)
def test_a_mistake_in_litellms(params: Any, problem: str) -> None:
    """It is a mistake of the file."""
    problems = problems_of(litellm_settings={"default_key_generate_params": params})
    assert problem in "\n".join(problems)


def test_what_else_is_in_there_is_listed() -> None:
    """Nobody believes that a key's life is limited."""
    settings = {"default_key_generate_params": {"rpm_limit": 5, "duration": "30d"}}
    config = config_of({}, litellm_settings=settings)
    assert any("default_key_generate_params.duration has no effect" in w for w in config.warnings)
