"""`spanledger keys`: what people type over a key's life."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.commands.gateway import _of_keys, read_config, with_overrides
from spanledger.commands.summary import _stored
from spanledger.ledger.keys import key_digest
from tests.support.ledgers import store_at

DAY = 86_400 * 10**9


class Commands:
    """Runs commands on a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.db"

    def run(self, *arguments: str, code: int = 0) -> str:
        """Stdout, or stderr if it fails as expected."""
        words = [*arguments, "--ledger", f"sqlite:///{self.file}"]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == code, result.stderr
        return result.stderr if code else result.stdout

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*arguments, "--json"))

    def create(self, *arguments: str) -> Any:
        """A key of acme's."""
        return self.json("keys", "create", "--customer", "acme", *arguments)

    def used(self, key: str, days_ago: int) -> None:
        """Let a gateway have seen the key."""
        with store_at(self.file).records("change") as records:
            records._sql.run(  # type: ignore[attr-defined]  # behind its back
                "UPDATE keys SET created_ns = 1, last_used_ns = :at WHERE id = :id",
                at=time.time_ns() - days_ago * DAY,
                id=key,
            )

    def ids(self, *arguments: str) -> set[str]:
        """The names in the list."""
        return {key["name"] for key in self.json("keys", "list", *arguments)}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """In a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path)


def test_a_key_with_everything_in_one_command(commands: Commands) -> None:
    """Its budget is there with it, by its name, and counts the key alone."""
    key = commands.create(
        *("--name", "ci", "--expires", "30d", "--routes", "chat", "--models", "gpt-4o*, o3"),
        *("--default-user", "ada", "--metadata", "owner=Ada", "--metadata", "ticket=42"),
        *("--limit", "50", "--period", "month", "--period-day", "15", "--action", "warn"),
        *("--thresholds", "70"),
    )
    assert key["key"].startswith("slk_")
    assert key["models"] == ["gpt-4o*", "o3"]
    assert key["metadata"] == {"owner": "Ada", "ticket": "42"}
    assert (key["default_user"], key["state"], key["budget"]) == ("ada", "valid", "key-ci")
    (budget,) = commands.json("budget", "list")
    assert (budget["name"], budget["scope"], budget["subject"]) == ("key-ci", "key", key["id"])
    assert (budget["limit_usd"], budget["action"], budget["thresholds"]) == ("50.00", "warn", [70])
    assert commands.create("--limit", "1")["budget"].startswith("key_")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--expires", "2020-01-01"), "would expire on 2020-01-01 00:00:00 UTC, which is over"),
        (("--expires", "0"), "neither a moment nor a duration"),
        (("--expires", ""), "neither a moment nor a duration"),
        (("--expires", "-3d"), "neither a moment nor a duration"),
        (("--period", "day", "--strict"), "--period, --strict: that is of the key's budget; add"),
        (("--limit", "much"), "'much' is not an amount"),
        (("--limit", "5", "--period", "moon"), "moon"),
        (("--limit", "5", "--name", "x" * 128), "128"),
        (("--models", "*"), "'*' alone allows every model"),
        (("--models", ""), "printable"),
        (("--models", "a,b", "--allow-pass-through"), "contradicts --models"),
        (("--user", "a", "--default-user", "b"), "--default-user has no effect"),
        (("--metadata", "owner"), "'owner' is not NAME=TEXT"),
        (("--metadata", "=x"), "printable"),
        (("--metadata", "a=b\nc"), "printable"),
        (("--name", "slk_x"), "must not begin with 'slk_'"),
        (("--name", ""), "printable"),
        (("--config", "absent.yaml", "--routes", "chat"), "absent.yaml"),
    ],
)
def test_what_cannot_be_is_refused(
    commands: Commands, options: tuple[str, ...], problem: str
) -> None:
    """One error that says what to change, and no ledger is made."""
    code = 1 if "absent.yaml" in options else 2
    said = commands.run("keys", "create", "--customer", "acme", *options, code=code)
    assert problem in said
    assert not commands.file.exists()


CONFIG = """
model_list:
  - {model_name: chat, litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/ABSENT_KEY}}
  - {model_name: "any/*", litellm_params: {model: "anthropic/claude-*", api_key: x}}
