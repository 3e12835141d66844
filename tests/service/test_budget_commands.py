"""Budgets as people change them: by command, by file, and by both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pwd
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from spanledger.app import open_gateway
from spanledger.commands.config import examine
from spanledger.config import load_config
from tests.service.test_records_commands import run

MODEL = """
model_list:
  - model_name: a
    litellm_params: {model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:9/v1", api_key: k}
telemetry: {enabled: false}
"""


def budget(tmp_path: Path, name: str = "acme") -> dict[str, Any]:
    """A budget's entry in `budget list`."""
    code, out, _ = run(tmp_path, "budget", "list", "--json")
    assert code == 0
    found: dict[str, Any] = next(state for state in json.loads(out) if state["name"] == name)
    return found


def set_acme(tmp_path: Path) -> None:
    """A customer's budget without any default value."""
    run(
        tmp_path, "budget", "set", "acme", "--customer", "acme", "--limit", "12.50",
        "--period", "day", "--timezone", "Europe/Berlin", "--action", "warn",
        "--thresholds", "90", "--strict",
    )  # fmt: skip


ALL = (
    *("scope", "subject", "limit_usd", "period", "period_day", "period_from", "period_to"),
    *("valid_from", "valid_to"),
    *("timezone", "action", "thresholds", "strict"),
)
CHANGES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "limit": (["--limit", "13"], {"limit_usd": "13.00"}),
    "period": (["--period", "week"], {"period": "week", "period_day": "monday"}),
    "billing-month": (
        ["--period", "month", "--period-day", "31"],
        {"period": "month", "period_day": "31"},
    ),
    "days": (
        ["--period", "30d", "--period-from", "2026-01-01T00:00+01:00"],
        {"period": "30d", "period_from": "2026-01-01"},
    ),
    "once": (
        *(["--period", "once", "--period-from", "2026-01-01", "--period-to", "2199-01-01"],),
        {"period": "once", "period_from": "2026-01-01", "period_to": "2199-01-01"},
    ),
    "valid": (
        ["--valid-from", "2026-01-01", "--valid-to", "2199-01-01T09:30"],
        {"valid_from": "2026-01-01", "valid_to": "2199-01-01T09:30"},
    ),
    "timezone": (["--timezone", "UTC"], {"timezone": "UTC"}),
    "action": (["--action", "block"], {"action": "block"}),
    "thresholds": (["--thresholds", "50,80"], {"thresholds": [50, 80]}),
    "no-strict": (["--no-strict"], {"strict": False}),
    "same-subject": (["--customer", "acme", "--limit", "13"], {"limit_usd": "13.00"}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize(("options", "changed"), CHANGES.values(), ids=CHANGES)
def test_set_changes_only_what_is_given(
    tmp_path: Path, options: list[str], changed: dict[str, Any]
) -> None:
    """Everything else of an existing budget stays, including its customer and time zone."""
    set_acme(tmp_path)
    before = budget(tmp_path)

    code, out, _ = run(tmp_path, "budget", "set", "acme", *options, "--json")

    after = budget(tmp_path)
    assert code == 0
    assert {name: after[name] for name in ALL} == {name: before[name] for name in ALL} | changed
    assert json.loads(out)["changed"] == bool(changed)
    assert [change["field"] for change in json.loads(out)["changes"]] == list(changed)


@pytest.mark.parametrize(
    "subject", [["--customer", "other"], ["--team", "red"], ["--customer", "*"]], ids=" ".join
)
def test_another_subject_needs_replace(tmp_path: Path, subject: list[str]) -> None:
    """A budget does not change its subject by accident; --replace recreates it."""
    set_acme(tmp_path)
    before = budget(tmp_path)

    code, _, problem = run(tmp_path, "budget", "set", "acme", "--limit", "13", *subject)
    assert (code, "--replace" in problem) == (2, True)
    assert budget(tmp_path) == before

    options = [*subject, "--limit", "13", "--replace"]
    assert run(tmp_path, "budget", "set", "acme", *options)[0] == 0
    after = budget(tmp_path)
    assert (after["limit_usd"], after["timezone"], after["strict"]) == ("13.00", "UTC", False)


def test_a_new_budget_needs_a_limit(tmp_path: Path) -> None:
    """It is a usage error, also with --replace."""
    set_acme(tmp_path)
    for options in (["beta"], ["beta", "--customer", "b"], ["acme", "--replace"]):
        code, _, problem = run(tmp_path, "budget", "set", *options)
        assert (code, "--limit" in problem) == (2, True)


def test_a_dry_run_is_a_diff_by_field(tmp_path: Path) -> None:
    """It shows changes with old and new values, as text and JSON, and changes nothing."""
    set_acme(tmp_path)
    file = tmp_path / "budgets.yaml"
    file.write_text(
        "- {name: acme, customer: acme, limit: 12.50, period: day, timezone: America/New_York,"
        " action: warn, thresholds: [50, 90]}\n"
    )
    before = budget(tmp_path)

    text = run(tmp_path, "apply", "-f", str(file), "--dry-run")[1]
    data = json.loads(run(tmp_path, "apply", "-f", str(file), "--dry-run", "--json")[1])

    assert text.splitlines()[0] == (
        "~ acme: timezone Europe/Berlin → America/New_York, thresholds 90 → 50,90, strict yes → no"
    )
    (change,) = data["changes"]
    assert (data["dry_run"], data["set"], change["change"]) == (True, ["acme"], "change")
    assert change["fields"] == [
        {"field": "timezone", "before": "Europe/Berlin", "after": "America/New_York"},
        {"field": "thresholds", "before": [90], "after": [50, 90]},
        {"field": "strict", "before": True, "after": False},
    ]
    assert budget(tmp_path) == before


def test_the_history_shows_old_and_new_values(tmp_path: Path) -> None:
    """The first entry is whole, later ones show what changed, and a budget that was removed starts
    again."""
    run(tmp_path, "budget", "set", "acme", "--limit", "0.0006", "--customer", "acme")
    run(tmp_path, "budget", "set", "acme", "--limit", "0.0005", "--action", "warn")
    run(tmp_path, "budget", "set", "other", "--limit", "1")
    run(tmp_path, "budget", "remove", "acme")
    run(tmp_path, "budget", "set", "acme", "--limit", "2", "--customer", "acme")

    text = run(tmp_path, "budget", "history")[1].splitlines()
    data = json.loads(run(tmp_path, "budget", "history", "acme", "--json")[1])

    assert [line.split("  ", 1)[1].rpartition(" (command, ")[0] for line in text] == [
        "set     acme: customer acme $0.0006 a month (UTC), block",
        "set     acme: limit $0.0006 → $0.0005, action block → warn",
        "set     other: everybody $1.00 a month (UTC), block",
        "remove  acme: customer acme $0.0005 a month (UTC), warn",
        "set     acme: customer acme $2.00 a month (UTC), block",
    ]
    assert [entry["limit_usd"] for entry in data] == ["0.0006", "0.0005", "0.0005", "2.00"]
    assert [[c["field"] for c in entry["changes"]] for entry in data] == [
        [],
        ["limit_usd", "action"],
        [],
        [],
    ]


def test_the_exit_code_can_tell_of_changes(tmp_path: Path) -> None:
    """With --exit-code, 4 means that something changes and 0 that nothing does; without it, always 0."""
    set_acme(tmp_path)
    file = tmp_path / "budgets.yaml"
    file.write_text("- {name: acme, customer: acme, limit: 5}\n")

    def code(*options: str) -> int:
        return run(tmp_path, "apply", "-f", str(file), *options)[0]

    assert [code("--dry-run"), code("--dry-run", "--exit-code")] == [0, 4]
    assert [code("--exit-code"), code("--exit-code"), code("--dry-run", "--exit-code")] == [4, 0, 0]


async def start(file: Path, ledger: Path) -> None:
    """Start and stop a gateway."""
    config = load_config(file, {"SPANLEDGER_LEDGER_URL": f"sqlite:///{ledger}"})
    async with open_gateway(config, config_file=file):
        pass


def test_a_start_keeps_what_was_set_by_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log, `budget list` and `config check` all say where the file is not what applies, and
    `apply` of the file makes it so."""
    file, ledger = tmp_path / "spanledger.yaml", tmp_path / "ledger.db"
    environ = {"SPANLEDGER_LEDGER_URL": f"sqlite:///{ledger}"}
    file.write_text(f"{MODEL}budgets:\n- {{name: acme, customer: acme, limit: 100}}\n")
    asyncio.run(start(file, ledger))
    assert examine(file, environ)["budget_differences"] == []
    run(tmp_path, "budget", "limit", "acme", "200")
    caplog.clear()

    with caplog.at_level(logging.WARNING):
        asyncio.run(start(file, ledger))

    said = "limit $100.00 → $200.00"
    assert [said in record.getMessage() for record in caplog.records] == [True]
    state = budget(tmp_path)
    assert state["limit_usd"] == "200.00"
    assert state["differs"]["fields"] == [
        {"field": "limit_usd", "file": "100.00", "ledger": "200.00"}
    ]
    assert said in run(tmp_path, "budget", "list")[2]
    report = examine(file, environ)
    assert report["ok"]
    assert any(said in warning for warning in report["warnings"])

    assert run(tmp_path, "apply", "-f", str(file))[0] == 0
    assert budget(tmp_path)["limit_usd"] == "100.00"
    assert budget(tmp_path)["differs"] is None
    # And what is changed by command after that stays again.
    run(tmp_path, "budget", "limit", "acme", "300")
    asyncio.run(start(file, ledger))
    assert budget(tmp_path)["limit_usd"] == "300.00"


def test_a_check_says_what_the_next_start_sets(tmp_path: Path) -> None:
    """Entries that are new or changed are shown against what applies now; nothing is changed, and
    no ledger is made."""
    file, ledger = tmp_path / "spanledger.yaml", tmp_path / "ledger.db"
    environ = {"SPANLEDGER_LEDGER_URL": f"sqlite:///{ledger}"}
    file.write_text(f"{MODEL}budgets:\n- {{name: acme, customer: acme, limit: 100}}\n")
    assert examine(file, environ)["budgets_at_start"] == []
    assert not ledger.exists()
    asyncio.run(start(file, ledger))

    file.write_text(
        f"{MODEL}budgets:\n- {{name: acme, customer: acme, limit: 150}}\n- {{name: b, limit: 1}}\n"
    )

    report = examine(file, environ)
    assert [change["text"] for change in report["budgets_at_start"]] == [
        "~ acme: limit $100.00 → $150.00",
        "+ b: everybody $1.00 a month (UTC), block",
    ]
    assert report["budget_differences"] == []
    assert budget(tmp_path)["limit_usd"] == "100.00"


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--period", "fortnight", "--period: 'fortnight' is not a period"),
        ("--period", "", "--period: "),
        ("--period", "30d", "--period-from: is missing"),
        ("--period-day", "32", "--period-day: '32' is not a day of the month; write 1 to 31"),
        ("--period-day", "", "--period-day: "),
        ("--period-from", "2026-01-01", "--period-from: a period of 'month' has none"),
        ("--timezone", "Mars", "--timezone: 'Mars' is not an IANA time zone"),
        ("--limit", "much", "--limit: 'much' is not an amount; write it like 12.50"),
        ("--thresholds", "50,200", "--thresholds: must be at most 100, got '200'"),
    ],
)
def test_a_mistake_names_its_option(tmp_path: Path, option: str, value: str, problem: str) -> None:
    """As it was typed, not as the key that a file would have."""
    code, _, said = run(tmp_path, "budget", "set", "acme", "--limit", "5", option, value)

    assert code == 2
    assert said.startswith(f"error: {problem}")


def test_a_part_of_a_period_can_be_changed(tmp_path: Path) -> None:
    """The rest of it stays, and the change is shown by the names of a file's keys."""
    days = ("--period", "30d", "--period-from", "2026-01-01")
    run(tmp_path, "budget", "set", "acme", "--limit", "5", *days)

    code, out, _ = run(tmp_path, "budget", "set", "acme", "--period", "10d")

    assert (code, out) == (0, "changed 'acme': period 30d → 10d\n")
    assert budget(tmp_path)["period_from"] == "2026-01-01"
    _, out, _ = run(tmp_path, "budget", "set", "acme", "--period", "month", "--period-day", "31")
    assert out == (
        "changed 'acme': period 10d → month, period_day none → 31, period_from 2026-01-01 → none\n"
    )
    _, out, _ = run(tmp_path, "budget", "history", "acme")
    assert "acme: everybody $5.00 every 30 days from 2026-01-01 (UTC), block (command, " in out
    assert "period_day none → 31" in out


def test_an_end_can_be_taken_back(tmp_path: Path) -> None:
    """`none` removes what limits a budget's time; a new budget has nothing to remove."""
    ends = ("--valid-from", "2026-01-01", "--valid-to", "2026-02-01")
    run(tmp_path, "budget", "set", "acme", "--limit", "5", *ends)

    _, out, _ = run(tmp_path, "budget", "set", "acme", "--valid-to", "none")

    assert out == "changed 'acme': valid_to 2026-02-01 → none\n"
    assert budget(tmp_path)["valid_from"] == "2026-01-01"
    code, _, said = run(tmp_path, "budget", "set", "b", "--limit", "5", "--valid-to", "none")
    assert (code, "--valid-to: 'none' is not a moment" in said) == (2, True)


def test_a_missing_limit_hides_no_other_mistake(tmp_path: Path) -> None:
    """Also in a ledger that exists already."""
    run(tmp_path, "budget", "set", "acme", "--limit", "5")

    _, _, said = run(tmp_path, "budget", "set", "b", "--period", "fortnight", "--thresholds", "200")

    assert "--period: 'fortnight' is not a period" in said
    assert "--thresholds: " in said


@pytest.mark.parametrize(
    ("options", "each", "renews"),
    [
        (("--period", "month", "--period-day", "31"), "month from day 31", ""),
        (("--period", "once", "--period-from", "2026-01-01"), "once from 2026-01-01", "never"),
        (
            ("--period", "once", "--period-from", "2026-01-01", "--period-to", "2026-01-02"),
            "once from 2026-01-01 until 2026-01-02",
            "ended 2026-01-02",
        ),
        (
            ("--period", "once", "--period-from", "2199-01-01T09:30"),
            "once from 2199-01-01T09:30",
            "begins 2199-01-01 09:30",
        ),
        (
            ("--period", "day", "--valid-from", "2199-01-01"),
            "day, valid from 2199-01-01",
            "begins 2199-01-01",
        ),
        (
            ("--period", "day", "--valid-to", "2026-01-01"),
            "day, valid until 2026-01-01",
            "ended 2026-01-01",
        ),
    ],
)
def test_the_list_shows_each_period(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    each: str,
    renews: str,
) -> None:
    """How often a budget is renewed and when next, or what comes instead."""
    monkeypatch.setenv("COLUMNS", "200")
    run(tmp_path, "budget", "set", "acme", "--limit", "5", *options)

    _, out, _ = run(tmp_path, "budget", "list")

    assert each in out
    assert renews in out


def test_a_file_has_the_same_periods(tmp_path: Path) -> None:
    """YAML's own days, dates and times are understood, and the plan is in words."""
    file = tmp_path / "budgets.yaml"
    file.write_text(
        """
- {name: a, limit: 1, period: month, period_day: 31}
- {name: b, limit: 1, period: week, period_day: sunday}
- {name: c, limit: 1, period: 30d, period_from: 2026-01-01}
- {name: d, limit: 1, period: once, period_from: 2026-01-01T09:30:00Z, period_to: 2026-02-01,
   timezone: Europe/Berlin}
"""
    )

    code, out, _ = run(tmp_path, "apply", "-f", str(file))

    assert code == 0
    assert out.splitlines()[:4] == [
        "+ a: everybody $1.00 a month from day 31 (UTC), block",
        "+ b: everybody $1.00 a week from Sunday (UTC), block",
        "+ c: everybody $1.00 every 30 days from 2026-01-01 (UTC), block",
        "+ d: everybody $1.00 once from 2026-01-01T10:30 until 2026-02-01 (Europe/Berlin), block",
    ]
    assert "4 unchanged" in run(tmp_path, "apply", "-f", str(file))[1]


def test_all_mistakes_of_periods_are_listed(tmp_path: Path) -> None:
    """Each at its place, together with the other mistakes of the same budget."""
    file = tmp_path / "spanledger.yaml"
    file.write_text(
        f"""{MODEL}
budgets:
  - {{name: a, period: month, period_day: 32}}
  - {{name: b, limit: 1, period: 30d, period_day: 5}}
"""
    )

    problems = examine(file, {})["problems"]

    places = (
        "limit",
        "0.period_day: '32'",
        "1.period_day: a period of",
        "1.period_from: is missing",
    )
    assert [sum(place in problem for problem in problems) for place in places] == [1, 1, 1, 1]


def test_the_history_names_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change says by which way it was made, from which file, and by which user, also behind sudo."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    user = pwd.getpwuid(os.getuid()).pw_name
    file, config = tmp_path / "budgets.yaml", tmp_path / "spanledger.yaml"
    file.write_text("[{name: acme, limit: 2}]")
    config.write_text(f"{MODEL}budgets: [{{name: acme, limit: 3}}]\n")

    run(tmp_path, "budget", "set", "acme", "--limit", "1")
    run(tmp_path, "apply", "-f", str(file))
    asyncio.run(start(config, tmp_path / "ledger.db"))
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    run(tmp_path, "budget", "limit", "acme", "4")
    run(tmp_path, "budget", "remove", "acme")

    _, out, _ = run(tmp_path, "budget", "history", "--json")
    found = [(change["way"], change["who"], change["file"]) for change in json.loads(out)]
    assert found == [
        ("command", user, None),
        ("file", user, str(file)),
        ("file", user, str(config)),
        ("command", "alice", None),
        ("command", "alice", None),
    ]
    lines = run(tmp_path, "budget", "history")[1].splitlines()
    assert lines[1].endswith(f"acme: limit $1.00 → $2.00 (file {file}, {user})")
    assert lines[3].endswith("acme: limit $3.00 → $4.00 (command, alice)")


def test_changes_from_before_authors_were_remembered_have_none(tmp_path: Path) -> None:
    """A ledger's older history is shown as it is."""
    run(tmp_path, "budget", "set", "acme", "--limit", "1")
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("UPDATE budget_history SET budget = json_remove(budget, '$.by')")

    _, out, _ = run(tmp_path, "budget", "history", "--json")

    [change] = json.loads(out)
    assert (change["way"], change["who"], change["file"]) == (None, None, None)
    assert run(tmp_path, "budget", "history")[1].endswith(
        "acme: everybody $1.00 a month (UTC), block\n"
    )
