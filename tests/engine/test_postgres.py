"""The stack with its ledger in Postgres: two gateways behind a proxy, one shipper; gateways and server killed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.engine.conftest import installer
from tests.engine.installation import LONG_RUNNING, READY_S, VISIBLE_S, Installation
from tests.engine.test_survival import Load, nothing_is_lost
from tests.support.processes import poll

RUNNING = (*LONG_RUNNING, "gateway-2", "postgres", "proxy", "shipper")
GATEWAYS = ("gateway", "gateway-2")
PROXY = "http://127.0.0.1:4080"
LAYER = {"COMPOSE_FILE": "docker-compose.yml:compose/postgres.yml"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A stack started as documented; later commands find its layer in .env."""
    with installer(tmp_path_factory) as make:
        installation = make()
        installation.url = PROXY
        said = installation.run("make", "up", "LAYER=postgres").well()
        assert "http://localhost:4080/v1" in said
        (installation.folder / ".env").write_text(
            "".join(f"{key}={value}\n" for key, value in LAYER.items()), "utf-8"
        )
        yield installation


def served(stack: Installation, service: str) -> float:
    """How many requests a gateway has answered with 200, by its own metrics."""
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:4000/metrics').read().decode())"
    said = stack.compose("exec", "-T", service, "python", "-c", read).well()
    lines = (
        line
        for line in said.splitlines()
        if line.startswith("spanledger_gateway_overhead_seconds_count")
    )
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_everything_runs_and_traffic_uses_both_gateways(stack: Installation) -> None:
    """The demo's requests go through the proxy to either gateway, and nothing ended with an error."""
    stack.comes_up(RUNNING)
    assert poll(lambda: all(served(stack, name) > 0 for name in GATEWAYS), READY_S, every_s=1)

    first, second = (stack.inspect(name) for name in GATEWAYS)
    assert first["State"]["ExitCode"] == second["State"]["ExitCode"] == 0
    assert stack.http.get(f"{PROXY}/metrics").status_code == 404


def test_a_request_is_seen_in_prometheus_and_tempo(stack: Installation) -> None:
    """Its cost is counted once, by the shipper, and its trace is kept where there is a Tempo."""
    key = stack.key("seen")
    answer = stack.ask(key)
    assert answer.status_code == 200, answer.text

    assert poll(lambda: stack.spend("seen") > 0, VISIBLE_S)
    nothing_is_lost(stack, "seen", 1)
    assert poll(lambda: stack.query('up{job="gateway"}') == 2, READY_S)
    if "spanledger.stand-in" not in stack.inspect("tempo")["Config"]["Labels"]:
        trace = answer.headers["x-spanledger-trace-id"]
        url = f"http://127.0.0.1:3200/api/traces/{trace}"
        assert poll(lambda: stack.http.get(url).status_code == 200, VISIBLE_S)


def test_a_stream_is_passed_on_event_by_event(stack: Installation) -> None:
    """The proxy passes on events of an answer one by one."""
    asked = {
        "model": "fast",
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 50,
    }
    headers = {"authorization": f"Bearer {stack.key('stream')}"}
    url = f"{PROXY}/v1/chat/completions"
    with stack.http.stream("POST", url, headers=headers, json=asked) as answer:
        assert answer.status_code == 200
        chunks = list(answer.iter_raw())

    assert len(chunks) > 3
    assert b"data: [DONE]" in b"".join(chunks)


def test_the_password_is_only_in_its_volume(stack: Installation) -> None:
    """It is in no container's description and no log, and it opens the database to those who have it."""
    read = ("exec", "-T", "postgres", "cat", "/run/database/password")
    password = stack.compose(*read).well().strip()

    assert len(password) > 20
    for service in (*RUNNING, "init-ledger", "init-keys", "init-database"):
        assert password not in json.dumps(stack.inspect(service)), service
    assert password not in stack.logs()
    psql = "psql 'host=postgres user=spanledger dbname=spanledger' --no-password -c 'select 1'"
    refused = stack.compose("exec", "-T", "postgres", "sh", "-c", psql)
    assert refused.status != 0
    assert "no password supplied" in refused.said
    assert stack.compose("exec", "-T", "proxy", "sh", "-c", "ls /run/database").status != 0


