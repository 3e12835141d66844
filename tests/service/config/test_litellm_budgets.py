"""LiteLLM's `max_budget` and its `budget_duration` as a budget of ours."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.budgets.periods import period_at
from spanledger.config import budget_of
from tests.service.config.test_litellm_files import config_of, parsed, problems_of


@pytest.mark.parametrize(
    ("settings", "period"),
    [
        ({"max_budget": 5, "budget_duration": "1d"}, "day"),
        ({"max_budget": "5", "budget_duration": "24h"}, "day"),
        ({"max_budget": 5.0, "budget_duration": "7d"}, "week"),
        ({"max_budget": 5, "budget_duration": "30d"}, "month"),
        ({"max_budget": "os.environ/MAX", "budget_duration": "1mo"}, "month"),
        ({"max_budget": 5, "budget_duration": "monthly"}, "month"),
        ({"max_budget": 5, "budget_duration": "1w"}, "week"),
        ({"max_budget": 5, "budget_duration": "86400s"}, "day"),
        ({"max_budget": 5, "budget_duration": "hourly"}, "1h@2024-01-01"),
        ({"max_budget": 5, "budget_duration": "60m"}, "1h@2024-01-01"),
        ({"max_budget": 5, "budget_duration": "12h"}, "12h@2024-01-01"),
        ({"max_budget": 5, "budget_duration": "10d"}, "10d@2024-01-01"),
        ({"max_budget": 5, "budget_duration": "2w"}, "14d@2024-01-01"),
        ({"max_budget": 5, "budget_duration": "30h"}, "30h@2024-01-01"),
    ],
)
@pytest.mark.parametrize("section", ["general_settings", "litellm_settings"])
def test_a_limit_of_litellms_is_a_budget(
    settings: dict[str, Any], period: str, section: str
) -> None:
    """It limits everything together, and blocks."""
    (entry,) = config_of({"MAX": "5"}, **{section: settings}).budgets
    budget = budget_of(entry)

    assert (budget.limit_nano, budget.period, budget.action) == (5_000_000_000, period, "block")


@pytest.mark.parametrize(
    ("duration", "problem"),
    [
        (None, "like 1d, 7d or 30d"),
        ("30s", "shorter than 1h"),
        ("1m", "a month is 1mo"),
        ("90m", "not a whole number of hours"),
        ("3mo", "with a period like quarter"),
        ("1y", "is not a duration"),
        ("0d", "is not a duration"),
        ("30", "is not a duration"),
        ("99999d", "with the period `once`"),
    ],
)
def test_a_limit_without_a_period_of_ours_is_refused(duration: str | None, problem: str) -> None:
    """It would be a different limit."""
    (found,) = problems_of(general_settings={"max_budget": 5, "budget_duration": duration})

    assert problem in found


def test_a_limit_of_litellms_renews_in_its_time_zone() -> None:
    """LiteLLM has one time zone for all budgets; one that does not exist is a mistake here."""
    settings = {"max_budget": 5, "budget_duration": "1mo", "timezone": "Asia/Tokyo"}
    (entry,) = config_of(litellm_settings=settings).budgets

    assert entry.timezone == "Asia/Tokyo"
    (problem,) = problems_of(litellm_settings={**settings, "timezone": "Asia/Tokio"})
    assert "did you mean 'Asia/Tokyo'?" in problem


@pytest.mark.parametrize(
    ("duration", "warning"),
    [("10d", "counted from 2024-01-01"), ("5h", "begins another at least each day"), ("12h", "")],
)
def test_a_difference_from_litellm_is_a_warning(duration: str, warning: str) -> None:
    """A period that LiteLLM begins at other times is read, and the difference is listed."""
    config = config_of(general_settings={"max_budget": 5, "budget_duration": duration})

    found = [text for text in config.warnings if "budget_duration" in text]
    assert [warning in text for text in found] == ([True] if warning else [])


def test_budgets_of_providers_tags_and_users_are_read() -> None:
    """Each becomes a budget of ours: a named one for a provider or a tag, a default one for users."""
    config = config_of(
        {"MOST": "7"},
        router_settings={
            "provider_budget_config": {
                "openai": {"budget_limit": "os.environ/MOST", "time_period": "1d"},
                "azure": {"max_budget": 3, "budget_duration": "30d"},
            }
        },
        litellm_settings={
            "max_end_user_budget": 0.5,
            "tag_budget_config": {"nightly": {"max_budget": 2, "budget_duration": "7d"}},
            "timezone": "Asia/Tokyo",
        },
    )
    found = {budget.name: budget for budget in map(budget_of, config.budgets)}

    assert {name: (b.scope, b.subject, b.limit_nano, b.period) for name, b in found.items()} == {
        "litellm-provider-openai": ("provider", "openai", 7 * 10**9, "day"),
        "litellm-provider-azure": ("provider", "azure", 3 * 10**9, "month"),
        "litellm-tag-nightly": ("tag", "nightly", 2 * 10**9, "week"),
        "litellm-max-end-user-budget": ("user", "*", 5 * 10**8, "once@2024-01-01"),
    }
    assert found["litellm-max-end-user-budget"].default
    assert {budget.timezone for budget in found.values()} == {"Asia/Tokyo"}


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({"budget_limit": 1}, "tag_budget_config.x: it needs a budget_duration"),
        ({"max_budget": 1, "budget_duration": "1y"}, "x.budget_duration: '1y' is not a duration"),
        ({"budget_duration": "1d"}, "tag_budget_config.x.limit"),
        (5, "expected a mapping from each tag to its budget"),
    ],
)
def test_a_budget_of_a_tag_that_is_none_is_refused(budget: Any, problem: str) -> None:
    """The mistake names the tag."""
    (found,) = problems_of(litellm_settings={"tag_budget_config": {"x": budget}})

    assert problem in found


def test_headers_that_litellm_maps_to_users_name_users() -> None:
    """They are the gateway's, unless that has its own."""
    general = {
        "user_header_name": "X-One",
        "user_header_mappings": [{"header_name": "X-Two", "litellm_user_role": "customer"}],
    }
    assert config_of(general_settings=general).gateway.user_headers == ("X-Two", "X-One")
    both = config_of(general_settings=general, gateway={"user_headers": ["x-own"]})
    assert both.gateway.user_headers == ("x-own",)


@cache
def _litellm_durations() -> dict[str, Any]:
    """The functions of LiteLLM's module for durations, run without the package that it is in."""
    tree = parsed("litellm_core_utils/duration_parser.py")
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("litellm"))
    ]
    found: dict[str, Any] = {}
    exec(compile(tree, "duration_parser.py", "exec"), found)
    return found


@given(
    duration=st.sampled_from(
        ["1d", "24h", "7d", "1w", "30d", "1mo", "1h", "2h", "3h", "4h", "6h", "8h", "12h"]
    ),
    zone=st.sampled_from(["UTC", "Asia/Tokyo", "Asia/Kolkata", "America/Phoenix"]),
    at_s=st.integers(1_700_000_000, 1_900_000_000),
)
def test_budgets_renew_when_litellm_resets_them(duration: str, zone: str, at_s: int) -> None:
    """What LiteLLM aligns to the calendar or the day renews at the very second here."""
    resets = _litellm_durations()["get_next_standardized_reset_time"]
    settings = {"max_budget": 5, "budget_duration": duration, "timezone": zone}
    (entry,) = config_of(litellm_settings=settings).budgets
    budget = budget_of(entry)

    expected = resets(duration, datetime.fromtimestamp(at_s, UTC), zone)
    assert period_at(budget.period, budget.timezone, at_s).end_s == expected.timestamp()
