"""Names in the shell's completion, asked for as bash and zsh ask: the command with an environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spanledger.budgets.model import Budget
from tests.support.ledgers import store_at


def complete(words: list[str], ledger: Path | None) -> tuple[int, list[str], str]:
    """The exit code, what bash would offer for the last word, and stderr."""
    url = {"SPANLEDGER_LEDGER_URL": f"sqlite:///{ledger}"} if ledger else {}
    shell = {
        "_SPANLEDGER_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["spanledger", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "spanledger"],
        env={"PATH": os.environ["PATH"], **url, **shell},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.split(), done.stderr


@pytest.fixture(name="ledger")
def a_ledger(tmp_path: Path) -> Path:
    """A ledger with three budgets, one of them removed, and two keys, one of them revoked."""
    path = tmp_path / "ledger.db"
    records = store_at(path).records("create")
    for name in ("acme", "acme-day", "gone"):
        budget = Budget(name, "customer", name, 10**9, "day")
        records.set_budgets([budget], 1)
    records.remove_budget("gone", 2)
    _, old = records.create_key("initech", "ops", (), 3)
    records.revoke_key(old.id, 4)
    records.create_key("globex", "web", (), 5)
    records.close()
    return path


def test_names_complete(ledger: Path) -> None:
    """Each option and argument that takes a name from the ledger offers the names there."""
    records = store_at(ledger).records("read")
    valid = [key.id for key in records.keys() if key.revoked_ns is None]  # noqa: SIM118 - no dict
    records.close()

    offered = {
        words: complete(words.split("_"), ledger)[1]
        for words in (
            "budget_limit_",
            "budget_set_acme-",
            "budget_remove_a",
            "budget_history_g",
            "keys_revoke_key",
            "keys_create_--customer_",
            "keys_create_--team_w",
            "requests_--customer_i",
        )
    }
    assert offered == {
        "budget_limit_": ["acme", "acme-day"],
        "budget_set_acme-": ["acme-day"],
        "budget_remove_a": ["acme", "acme-day"],
        "budget_history_g": ["gone"],
        "keys_revoke_key": valid,
        "keys_create_--customer_": ["acme", "acme-day", "globex", "initech"],
        "keys_create_--team_w": ["web"],
        "requests_--customer_i": ["initech"],
    }


def test_the_ledger_of_the_command_line_is_read(ledger: Path, tmp_path: Path) -> None:
    """`--ledger` before the cursor decides whose names are offered."""
    words = ["budget", "limit", "--ledger", f"sqlite:///{ledger}", "acme-"]

    assert complete(words, tmp_path / "other.db")[1] == ["acme-day"]


@pytest.mark.parametrize("content", [None, b"", b"no database at all\n" * 100])
def test_completion_never_fails(tmp_path: Path, content: bytes | None) -> None:
    """Without a readable ledger nothing is offered, nothing is printed and nothing is made."""
    path = tmp_path / "ledger.db"
    if content is not None:
        path.write_bytes(content)

    _, offered, errors = complete(["budget", "limit", ""], path)

    assert (offered, errors) == ([], "")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if content is None else [content])


def test_completion_changes_nothing(ledger: Path) -> None:
    """The ledger's file is the same after it was read for names."""
    before = ledger.read_bytes()

    complete(["keys", "create", "--customer", ""], ledger)

    assert ledger.read_bytes() == before
