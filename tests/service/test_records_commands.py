"""Commands that write keys and budgets: an empty value must not mean everything."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.config import load_budgets
from spanledger.errors import ConfigError
from tests.support.ledgers import store_at


def run(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; raises an exception that was not turned into a message."""
    result = CliRunner().invoke(
        app, [*arguments, "--ledger", f"sqlite:///{tmp_path}/ledger.db"], catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("option", ["--customer", "--key", "--team", "--model", "--provider"])
@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\x1b[2J", "\udcff", "a`b"])
def test_a_budgets_subject_is_a_name(tmp_path: Path, option: str, value: str) -> None:
    """A script's unset variable does not limit everybody, and no name controls the terminal."""
    code, out, problem = run(tmp_path, "budget", "set", "b", "--limit", "5", option, value)

    assert (code, out) == (2, "")
    assert problem.startswith("error: ")
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize(
    ("limit", "usd"), [("1e3", "1000.00"), ("-0", "0.00"), ("$1,200", "1200.00")]
)
def test_limits_as_people_write_them(tmp_path: Path, limit: str, usd: str) -> None:
    """An amount is accepted in any valid form and shown as a plain one."""
    code, out, _ = run(tmp_path, "budget", "set", "b", "--limit", limit, "--json")

    assert (code, json.loads(out)["limit_usd"]) == (0, usd)


@pytest.mark.parametrize(
    "limit",
    [
        "\uff11\uff12",
        "12,50",
        "NaN",
        "0.0000000001",
        "1e999999999",
        "1e-999999999",
        "-1",
        "inf",
        "",
    ],
)
def test_a_limit_that_is_none_is_one_line(tmp_path: Path, limit: str) -> None:
    """A usage error that names the limit, and no budget."""
    code, out, problem = run(tmp_path, "budget", "set", "b", "--limit", limit)

    assert (code, out, problem.count("\n")) == (2, "", 1)
    assert "limit" in problem
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize(
    "customer", ["", " ", "*", "a\nb", "x" * 129, "a\u200bb", "\udcff", " acme"]
)
def test_a_customers_name_is_one(tmp_path: Path, customer: str) -> None:
    """A key of a nameless customer would be under nobody's budget, and `*` under everybody's."""
    code, _, problem = run(tmp_path, "keys", "create", "--customer", customer)

    assert (code, problem[:7]) == (2, "error: ")
    assert not (tmp_path / "ledger.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--customer", "tick`tock"),
        ("keys", "create", "--customer", "a", "--team", "tick`tock"),
        ("keys", "create", "--customer", "a", "--routes", "tick`tock"),
        ("budget", "set", "tick`tock", "--limit", "5"),
    ],
)
def test_no_name_has_a_backtick(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Dashboards put names between two of them: such a customer would have no page. The rest that can be
    printed is allowed."""
    code, _, problem = run(tmp_path, *arguments)

    assert (code, problem.count("\n")) == (2, 1)
    assert "backtick" in problem
    assert run(tmp_path, *(word.replace("`", '"\\é $') for word in arguments))[0] == 0


def test_a_name_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    """A letter and its accent can be one character or two; budget and key must still match."""
    one, two = "caf\u00e9", "cafe\u0301"
    code, out, _ = run(tmp_path, "keys", "create", "--customer", two, "--team", two, "--json")
    key = json.loads(out)
    code, out, _ = run(tmp_path, "budget", "set", "b", "--limit", "1", "--customer", two, "--json")

    assert code == 0
    assert (key["customer"], key["team"], json.loads(out)["subject"]) == (one, one, one)


@pytest.mark.parametrize("option", ["--team", "--routes"])
@pytest.mark.parametrize("value", ["", " ", ", "])
def test_an_empty_restriction_of_a_key_is_refused(tmp_path: Path, option: str, value: str) -> None:
    """A key whose routes a script left empty would reach every route."""
    code, _, problem = run(tmp_path, "keys", "create", "--customer", "acme", option, value)

    assert (code, problem[:7]) == (2, "error: ")
    assert not (tmp_path / "ledger.db").exists()


def test_a_keys_routes_are_kept(tmp_path: Path) -> None:
    """Spaces around commas are not part of a name."""
    code, out, _ = run(
        tmp_path, "keys", "create", "--customer", "acme", "--routes", "chat, embed", "--json"
    )

    assert code == 0
    assert json.loads(out)["routes"] == ["chat", "embed"]
    assert json.loads(out)["pass_through"] is False


def test_a_key_may_be_allowed_to_pass_through(tmp_path: Path) -> None:
    """The option is kept with the key, and listed."""
    args = ("keys", "create", "--customer", "acme", "--allow-pass-through", "--json")
    assert json.loads(run(tmp_path, *args)[1])["pass_through"] is True
    assert json.loads(run(tmp_path, "keys", "list", "--json")[1])[0]["pass_through"] is True
    assert "yes" in run(tmp_path, "keys", "list")[1]


@pytest.mark.parametrize("since", ["9999-12-31", "0001-01-01"])
def test_any_date_may_be_asked_for(tmp_path: Path, since: str) -> None:
    """Including times outside the range of the ledger's nanoseconds."""
    store_at(tmp_path / "ledger.db").records("create").close()

    assert run(tmp_path, "spend", "--since", since)[0] == 0


@pytest.mark.parametrize("since", ["99999999999d", "9999999999w", "²d"])
def test_a_time_out_of_this_world_is_one_line(tmp_path: Path, since: str) -> None:
    """A usage error, not a traceback."""
    store_at(tmp_path / "ledger.db").records("create").close()
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
    """A key without a value is a mistake, not a budget for everybody."""
    file = tmp_path / "budgets.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"budgets\.yaml"):
        load_budgets(file)


def test_a_broken_ledger_is_one_line(tmp_path: Path) -> None:
    """SQLite's error about a file is printed without a traceback."""
    run(tmp_path, "budget", "set", "b", "--limit", "5")
    other = sqlite3.connect(tmp_path / "ledger.db")
    other.execute("DROP TABLE budget_history")
    other.close()

    code, _, problem = run(tmp_path, "budget", "set", "b", "--limit", "6")

    assert (code, problem) == (1, "error: the ledger failed: no such table: budget_history\n")


def test_a_limit_is_raised_without_touching_the_rest(tmp_path: Path) -> None:
    """Raising a limit keeps subject, period, zone and action without naming them."""
    run(
        *(tmp_path, "budget", "set", "each", "--customer", "*", "--limit", "5", "--period", "day"),
        *("--timezone", "Europe/Berlin", "--action", "warn", "--thresholds", "70", "--strict"),
    )
    (before,) = json.loads(run(tmp_path, "budget", "list", "--json")[1])

    code, out, _ = run(tmp_path, "budget", "limit", "each", "7.50")

    (after,) = json.loads(run(tmp_path, "budget", "list", "--json")[1])
    assert (code, out) == (0, "'each' allows $7.50 a day, was $5.00\n")
    changed = ("limit_usd", "effective_limit_usd", "remaining_usd")
    assert after == before | dict.fromkeys(changed, "7.50")
    assert before["subject"] == "*"
    assert len(run(tmp_path, "budget", "history", "each")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "usd", "problem"),
    [
        ("eahc", "7", "error: there is no budget 'eahc'; did you mean 'each'?"),
        ("each", "much", "error: USD: 'much' is not an amount; write it like 12.50"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    tmp_path: Path, name: str, usd: str, problem: str
) -> None:
    """A mistyped name does not create a budget for everybody, and no limit is negative."""
    run(tmp_path, "budget", "set", "each", "--customer", "*", "--limit", "5")

    code, out, said = run(tmp_path, "budget", "limit", name, usd)

    assert code in (1, 2)
    assert out == ""
    assert said.startswith(problem)
    assert json.loads(run(tmp_path, "budget", "list", "--json")[1])[0]["limit_usd"] == "5.00"


def test_apply_names_what_it_sets_and_removes(tmp_path: Path) -> None:
    """A dry run lists the budgets that would change, and a real run those that did."""
    file = tmp_path / "budgets.yaml"
    file.write_text("- {name: acme, customer: acme, limit: 5}\n- {name: all, limit: 9}\n")
    run(tmp_path, "budget", "set", "old", "--limit", "1")
    run(tmp_path, "budget", "set", "all", "--limit", "9")

    assert run(tmp_path, "apply", "-f", str(file), "--prune", "--dry-run")[1].splitlines() == [
        "+ acme: customer acme $5.00 a month (UTC), block",
        "- old: everybody $1.00 a month (UTC), block",
        "1 would be set: acme",
        "1 would be removed: old",
        "1 unchanged",
    ]
    assert run(tmp_path, "apply", "-f", str(file))[1].splitlines() == [
        "+ acme: customer acme $5.00 a month (UTC), block",
        "1 set: acme",
        "0 removed",
        "1 unchanged",
    ]


MAKE_A_LEDGER = {
    *("gateway", "ship", "keys create", "keys import", "budget set", "rate set", "apply"),
    *("ledger migrate", "notices run"),
}
"""Commands that write something new, and so create a ledger if there is none."""
NEED_NO_LEDGER = {"notices test"}
NEED_ONE = {
    "apply --dry-run": "apply -f {file} --dry-run",
    "budget explain": "budget explain --customer acme",
    "budget history": "budget history",
    "budget holds": "budget holds",
    "budget limit": "budget limit all 5",
    "budget list": "budget list",
    "budget raise": "budget raise all 5 --until 2099-01-01",
    "budget remove": "budget remove all",
    "keys history": "keys history",
    "keys list": "keys list",
    "keys rotate": "keys rotate key_0123456789ab",
    "keys set": "keys set key_0123456789ab --expires never",
    "top": "top",
    "keys revoke": "keys revoke key_0123456789ab",
    "ledger backup": "ledger backup {file}.copy",
    "ledger prune": "ledger prune --before 40d",
    "ledger verify": "ledger verify",
    "notices list": "notices list",
    "notices retry": "notices retry",
    "rate explain": "rate explain --customer acme",
    "rate list": "rate list",
    "rate remove": "rate remove all",
    "requests": "requests",
    "ship --once": "ship --once",
    "spend": "spend",
    "trace": "trace 0123456789ab",
}


def with_ledgers(command: Any, path: str = "") -> Iterator[str]:
    """The commands that use a ledger."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from with_ledgers(inner, f"{path} {name}".strip())
    if any("--ledger" in parameter.opts for parameter in command.params):
        yield path


def test_every_command_with_a_ledger_is_looked_at() -> None:
    """Each new command must be listed, either as creating a ledger or not."""
    known = {name.partition(" --")[0] for name in NEED_ONE} | MAKE_A_LEDGER | NEED_NO_LEDGER
    assert set(with_ledgers(get_command(app))) == known


@pytest.mark.parametrize("command", NEED_ONE.values(), ids=NEED_ONE)
def test_reading_and_changing_make_no_ledger(tmp_path: Path, command: str) -> None:
    """A mistyped path gives one line and exit code 1 everywhere, and no file is created."""
    file = tmp_path / "budgets.yaml"
    file.write_text("- {name: all, limit: 9}\n")
    folder = tmp_path / "absent"

    code, out, problem = run(folder, *command.format(file=file).split())

    assert (code, out) == (1, "")
    assert problem == (
        f"error: there is no ledger at '{folder}/ledger.db'; start the gateway to create it, or name"
        " another with --ledger\n"
    )
    assert not folder.exists()


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(columns: int) -> None:
    """No line is wider than the terminal, and no variable's name is truncated."""
    shown = CliRunner().invoke(
        app, ["worker", "serve", "-h"], env={"COLUMNS": str(columns)}, prog_name="spanledger"
    )
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= columns
    assert "SPANLEDGER_WORKER_CUSTOMERS" in shown.stdout
    assert "…" not in shown.stdout


def test_what_is_not_there_is_a_failure_and_no_wrong_usage(tmp_path: Path) -> None:
    """A key and a budget that do not exist answer with the same exit code."""
    store_at(tmp_path / "ledger.db").records("create").close()
    assert run(tmp_path, "keys", "revoke", "key_none")[0] == 1
    assert run(tmp_path, "budget", "remove", "none")[0] == 1


@pytest.mark.parametrize("command", ["keys list", "budget list", "budget history"])
def test_an_empty_list_names_its_ledger(tmp_path: Path, command: str) -> None:
    """The output names the ledger, in case it is the wrong one."""
    store_at(tmp_path / "ledger.db").records("create").close()
    code, out, _ = run(tmp_path, *command.split())

    assert code == 0
    assert f"in sqlite:///{tmp_path}/ledger.db" in out


def test_a_budget_over_everything_is_everybodys_in_each_table(tmp_path: Path) -> None:
    """The history uses the word of the list."""
    run(tmp_path, "budget", "set", "all", "--limit", "5")

    assert "all: everybody $5.00 a month" in run(tmp_path, "budget", "history")[1]
    assert "everybody" in run(tmp_path, "budget", "list")[1]


def test_the_first_key_says_what_it_changes(tmp_path: Path) -> None:
    """Creating the first key warns that callers without one are locked out; later ones do not."""
    assert "refuse callers without" in run(tmp_path, "keys", "create", "--customer", "acme")[2]
    assert "refuse callers without" not in run(tmp_path, "keys", "create", "--customer", "acme")[2]


def test_a_span_of_time_that_is_none(tmp_path: Path) -> None:
    """Ages count back from now; a time span that ends before it begins is an error, not $0."""
    run(tmp_path, "keys", "create", "--customer", "acme")
    code, out, problem = run(tmp_path, "spend", "--since", "7d", "--until", "9d")
    assert (code, out) == (2, "")
    assert "--until 9d is not after --since 7d" in problem
    assert run(tmp_path, "spend", "--since", "9d", "--until", "7d")[0] == 0
