"""Allowances for the time without a ledger: on the command line, in files, and where they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.commands.config import examine
from spanledger.config.load import parse_config
from spanledger.errors import ConfigError

FILE = """
model_list:
  - {model_name: m, litellm_params: {model: openai/gpt-4o-mini, api_key: sk-test-0123456789}}
budgets:
  - {name: acme, customer: acme, limit: 10, on_ledger_down: {allow_up_to: 2.5}}
"""


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def run(ledger: str, *words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, [*words, "--ledger", ledger])
    assert done.exit_code == 0, done.output
    return done.output


def reported(ledger: str, *words: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(run(ledger, *words, "--json"))


def test_an_allowance_is_set_shown_kept_and_taken_back(ledger: str) -> None:
    """It is in the output of `set`, `list` and `history`, stays when something else changes, and 0
    removes it."""
    line = run(
        *(ledger, "budget", "set", "b", "--customer", "acme", "--limit", "10"),
        *("--on-ledger-down-allow", "2.5"),
    )
    assert "; $2.50 while the ledger is down" in line
    run(ledger, "budget", "set", "b", "--limit", "20")
    (shown,) = reported(ledger, "budget", "list")
    assert shown["on_ledger_down_allow_usd"] == "2.50"
    assert "ledger" in run(ledger, "budget", "list")

    changed = run(ledger, "budget", "set", "b", "--on-ledger-down-allow", "0")
    assert "on_ledger_down_allow $2.50 → $0.00" in changed
    assert "on_ledger_down_allow $2.50 → $0.00" in run(ledger, "budget", "history", "b")


def test_a_mistake_names_the_option(ledger: str) -> None:
    """An amount that is none is refused with the name of the option."""
    done = CliRunner().invoke(
        app,
        [
            *("budget", "set", "b", "--limit", "1", "--on-ledger-down-allow", "much"),
            *("--ledger", ledger),
        ],
    )
    assert done.exit_code == 2
    assert "--on-ledger-down-allow: 'much' is not an amount" in done.output


@pytest.mark.parametrize("written", [{"allow": 5}, {"allow_up_to": -1}, 5])
def test_a_mistake_in_a_file(written: object) -> None:
    """Anything but `{allow_up_to: USD}` is refused with its place."""
    budget = {"name": "b", "limit": 1, "on_ledger_down": written}
    with pytest.raises(ConfigError, match=r"budgets\.0\.on_ledger_down"):
        parse_config({"budgets": [budget]}, {}, "f.yaml")


def test_a_file_is_applied(ledger: str, tmp_path: Path) -> None:
    """`apply` sets allowances, and shows how they differ."""
    file = tmp_path / "budgets.yaml"
    file.write_text("- {name: b, limit: 10, on_ledger_down: {allow_up_to: 2.5}}\n")
    run(ledger, "budget", "set", "b", "--limit", "10")
    assert "on_ledger_down_allow $0.00 → $2.50" in run(ledger, "apply", "-f", str(file))
    (shown,) = reported(ledger, "budget", "list")
    assert shown["on_ledger_down_allow_usd"] == "2.50"


def test_a_journal_that_cannot_help_is_a_warning(tmp_path: Path) -> None:
    """`config check` says if the journal is on the ledger's disk; without allowances it does not."""
    file = tmp_path / "spanledger.yaml"
    url = {"SPANLEDGER_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
    file.write_text(f"{FILE}\nledger: {{journal: {tmp_path / 'journal'}}}\n")
    report = examine(file, url)
    assert [w for w in report["warnings"] if "is on the ledger's disk" in w]
    assert report["budgets"][0]["on_ledger_down_allow_usd"] == "2.50"

    elsewhere = {"SPANLEDGER_LEDGER_URL": "postgresql://host/db"}
    assert not [w for w in examine(file, elsewhere)["warnings"] if "journal" in w]
    file.write_text(FILE.replace(", on_ledger_down: {allow_up_to: 2.5}", ""))
    assert not [w for w in examine(file, url)["warnings"] if "journal" in w]
