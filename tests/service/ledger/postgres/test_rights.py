"""The rights that a ledger needs on a server: those that the stack's role has and the page names."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.store import PostgresStore
from tests.service.ledger.postgres.rig import end, reservation, writing
from tests.support.postgres import QUICK, Server, binaries

ROOT = Path(__file__).parents[4]
SCRIPT = ROOT / "compose" / "postgres-init" / "role.sh"
PAGE = (ROOT / "docs" / "postgres.md").read_text()
DAY = 86_400 * 10**9
PASSWORD = "p-_1"


@pytest.fixture(scope="module", params=["stack", "page"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on which the role was made by the stack's script, or as the page says."""
    found = Server(QUICK)
    found.create()
    found.start()
    try:
        with psycopg.connect(found.url("postgres")) as connection:
            user = connection.info.user
        programs = binaries()
        assert programs is not None
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(found.port),
            "POSTGRES_USER": user,
            "POSTGRES_DB": "postgres",
            "POSTGRES_PASSWORD": PASSWORD,
        }
        if request.param == "stack":
            subprocess.run(["sh", SCRIPT], env=environment, check=True)
        else:
            psql = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--username={user}", "postgres"]
            subprocess.run(psql, env=environment, input=statements(0), text=True, check=True)
        PostgresStore(as_role(found)).migrate()
        psql = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--username={user}", "spanledger"]
        subprocess.run(psql, env=environment, input=statements(1), text=True, check=True)
        yield found
    finally:
        found.remove()


def statements(number: int) -> str:
    """The page's example of this number, counted from 0."""
    found = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    return str(found[number]).replace("…", PASSWORD)


def as_role(server: Server, role: str = "spanledger") -> str:
    """The URL for a role."""
    return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{server.port}/spanledger"


def test_the_role_can_do_what_gateways_do(server: Server) -> None:
    """It serves, makes partitions, prunes and verifies."""
    store = PostgresStore(as_role(server))
    with writing(store) as writer:
        held = reservation()
        writer.commit([held])
        writer.commit([end(held)])
    with closing(store.exclusive("ship")) as lock:
        assert lock.acquire()
    now = time.time_ns()
    with closing(store.prune(now - 60 * DAY, now)) as removal:
        list(removal.run(None))
    reports = store.reports()
    assert reports.verify().problems == []
    reports.close()


def test_the_role_can_do_nothing_else(server: Server) -> None:
    """It is not a superuser, and cannot make roles, databases or other schemas."""
    with psycopg.connect(as_role(server), autocommit=True) as connection:
        for statement in ("CREATE ROLE x", "CREATE DATABASE x", "CREATE SCHEMA x", "CHECKPOINT"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_reader_reads(server: Server) -> None:
    """Reports work, also of tables made later; nothing can be changed."""
    with writing(PostgresStore(as_role(server))) as writer:
        writer.commit([reservation()])
    reader = PostgresStore(as_role(server, "ledger_reader"))
    reports = reader.reports()
    assert reports.verify().problems == []
    reports.close()
    with (
        reader.records("create") as records,
        pytest.raises(LedgerUnavailableError, match="to change the ledger, use the role that owns"),
    ):
        records.create_key("acme", "", [], 1)
