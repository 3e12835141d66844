"""Rates by command and by file: set, listed, explained, and which of the two counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spanledger.app import open_gateway
from spanledger.config import load_config
from tests.service.test_scope_commands import Commands


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """On a ledger that does not exist yet."""
    return Commands(tmp_path)


def test_a_rate_is_set_changed_listed_and_removed(commands: Commands) -> None:
    """Setting it again replaces it whole."""
    limits = ("--rpm-limit", "60", "--usd-per-minute", "0.50", "--max-parallel-requests", "4")
    said = commands.run("rate", "set", "acme", "--customer", "acme", *limits)
    assert said == (
        "set: 'acme' allows customer 'acme' 60 requests a minute, $0.50 a minute, 4 requests at once\n"
    )
    changed = commands.json("rate", "set", "acme", "--customer", "acme", "--tpm-limit", "1000")
    assert (changed["rpm_limit"], changed["tpm_limit"], changed["changed"]) == (None, 1000, True)
    assert commands.run(
        "rate", "set", "acme", "--customer", "acme", "--tpm-limit", "1000"
    ).startswith("unchanged")
    (listed,) = commands.json("rate", "list")
    assert listed == {
        "name": "acme",
        "scope": "customer",
        "subject": "acme",
        "rpm_limit": None,
        "tpm_limit": 1000,
        "usd_per_minute": None,
        "max_parallel_requests": None,
        "default": False,
        "file": None,
    }
    assert "1,000" in commands.run("rate", "list")
    assert commands.run("rate", "remove", "acme") == "removed 'acme'\n"
    assert "no rates yet" in commands.run("rate", "list")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "it limits nothing; give it one of rpm_limit"),
        (("--rpm-limit", "many"), "--rpm-limit: expected a whole number, got 'many'"),
        (("--rpm-limit", "0"), "--rpm-limit: must be greater than 0, got '0'"),
        (("--usd-per-minute", "0"), "--usd-per-minute: must be greater than 0, or left out"),
        (("--customer", "", "--rpm-limit", "1"), "--customer: must be one or more printable"),
        (("--customer", "acme", "--default", "--rpm-limit", "1"), "can be a default"),
    ],
)
def test_a_mistake_says_what_to_change(
    commands: Commands, options: tuple[str, ...], problem: str
) -> None:
    """And creates no ledger."""
    assert problem in commands.run("rate", "set", "r", *options, code=2)
    assert not commands.file.exists()


def test_a_rate_that_is_not_there(commands: Commands) -> None:
    """The nearest name is offered."""
    commands.run("rate", "set", "acme-rpm", "--rpm-limit", "5")
    assert "did you mean 'acme-rpm'?" in commands.run("rate", "remove", "acme-rmp", code=1)


def test_what_applies_to_a_request(commands: Commands) -> None:
    """By the same rules as budgets: a default gives way, and combinations need all of their parts."""
    commands.run("rate", "set", "each", "--customer", "*", "--default", "--rpm-limit", "5")
    commands.run("rate", "set", "acme", "--customer", "acme", "--rpm-limit", "50")
    commands.run("rate", "set", "both", "--customer", "acme", "--model", "m", "--tpm-limit", "9")

    said = commands.run("rate", "explain", "--customer", "acme")
    assert said.splitlines() == [
        "acme: customer acme: 50 requests a minute",
        "each: customer acme: 'acme' limits in its place",
    ]
    assert commands.run("rate", "explain", "--customer", "other") == (
        "each: customer other: 5 requests a minute\n"
    )
    found = commands.json("rate", "explain", "--customer", "acme", "--model", "m")
    assert {rate["name"]: rate["replaced_by"] for rate in found["applies"]} == {
        "acme": None,
        "each": "acme",
        "both": None,
    }
    assert "no rate applies" in commands.run("rate", "explain", "--team", "t")


async def test_a_files_rates_are_the_files(commands: Commands, tmp_path: Path) -> None:
    """A start sets them as they are in the file, and removes those that it has no more."""
    file = tmp_path / "config.yaml"

    async def start(*rates: dict[str, object]) -> None:
        file.write_text(
            yaml.safe_dump({"ledger": {"url": f"sqlite:///{commands.file}"}, "rates": [*rates]})
        )
        async with open_gateway(load_config(file, {}), config_file=file):
            pass

    await start({"name": "a", "rpm_limit": 5}, {"name": "b", "team": "*", "tpm_limit": 7})
    commands.run("rate", "set", "mine", "--max-parallel-requests", "3")
    assert "change it there" in commands.run("rate", "set", "a", "--rpm-limit", "6", code=2)
    assert "change it there" in commands.run("rate", "remove", "a", code=2)

    await start({"name": "b", "team": "*", "tpm_limit": 8})

    listed = commands.json("rate", "list")
    assert [(r["name"], r["tpm_limit"], r["file"]) for r in listed] == [
        ("b", 8, str(file.resolve())),
        ("mine", None, None),
    ]
