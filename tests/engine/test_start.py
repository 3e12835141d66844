"""A fresh clone: the documented command starts everything, and the first request soon shows up."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.engine.installation import LONG_RUNNING, VISIBLE_S, Installation
from tests.support.processes import poll

ERROR = re.compile(r"\b(?:level|lvl)=error\b|\terror\t|\bERROR\b|Traceback")
"""A line at this level in the logs of Go programs and our own."""
MOST_LINES = 12
"""The gateway logs ten lines at startup."""
QUIET = ("collector", "tempo", "prometheus", "grafana", "gateway", "sim")


def test_it_starts_as_typed(stack: Installation) -> None:
    """`docker compose up --detach --wait` in a fresh clone starts all services and creates no file."""
    assert set(stack.ids()) == set(LONG_RUNNING)
    assert not (stack.folder / ".env").exists()
    assert stack.is_running()


def test_the_first_request_is_seen_soon(stack: Installation) -> None:
    """Its cost is in Prometheus, and its trace in Tempo if available, within 20 s."""
    answer = stack.ask(stack.key("first"))
    assert answer.status_code == 200, answer.text

    assert poll(lambda: stack.spend("first") > 0, VISIBLE_S)
    if is_real(stack, "tempo"):
        trace = answer.headers["x-spanledger-trace-id"]
        url = f"http://127.0.0.1:3200/api/traces/{trace}"
        assert poll(lambda: stack.http.get(url).status_code == 200, VISIBLE_S)


def is_real(stack: Installation, service: str) -> bool:
    """Whether a service runs the real program; a stand-in's image has a label."""
    return "spanledger.stand-in" not in stack.inspect(service)["Config"]["Labels"]


def test_a_second_up_changes_nothing(stack: Installation) -> None:
    """Nothing is recreated while nothing has changed, with docker compose or with make."""
    before = stack.ids()

    stack.compose("up", "--detach", "--wait").well()
    assert stack.ids() == before
    stack.run("make", "up").well()
    assert stack.ids() == before


def test_services_at_rest_are_quiet(stack: Installation) -> None:
    """A start logs a few lines, without errors and without secrets."""
    for service in QUIET:
        said = stack.logs(service)
        assert len(said.splitlines()) <= MOST_LINES, (service, said)
        assert "slk_" not in said
        if is_real(stack, service):
            assert ERROR.search(said) is None, (service, said)


def test_secrets_are_made_inside(stack: Installation) -> None:
    """Grafana's secrets are random, in a volume that only Grafana mounts, and not in its environment."""
    words = ("exec", "-T", "grafana", "cat", "/run/spanledger/admin-password")
    password = stack.compose(*words).well().strip()
    told = json.dumps(stack.inspect("grafana"))

    assert len(password) > 20
    assert password not in told
    assert password not in stack.logs("init-secrets")
    mode = stack.compose(
        "exec", "-T", "grafana", "stat", "-c", "%a %u", "/run/spanledger/secret-key"
    )
    assert mode.well().split() == ["400", "472"]


def test_the_password_opens_grafana(stack: Installation) -> None:
    """The admin can log in with the password found as documented."""
    if not is_real(stack, "grafana"):
        pytest.skip("there is no Grafana on this machine")
    words = ("exec", "-T", "grafana", "cat", "/run/spanledger/admin-password")
    password = stack.compose(*words).well().strip()

    answer = httpx.get("http://127.0.0.1:3000/api/user", auth=("admin", password), trust_env=False)
    assert answer.json()["login"] == "admin"
    refused = httpx.get("http://127.0.0.1:3000/api/user", auth=("admin", "admin"), trust_env=False)
    assert refused.status_code == 401


def test_the_backup_of_the_documentation_works(stack: Installation) -> None:
    """The ledger is copied out of a running stack and restored, and its balances are correct."""
    page = (stack.folder / "docs" / "stack.md").read_text(encoding="utf-8")
    section = page.partition("## Backup")[2].partition("\n## ")[0]
    blocks = [block.partition("```")[0].strip() for block in section.split("```sh\n")[1:]]
    assert len(blocks) == 2
    spent = stack.spanledger("spend")

    for block in blocks:
        stack.run("bash", "-euc", block).well()

    assert (stack.folder / "ledger-backup.db").stat().st_size > 0
    assert stack.spanledger("ledger", "verify")["ok"] is True
    assert stack.spanledger("spend").keys() == spent.keys()
