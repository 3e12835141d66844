"""From the files of the last release to these: money, keys and secrets stay, versions follow."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.engine.conftest import Install
from tests.engine.installation import ROOT, Installation, clone
from tests.support.processes import poll

FIRST = "364892c"
"""0.1.0, before releases were tagged."""
NEVER_STARTED = 'entrypoint: [chown, --recursive, "10001:10001", /volumes]'
MENDED = f"{NEVER_STARTED[:-1]}/ledger, /volumes/keys, /volumes/collector-queue]"
"""0.1.0 started only with this line changed."""


def released() -> str:
    """The last tag, or the first release; skips without the git history."""
    git = ["git", "-C", str(ROOT)]
    tag = subprocess.run(
        [*git, "describe", "--tags", "--abbrev=0", "--match=v*"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    name = tag or FIRST
    if subprocess.run([*git, "cat-file", "-e", name], capture_output=True, check=False).returncode:
        pytest.skip("this checkout has no history: the last release is not in it")
    return name


def put_release(stack: Installation, name: str) -> None:
    """Replace the current files with those of a release."""
    shutil.rmtree(stack.folder)
    stack.folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", name], capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(stack.folder)], input=archive, check=True)
    file = stack.folder / "docker-compose.yml"
    file.write_text(file.read_text("utf-8").replace(NEVER_STARTED, MENDED), "utf-8")


def test_an_upgrade_keeps_what_counts(install: Install) -> None:
    """`git pull` and `make up` over a running stack: the ledger, its keys and Grafana's secrets stay."""
    stack = install()
    put_release(stack, released())
    stack.run("make", "up").well()
    key = stack.key("old-customer")
    assert stack.ask(key).status_code == 200
    assert poll(lambda: stack.spend("old-customer") > 0)
    spent = stack.spend("old-customer")
    env = (stack.folder / ".env").read_text("utf-8")
    before = stack.ids()

    for path in stack.folder.iterdir():
        if path.name != ".env":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    clone(stack.folder)
    (stack.folder / ".env").write_text(env, "utf-8")
    stack.run("make", "up").well()

    assert stack.is_running()
    assert not set(before.values()) & set(stack.ids().values())
    assert stack.ask(key).status_code == 200
    assert stack.spanledger("ledger", "verify")["ok"] is True
    assert poll(lambda: stack.spend("old-customer") > spent)
    password = dict(line.split("=", 1) for line in env.splitlines() if "=" in line)
    words = ("exec", "-T", "grafana", "cat", "/run/spanledger/admin-password")
    assert stack.compose(*words).well().strip() == password["GRAFANA_ADMIN_PASSWORD"]
    assert "_VERSION=" not in (stack.folder / ".env").read_text("utf-8")
