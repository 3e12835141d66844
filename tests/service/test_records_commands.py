"""Commands that write keys and budgets: what is given as nothing must not mean everything."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.config import load_budgets
from spanledger.errors import ConfigError


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; an exception that nobody turned into text is raised."""
    result = CliRunner().invoke(
        app, [*arguments, "--ledger", f"sqlite:///{tmp_path}/ledger.db"], catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("option", ["--customer", "--key", "--team", "--model", "--provider"])
@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\x1b[2J", "\udcff"])
def test_a_budgets_subject_is_a_name(tmp_path: Path, option: str, value: str) -> None:
    """A script's unset variable does not limit everybody, and no name paints on a terminal."""
    code, out, problem = run(tmp_path, "budget", "set", "b", "--limit", "5", option, value)

    assert (code, out) == (2, "")
    assert problem.startswith("error: ")
    assert json.loads(run(tmp_path, "budget", "list", "--json")[1]) == []


@pytest.mark.parametrize("option", ["--team", "--routes"])
@pytest.mark.parametrize("value", ["", " ", ", "])
def test_an_empty_restriction_of_a_key_is_refused(tmp_path: Path, option: str, value: str) -> None:
    """A key whose routes a script left empty would reach every route."""
    code, _, problem = run(tmp_path, "keys", "create", "--customer", "acme", option, value)

    assert (code, problem[:7]) == (2, "error: ")
    assert json.loads(run(tmp_path, "keys", "list", "--json")[1]) == []


def test_a_keys_routes_are_kept(tmp_path: Path) -> None:
    """Spaces around commas are no part of a name."""
    code, out, _ = run(
        tmp_path, "keys", "create", "--customer", "acme", "--routes", "chat, embed", "--json"
    )

    assert code == 0
    assert json.loads(out)["routes"] == ["chat", "embed"]


@pytest.mark.parametrize("since", ["9999-12-31", "0001-01-01"])
def test_any_date_may_be_asked_for(tmp_path: Path, since: str) -> None:
    """Also those that the ledger's nanoseconds do not reach."""
    run(tmp_path, "keys", "list")

    assert run(tmp_path, "spend", "--since", since)[0] == 0


@pytest.mark.parametrize("since", ["99999999999d", "9999999999w", "²d"])
def test_a_time_out_of_this_world_is_one_line(tmp_path: Path, since: str) -> None:
    """A usage error, not a traceback."""
    run(tmp_path, "keys", "list")
    code, _, problem = run(tmp_path, "spend", "--since", since)

    assert (code, problem.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "- {name: b, limit: 5, customer: }",
        "- {name: b, limit: 5, customer: ''}",
        "- {name: 'b\\nc', limit: 5, customer: ' acme'}",
        '- {name: "b\\nc", limit: 5}',
        "[" * 5_000,
    ],
)
def test_a_budget_file_with_a_hole_is_refused(tmp_path: Path, text: str) -> None:
    """A key without its value is a mistake, not a budget of everybody."""
    file = tmp_path / "budgets.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"budgets\.yaml"):
        load_budgets(file)


def test_a_broken_ledger_is_one_line(tmp_path: Path) -> None:
    """What SQLite says of a file goes to the terminal without a traceback."""
    run(tmp_path, "budget", "set", "b", "--limit", "5")
    other = sqlite3.connect(tmp_path / "ledger.db")
    other.execute("DROP TABLE budget_history")
    other.close()

    code, _, problem = run(tmp_path, "budget", "set", "b", "--limit", "6")

    assert (code, problem) == (1, "error: the ledger failed: no such table: budget_history\n")
