"""The password of a ledger's URL is shown by no command, whether it succeeds or fails."""

from __future__ import annotations

import gc
import getpass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.ledger.ports import Store
from tests.service.ledger.postgres.rig import port_of

PASSWORD = "canary"
COMMANDS = [
    "ledger migrate",
    "ledger migrate --json",
    "ledger verify",
    "ledger verify --json",
    "ledger backup copy.db",
    "ledger prune --before 90d --dry-run",
    "budget list",
    "budget history",
    "budget show acme",
    "keys list",
    "keys create --customer acme --json",
    "keys revoke key_none",
    "spend",
    "spend --json",
    "requests",
    "trace req_000000",
    "top --once",
    "top --once --json",
    "config check spanledger.yaml",
    "config check spanledger.yaml --json",
    "ship --once --config spanledger.yaml",
]


# A command that fails leaves its connection to the end of its process, which is not over here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("database", ["there", "missing"])
def test_no_command_shows_the_password(
    store: Store, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment and as an option, with a ledger that is there and with one that is not."""
    path = urlsplit(store.url).path if database == "there" else "/missing"
    user = f"{getpass.getuser()}:{PASSWORD}"
    url = f"postgresql://{user}@127.0.0.1:{port_of(store)}{path}?application_name={PASSWORD}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANLEDGER_LEDGER_URL", url)
    (tmp_path / "spanledger.yaml").write_text(f"ledger: {{url: '{url}'}}\n")
    shown = []

    for command in COMMANDS:
        result = CliRunner().invoke(app, command.split())
        shown.append((command, result.output, result.stderr, str(result.exception)))
    gc.collect()  # while this test's warnings are ignored

    assert [line for line in shown if PASSWORD in "".join(line)] == []
    assert any(path.strip("/") in line[1] for line in shown)
