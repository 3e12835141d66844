"""Postgres servers that a proof kills with all their processes, and lets fail over to a standby."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import time
from pathlib import Path

import psycopg
from bench.processes import tree

from tests.prove.nursery import PATIENCE_S
from tests.prove.proof import promise
from tests.support.postgres import Server
from tests.support.processes import poll

DURABLE = {
    "fsync": "on",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "wal_keep_size": "512MB",
}
STANDBY = "standby"


class ProvenServer(Server):
    """A server with everything on that keeps what it has acknowledged."""

    def __init__(self) -> None:
        super().__init__(DURABLE)

    def kill(self) -> None:
        """Kill all its processes at once."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        pids = tree(process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        # The next start is refused while one of them still has the shared memory.
        promise(poll(lambda: not any(map(_runs, pids))), f"these processes do not end: {pids}")

    def follow(self, primary: ProvenServer) -> None:
        """Become a standby of another server, from a copy of it, and start."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.run(
            "pg_basebackup",
            *("--pgdata", str(self.data), "--write-recovery-conf", "--checkpoint", "fast"),
            *("--wal-method", "stream", "--no-sync", "--dbname"),
            f"{primary.url('postgres')}?user={_user()}&application_name={STANDBY}",
        )
        auto = self.data / "postgresql.auto.conf"
        lines = auto.read_text().splitlines(keepends=True)
        auto.write_text("".join(line for line in lines if "synchronous_standby" not in line))
        self.start()

    def wait_for_standby(self) -> None:
        """Acknowledge commits only once the standby has them, from now on."""
        self.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
        self.sql("SELECT pg_reload_conf()")
        query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        deadline = time.monotonic() + PATIENCE_S
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            while connection.execute(query).fetchone() != (1,):
                promise(time.monotonic() < deadline, f"no synchronous standby:\n{self.log}")
                time.sleep(0.02)

    def promote(self) -> None:
        """Become the primary."""
        self.run("pg_ctl", "promote", "--pgdata", str(self.data), "--wait")


def _runs(pid: int) -> bool:
    """Whether a process has not ended yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _user() -> str:
    """The superuser that `create` makes."""
    return getpass.getuser()