router_settings: {model_group_alias: {talk: chat}}
"""


@pytest.mark.parametrize("place", ["spanledger.yaml", "other.yaml"])
def test_routes_and_models_that_do_not_exist_are_refused(
    commands: Commands, tmp_path: Path, place: str
) -> None:
    """All at once, by the given file or the one that a gateway would read here."""
    (tmp_path / place).write_text(CONFIG)
    named = () if place == "spanledger.yaml" else ("--config", place)
    create = ("keys", "create", "--customer", "acme", *named)

    said = commands.run(*create, "--routes", "chta,talk,chat", "--models", "gpt-4o-mimi", code=2)
    assert "no deployment has model_name 'chta'; did you mean 'chat'?" in said
    assert "'talk' is an alias; name its route, 'chat'" in said
    assert "no deployment has the model 'gpt-4o-mimi'" in said
    assert said.count("\n") == 3
    assert not commands.file.exists()
    fine = ("--routes", "chat,any/claude-haiku-4-5", "--models", "gpt-4o*,claude-opus-4-1")
    key = commands.run(*create, *fine, "--name", "ci")
    assert "no deployment" in commands.run("keys", "set", "ci", *named, "--routes", "no", code=2)
    assert key.startswith("slk_")


def test_a_rotation_by_name(commands: Commands) -> None:
    """The new secret is printed, the list shows until when both work, and the history who did it."""
    key = commands.create("--name", "ci")
    rotated = commands.json("keys", "rotate", "ci", "--overlap", "2h")
    assert rotated["key"] != key["key"]
    assert (rotated["id"], rotated["state"]) == (key["id"], "rotating")
    left = time.time_ns() + 2 * 3_600 * 10**9
    with store_at(commands.file).records("read") as records:
        found = records.find_key(key_digest(key["key"]))
    assert found is not None
    assert found.until_ns is not None
    assert 0 <= left - found.until_ns < 60 * 10**9
    assert "rotating until" in commands.run("keys", "list")
    create, rotate = commands.json("keys", "history", "ci")
    assert (create["change"], rotate["change"], rotate["way"]) == ("create", "rotate", "command")
    assert rotate["old_secret_until"] == rotated["rotating_until"]
    shown = commands.run("keys", "history", key["key"])
    assert "a new secret; the one before works until" in shown
    assert key["key"] not in shown


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("rotate", "ci", "--overlap", "40d"), 2, "before the overlap ends"),
        (("rotate", "ci", "--overlap", "soon"), 2, "--overlap: 'soon' is not a duration"),
        (("rotate", "slk_secret"), 1, "no key has this id, name or secret"),
        (("set", "ci"), 2, "nothing to change is given"),
        (("set", "ci", "--expires", "2020-01-01"), 2, "which is over"),
        (("set", "ci", "--name", "cd"), 2, "the name 'cd' is taken by"),
        (("set", "ci", "--models", "a", "--allow-pass-through"), 2, "contradicts --models"),
        (("list", "--state", "gone"), 2, "'gone' is none of valid, rotating, expired, revoked"),
        (("list", "--expires-within", "x"), 2, "--expires-within"),
        (("history", "nobody"), 1, "no key has this id"),
    ],
)
def test_changes_that_cannot_be(
    commands: Commands, words: tuple[str, ...], code: int, problem: str
) -> None:
    """Each is one line, and changes nothing."""
    commands.create("--name", "ci", "--expires", "30d")
    commands.create("--name", "cd")
    before = commands.json("keys", "history")
    said = commands.run("keys", *words, code=code)
    assert problem in said
    assert said.count("\n") == 1
    assert "slk_secret" not in said
    assert commands.json("keys", "history") == before


def test_a_key_is_changed_field_by_field(commands: Commands) -> None:
    """The history has the old and the new value of what changed; what did not leaves no line."""
    commands.create("--name", "ci", "--expires", "30d", "--routes", "a", "--metadata", "owner=x")
    wanted = ("keys", "set", "ci", "--expires", "never", "--routes", "a,b", "--models", "gpt-4o")
    key = commands.json(*wanted, "--metadata", "owner=", "--metadata", "by=y", "--name", "cd")
    assert (key["expires_at"], key["routes"], key["models"]) == (None, ["a", "b"], ["gpt-4o"])
    assert (key["metadata"], key["name"], key["changed"]) == ({"by": "y"}, "cd", True)
    again = ("keys", "set", "cd", "--routes", "a,b")
    assert commands.json(*again)["changed"] is False
    change = commands.json("keys", "history", "cd")[-1]["changes"]
    assert change[0] == "routes a → a, b"
    assert change[1:3] == ["models - → gpt-4o", "name ci → cd"]
    assert change[3].endswith("UTC → -")
    assert change[4] == "metadata owner=x → by=y"
    key = commands.json("keys", "set", "cd", "--routes", "all", "--models", "all")
    assert (key["routes"], key["models"]) == ([], [])


def test_the_list_finds(commands: Commands) -> None:
    """By each thing that a key has, and by what it is now."""
    commands.create("--name", "ci-red", "--team", "red", "--tag", "nightly", "--expires", "3d")
    commands.create("--name", "ci-blue", "--team", "blue", "--user", "ada", "--project", "apollo")
    commands.create("--name", "web", "--default-user", "ada", "--expires", "30d")
    commands.json("keys", "create", "--customer", "globex", "--name", "old")
    idle = commands.create("--name", "idle")
    commands.json("keys", "revoke", "old")
    commands.json("keys", "rotate", "ci-blue")
    commands.used(idle["id"], 100)

    every = {"ci-red", "ci-blue", "web", "old", "idle"}
    assert commands.ids() == every
    assert commands.ids("--name", "ci") == {"ci-red", "ci-blue"}
    assert commands.ids("--name", idle["id"][3:9]) == {"idle"}
    assert commands.ids("--customer", "globex") == {"old"}
    assert commands.ids("--team", "red") == {"ci-red"}
    assert commands.ids("--user", "ada") == {"ci-blue", "web"}
    assert commands.ids("--project", "apollo") == {"ci-blue"}
    assert commands.ids("--tag", "nightly") == {"ci-red"}
    assert commands.ids("--state", "revoked", "--state", "rotating") == {"old", "ci-blue"}
    assert commands.ids("--expires-within", "1w") == {"ci-red"}
    assert commands.ids("--expires-within", "10w") == {"ci-red", "web"}
    assert commands.ids("--unused-for", "90d") == {"idle"}
    assert commands.ids("--unused-for", "200d") == set()
    assert "none of 5 keys is like that" in commands.run("keys", "list", "--team", "green")
    shown = commands.run("keys", "list")
    for text in ("ci-red", "nightly", "apollo", "revoked", "last used", "expires"):
        assert text in shown


def test_an_expired_key_is_shown_as_such(commands: Commands) -> None:
    """And can be brought back with a later end."""
    key = commands.create("--name", "ci", "--expires", "1h")
    with store_at(commands.file).records("change") as records:
        records._sql.run("UPDATE keys SET expires_ns = 5")  # type: ignore[attr-defined]  # behind its back
    assert commands.json("keys", "list")[0]["state"] == "expired"
    assert "expired" in commands.run("keys", "rotate", "ci", code=2)
    commands.run("keys", "set", key["id"], "--expires", "1h")
    assert commands.json("keys", "list", "--expires-within", "2h")[0]["state"] == "valid"


def test_a_start_counts_the_keys_that_work(commands: Commands) -> None:
    """Neither revoked nor expired ones let a caller in."""
    for name in ("ci", "gone", "over"):
        commands.create("--name", name, "--expires", "1h")
    commands.json("keys", "revoke", "gone")
    with store_at(commands.file).records("change") as records:
        statement = "UPDATE keys SET expires_ns = 5 WHERE name = 'over'"
        records._sql.run(statement)  # type: ignore[attr-defined]  # behind its back
    messages = [message for message, _ in _stored(f"sqlite:///{commands.file}")]
    assert messages[-1] == "callers need one of 1 keys"


def test_a_gateway_warns_of_keys_that_can_use_nothing(commands: Commands, tmp_path: Path) -> None:
    """Of valid ones, by what their configuration does not have; without a ledger there are none."""
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    config, plan, _ = read_config(tmp_path / "gateway.yaml", {})
    assert plan is not None
    settings = with_overrides(config, {}, f"sqlite:///{commands.file}")
    assert _of_keys(settings, plan) == []
    commands.create("--name", "ci", "--routes", "chta")
    commands.create("--name", "fine", "--routes", "chat,any/x", "--models", "gpt-4o*")
    commands.create("--name", "gone", "--routes", "nowhere")
    commands.json("keys", "revoke", "gone")
    (line,) = _of_keys(settings, plan)
    assert line.startswith("key key_")
    assert line.endswith("(ci): no deployment has model_name 'chta'; did you mean 'chat'?")
