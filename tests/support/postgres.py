"""A real Postgres server for tests: one for all of a run, with a database of its own for each test.

It runs as an unprivileged user in a temporary folder, on loopback and a Unix socket, and ends with the
process that started it. Its programs are those in `SPANLEDGER_POSTGRES_BIN`, on PATH, or Debian's; without
any, tests skip.
"""

from __future__ import annotations

import atexit
import ctypes
import getpass
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

BINARIES = "SPANLEDGER_POSTGRES_BIN"
USER = "postgres"
"""Runs the server if the tests run as root, as Postgres refuses to."""
START_S = 60.0
STOP_S = 30.0
QUICK = {
    # The operating system does not crash in a test; killed servers lose nothing without it either.
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "autovacuum_naptime": "60s",
}
"""Settings of the server that tests share."""
_PDEATHSIG = 1
_numbers = itertools.count(1)
_starter = ThreadPoolExecutor(1, "postgres-starter")


@cache
def binaries() -> Path | None:
    """The folder of `postgres` and `initdb`: Debian keeps them off PATH."""
    if given := os.environ.get(BINARIES):
        assert Path(given, "postgres").is_file(), f"{BINARIES}={given} has no `postgres` in it"
        return Path(given)
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    newest = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: int(path.parts[-3]),
    )
    return newest[-1].parent if newest else None


def require_postgres() -> Path:
    """The folder of the programs; skips the test if there are none."""
    found = binaries()
    if found is None:
        pytest.skip("needs a Postgres server: apt-get install postgresql")
    return found


class Server:
    """One server with its data in a temporary folder.

    Args:
        settings: as in `postgresql.conf`.
    """

    def __init__(self, settings: Mapping[str, str] = {}, *, port: int = 0) -> None:
        self._binaries = require_postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="spanledger-postgres-"))
        self.data = self.folder / "data"
        self.port = port or free_port()
        self.settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None
        if as_other := other_user():
            shutil.chown(self.folder, as_other, as_other)

    def create(self) -> None:
        """Make an empty data directory whose superuser is the user of the tests, without a password."""
        self.run(
            "initdb",
            *("--pgdata", str(self.data), "--username", getpass.getuser(), "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        user = other_user()
        with (self.folder / "log").open("ab") as log:
            # For Linux, a process's parent is the thread that started it, and the caller's may end sooner.
            self._process = _starter.submit(
                subprocess.Popen,
                command,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=self.folder,
            ).result()
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The server's first process, whose children are all others."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: fast by default; SIGQUIT is like a crash, with recovery at the next start."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """End it and delete its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, program: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Postgres' programs as the server's user."""
        user = other_user()
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True,
            text=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.folder)},
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement outside a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str) -> str:
        """The URL of a database, on loopback; the user is the one of the tests."""
        return f"postgresql://127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """The URL of a new database."""
        name = f"ledger_{os.getpid()}_{next(_numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        return self.url(name)


@cache
def server() -> Server:
    """The server that all tests of this process share, started by the first that asks."""
    found = Server(QUICK)
    atexit.register(found.remove)
    found.create()
    found.start()
    return found


@cache
def _template() -> str:
    """A database with an empty ledger, which others are copied from."""
    from spanledger.ledger import open_store

    name = "ledger_template"
    server().sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    open_store(server().url(name)).migrate()
    return name


def new_ledger_url(*, migrated: bool = False) -> str:
    """The URL of a database of its own.

    Args:
        migrated: with an empty ledger in it, which takes less time than to create one.
    """
    return server().new_database(_template() if migrated else "template0")


def other_user() -> str | None:
    """The user that runs servers, if it cannot be ours."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(USER).pw_name
    except KeyError:
        pytest.skip(f"runs as root, and there is no user {USER!r} to run a server as")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGQUIT)


def require_password(port: int, user: str) -> None:
    """Let a user of the shared server log in with the password `secret` alone."""
    shared = server()
    assert port == shared.port
    shared.sql(
        f"DO $$ BEGIN CREATE ROLE {user} LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object"
        " THEN NULL; END $$"
    )
    rules = shared.data / "pg_hba.conf"
    line = f"host all {user} 127.0.0.1/32 scram-sha-256\n"
    if line not in rules.read_text():
        rules.write_text(line + rules.read_text())
        shared.sql("SELECT pg_reload_conf()")
