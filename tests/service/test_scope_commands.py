"""Budgets of several scopes by command: set, shown and explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from tests.support.ledgers import store_at


class Commands:
    """Commands on a ledger of their own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.db"

    def run(self, *words: str, code: int = 0) -> str:
        """What a command prints; with an exit code, its error."""
        ledger = ["--ledger", f"sqlite:///{self.file}"]
        result = CliRunner().invoke(app, [*words, *ledger], catch_exceptions=False)
        assert result.exit_code == code, result.stderr
        return result.stdout if code == 0 else result.stderr

    def json(self, *words: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.run(*words, "--json"))


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """On a ledger that does not exist yet."""
    return Commands(tmp_path)


def test_a_combination_is_set_changed_and_listed(commands: Commands) -> None:
    """It names several subjects, keeps them when something else changes, and cannot become another budget."""
    said = commands.run(
        "budget", "set", "b", "--model", "m,1", "--customer", "acme", "--limit", "5"
    )
    assert "customer 'acme' and model 'm,1'" in said
    changed = commands.json("budget", "set", "b", "--limit", "6")
    assert changed["scope"] == "customer,model"
    assert changed["subject"] == "acme,m\\,1"
    assert changed["subjects"] == {"customer": "acme", "model": "m,1"}
    assert changed["changes"] == [{"field": "limit_usd", "before": "5.00", "after": "6.00"}]
    problem = commands.run("budget", "set", "b", "--customer", "acme", code=2)
    assert "is for customer acme and model m,1, not customer acme" in problem
    (listed,) = commands.json("budget", "list")
    assert listed["subjects"] == {"customer": "acme", "model": "m,1"}
    assert "customer acme and model m,1" in commands.run("budget", "list")


def test_only_a_budget_for_each_can_be_a_default(commands: Commands) -> None:
    """A default without an open subject would never limit anything that another one does not."""
    problem = commands.run(
        "budget", "set", "b", "--user", "ada", "--default", "--limit", "1", code=2
    )
    assert "only one for each subject" in problem
    assert not commands.file.exists()


def test_explain_says_what_each_budget_says(commands: Commands) -> None:
    """Budgets that apply say whether they have room; a replaced default says who limits instead; the
    others say why they do not apply."""
    commands.run("budget", "set", "each", "--user", "*", "--limit", "1", "--default")
    commands.run("budget", "set", "vip", "--user", "ada", "--limit", "9")
    commands.run("budget", "set", "soft", "--customer", "acme", "--limit", "1", "--action", "warn")
    commands.run("budget", "set", "pair", "--team", "t", "--tag", "*", "--limit", "1")
    commands.run("budget", "set", "other", "--customer", "globex", "--limit", "1")
    commands.run("budget", "set", "later", "--limit", "1", "--valid-from", "2190-01-01")
    ask = ("budget", "explain", "--customer", "acme", "--team", "t", "--tag", "x", "--tag", "y")

    found = commands.json(*ask, "--user", "ada", "--hold", "2")
    said = {each["name"]: each for each in found["applies"] if each["name"] != "pair"}
    assert {name: (e["refuses"], e["replaced_by"]) for name, e in said.items()} == {
        "each": (False, "vip"),
        "vip": (False, None),
        "soft": (False, None),
    }
    pairs = [e["account"] for e in found["applies"] if e["name"] == "pair" and e["refuses"]]
    assert pairs == ["t,x", "t,y"]
    assert not found["admitted"]
    why = {each["name"]: each["why"] for each in found["does_not_apply"]}
    assert why == {
        "other": "it is for customer 'globex', not 'acme'",
        "later": "it limits nothing before 2190-01-01 00:00 (UTC)",
    }

    text = commands.run(*ask, "--user", "bob", "--hold", "2")
    assert "refuses" in text
    assert "vip: it is for user 'ada', not 'bob'" in text
    assert commands.json(*ask, "--user", "bob", "--hold", "0.5")["admitted"]


def test_explain_takes_what_a_key_has(commands: Commands) -> None:
    """The key's customer, user, project and tags are known; what contradicts them is an error."""
    key = commands.json(
        *("keys", "create", "--customer", "acme", "--user", "ada", "--project", "apollo"),
        *("--tag", "b", "--tag", "a", "--tag", "b"),
    )
    assert (key["user"], key["project"], key["tags"]) == ("ada", "apollo", ["b", "a"])
    assert "apollo" in commands.run("keys", "list")
    found = commands.json("budget", "explain", "--key", key["id"], "--tag", "c")
    assert found["request"] == {
        "customer": "acme",
        "key": key["id"],
        "user": "ada",
        "project": "apollo",
        "tag": ["b", "a", "c"],
    }
    usual = commands.json("keys", "create", "--customer", "acme", "--default-user", "ada")["id"]
    for more, user in (((), "ada"), (("--user", "eve"), "eve")):
        found = commands.json("budget", "explain", "--key", usual, *more)
        assert found["request"]["user"] == user
    problem = commands.run("budget", "explain", "--key", key["id"], "--user", "eve", code=2)
    assert "has user 'ada'" in problem
    assert "there is no key" in commands.run("budget", "explain", "--key", "key_x", code=2)


def test_too_many_tags_of_a_key_are_refused(commands: Commands) -> None:
    """All its requests would be refused."""
    tags = [word for number in range(17) for word in ("--tag", f"t{number}")]
    problem = commands.run("keys", "create", "--customer", "acme", *tags, code=2)
    assert "16 times" in problem
    assert not commands.file.exists()


def test_spend_by_new_scopes_has_a_total_without_repeats(commands: Commands) -> None:
    """The command knows each scope, and an empty ledger has no spend."""
    store_at(commands.file).records("create").close()
    for by in ("user", "project", "tag", "route", "tag,user,day"):
        assert commands.json("spend", "--by", by) == {
            "by": by.split(","),
            "rows": [],
            "total_charged_usd": "0.00",
            "total_list_usd": "0.00",
            "total_usd": "0.00",
        }