@pytest.mark.parametrize("service", GATEWAYS)
def test_traffic_goes_on_while_a_gateway_is_away(stack: Installation, service: str) -> None:
    """Without one gateway, the other answers all new requests, and no answered one is missing."""
    load = Load(stack, f"without-{service}")
    with load.running():
        load.goes_on()
        stack.kill(service)
        load.goes_on()
        stack.compose("stop", service).well()
        failed = [answer for answer in (stack.ask(load.key) for _ in range(20)) if answer.is_error]
        assert failed == []
        stack.compose("start", service).well()
        stack.comes_up(RUNNING)
        load.goes_on()

    nothing_is_lost(stack, load.customer, load.answered)


def test_requests_are_refused_while_postgres_is_away(stack: Installation) -> None:
    """Meanwhile they get a gateway's 503 with Retry-After; afterwards all goes on, without a restart."""
    load, ids = Load(stack, "away"), stack.ids()
    restarts = [stack.inspect(name)["RestartCount"] for name in GATEWAYS]
    with load.running():
        load.goes_on()
        stack.compose("kill", "postgres").well()
        answer = answer_of(stack, load.key)
        assert poll(lambda: not stack.is_ready(f"{PROXY}/readyz"), READY_S)
        second = answer_of(stack, load.key)
        stack.compose("start", "postgres").well()
        load.goes_on()

    assert (answer.status_code, second.status_code) == (503, 503)
    assert int(second.headers["retry-after"]) > 0
    assert second.json()["error"]["message"]
    stack.comes_up(RUNNING)
    assert [stack.inspect(name)["RestartCount"] for name in GATEWAYS] == restarts
    assert stack.ids() == ids
    nothing_is_lost(stack, load.customer, load.answered)


def answer_of(stack: Installation, key: str) -> httpx.Response:
    """The first answer that is not 200."""
    found: list[httpx.Response] = []

    def fails() -> bool:
        found[:] = [stack.ask(key)]
        return found[0].status_code != 200

    assert poll(fails, READY_S)
    return found[0]


def test_a_killed_postgres_comes_back(stack: Installation) -> None:
    """Its server is killed under load and restarted, and no acknowledged row is missing."""
    load = Load(stack, "killed")
    before = stack.inspect("postgres")["RestartCount"]
    with load.running():
        load.goes_on()
        stack.kill("postgres")
        assert poll(lambda: stack.inspect("postgres")["RestartCount"] > before, READY_S)
        stack.comes_up(RUNNING)
        load.goes_on()

    nothing_is_lost(stack, load.customer, load.answered)


def test_only_one_shipper_is_active(stack: Installation) -> None:
    """A second one waits, and takes over once the first is gone; nothing is counted twice."""
    key = stack.key("twice")
    stack.compose("up", "--detach", "--no-recreate", "--scale", "shipper=2", "shipper").well()
    waits = "another shipper is running on this ledger"
    assert poll(lambda: waits in stack.logs("shipper"), READY_S)
    assert stack.ask(key).status_code == 200
    assert poll(lambda: stack.spend("twice") > 0, VISIBLE_S)

    names = stack.compose("ps", "--quiet", "shipper").well().split()
    assert len(names) == 2
    (active,) = [name for name in names if waits not in stack.run("docker", "logs", name).said]
    stack.run("docker", "stop", active).well()
    assert stack.ask(key).status_code == 200
    nothing_is_lost(stack, "twice", 2)


def test_down_and_up_keep_ledger_and_password(stack: Installation) -> None:
    """The same keys and the same password are valid after `make down` and `make up`."""
    key = stack.key("kept")
    read = ("exec", "-T", "postgres", "cat", "/run/database/password")
    password = stack.compose(*read).well()
    stack.run("make", "down").well()
    stack.run("make", "up").well()

    assert stack.compose(*read).well() == password
    assert "every customer has a valid key" in stack.logs("init-keys")
    assert stack.ask(key).status_code == 200
    nothing_is_lost(stack, "kept", 1)


def test_the_backup_of_the_documentation_works(stack: Installation) -> None:
    """The documented command writes every table of the ledger."""
    page = (stack.folder / "docs" / "stack.md").read_text(encoding="utf-8")
    section = page.partition("## Two gateways and Postgres")[2].partition("\n## ")[0]
    (command,) = [block.partition("```")[0] for block in section.split("```sh\n")[1:]]

    stack.run("bash", "-euc", command).well()

    said = (stack.folder / "ledger-backup.sql").read_text(encoding="utf-8")
    assert "COPY spanledger.balances" in said
    assert "PostgreSQL database dump complete" in said
