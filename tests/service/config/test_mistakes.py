"""Mistakes in a file: each is reported once, in words that say what to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from spanledger.config import load_config
from spanledger.errors import ConfigError
from tests.service.config.test_litellm_files import entry, problems_of

BUDGET = {"name": "b", "customer": "*", "limit": 5, "period": "day"}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "text": (
        {"model_list": [entry(rpm="ten")]},
        "model_list.0.litellm_params.rpm: expected a whole number, got 'ten'",
    ),
    "fraction": (
        {"model_list": [entry(rpm=1.5)]},
        "model_list.0.litellm_params.rpm: expected a whole number, got 1.5",
    ),
    "list": (
        {"model_list": [entry(rpm=[1])]},
        "model_list.0.litellm_params.rpm: expected a whole number, got list",
    ),
    "too small": (
        {"model_list": [entry(rpm=0)]},
        "model_list.0.litellm_params.rpm: must be at least 1, got 0",
    ),
    "too large": ({"gateway": {"port": 70_000}}, "gateway.port: must be at most 65535, got 70000"),
    "flag": (
        {"telemetry": {"enabled": "perhaps"}},
        "telemetry.enabled: expected true or false, got 'perhaps'",
    ),
    "choice": (
        {"gateway": {"log_format": "xml"}},
        "gateway.log_format: expected 'text' or 'json', got 'xml'",
    ),
    "slip in an entry": (
        {"model_list": [{"model_name": "a", "litellm_param": {"model": "gpt-4o"}}]},
        "model_list.0.litellm_params: required, but missing; is 'litellm_param' a typo of it?",
    ),
    "slip in a budget": (
        {"budgets": [{"limt" if key == "limit" else key: v for key, v in BUDGET.items()}]},
        "budgets.0.limit: required, but missing; is 'limt' a typo of it?",
    ),
}


@pytest.mark.parametrize(("data", "problem"), CASES.values(), ids=CASES)
def test_a_mistake_is_reported_once_and_in_plain_words(data: dict[str, Any], problem: str) -> None:
    """No message of the validation library reaches the reader, and a slip is one mistake."""
    assert problems_of(**data) == [problem]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_an_include_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    """A pipe would keep the gateway waiting for its writer: it is refused without being opened."""
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.mkdir()
    path = tmp_path / "f.yaml"
    path.write_text("include: [odd]\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"include: 'odd' is not a regular file"):
        load_config(path, {})


LATER = "budget 'b': only one for each subject ('*') can be a default; name '*', or remove default"
BOTH: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a default beside a wrong limit": (
        {"budgets": [BUDGET | {"limit": "many", "default": True, "customer": "c"}]},
        ["budgets.0.limit: 'many' is not an amount; write it like 12.50", LATER],
    ),
    "a default beside a missing limit": (
        {"budgets": [{"name": "b", "customer": "c", "default": True}]},
        ["budgets.0.limit: required, but missing", LATER],
    ),
    "names beside a wrong threshold": (
        {"budgets": [BUDGET | {"thresholds": ["x"]}, BUDGET]},
        ["budgets.0.thresholds.0: expected a whole number, got 'x'", "budget 'b' is set twice"],
    ),
}


@pytest.mark.parametrize(("data", "problems"), BOTH.values(), ids=BOTH)
def test_a_wrong_value_does_not_hide_a_later_mistake(
    data: dict[str, Any], problems: list[str]
) -> None:
    """Both are listed at once, although the second is looked for in valid budgets."""
    assert problems_of(**data) == problems
