"""Postgres servers that a proof owns: killed with all their processes, started again, promoted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.processes import free_port, tree

from tests.prove.proof import BrokenPromiseError

START_S = 60.0
USER = "postgres"
"""Postgres refuses to run as root."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "wal_keep_size": "256MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


def programs() -> Path:
    """The folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if found:
        return found[-1]
    if program := shutil.which("initdb"):
        return Path(program).parent
    raise BrokenPromiseError("no Postgres server is installed: apt install postgresql")


class Server:
    """A server on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port, in the form of a URL."""
        return f"127.0.0.1:{self.port}"

    def create(self) -> None:
        """Make a new, empty server."""
        own(self.data.parent)
        run("initdb", "--pgdata", self.data, "--username", USER, "--auth", "trust", "--no-sync")
        self.configure()

    def configure(self) -> None:
        """Write its settings."""
        lines = [f"{name} = '{value}'\n" for name, value in SETTINGS.items()]
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines([*lines, f"port = {self.port}\n"])

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs() / "postgres", "-D", self.data],
                stdout=log,
                stderr=subprocess.STDOUT,
                **who(),  # type: ignore[call-overload]  # a dict of options
            )
        deadline = time.monotonic() + START_S
        while not self.accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.data.parent / f"{self.data.name}.log").read_text(errors="replace")
                raise BrokenPromiseError(f"Postgres did not start:\n{log_text[-2_000:]}")
            time.sleep(0.02)

    def accepts(self) -> bool:
        """Whether it accepts connections."""
        words = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(words, check=False).returncode == 0

    def kill(self) -> None:
        """Kill all its processes at once."""
        process = self._process
        if process is None:
            return
        for pid in tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def follow(self, primary: Server) -> None:
        """Become a standby of another server, from a copy of it, and start."""
        shutil.rmtree(self.data, ignore_errors=True)
        run(
            *("pg_basebackup", "--pgdata", self.data, "--write-recovery-conf", "--checkpoint", "fast"),
            *("--dbname", f"host=127.0.0.1 port={primary.port} user={USER} application_name=standby"),
            *("--wal-method", "stream", "--no-sync"),
        )  # fmt: skip
        auto = self.data / "postgresql.auto.conf"
        kept = [
            line
            for line in auto.read_text().splitlines(keepends=True)
            if not line.startswith("synchronous_standby_names")
        ]
        auto.write_text("".join(kept))
        self.configure()
        self.start()

    def wait_for_standby(self) -> None:
        """Acknowledge commits only once the standby has them, from now on."""
        self.ask("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.ask("SELECT pg_reload_conf()")
        deadline = time.monotonic() + START_S
        while self.ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != "1":
            if time.monotonic() > deadline:
                raise BrokenPromiseError("the standby is not synchronous")
            time.sleep(0.02)

    def promote(self) -> None:
        """Become the primary."""
        run("pg_ctl", "promote", "--pgdata", self.data, "--wait")

    def ask(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; returns what psql prints of its result."""
        words = [str(programs() / "psql"), "-X", "-qAt", "-h", "127.0.0.1", "-p", str(self.port)]
        words += ["-U", USER, "-d", database, "-c", statement]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenPromiseError(f"{statement}: {done.stderr}")
        return done.stdout.strip()


def own(folder: Path) -> None:
    """Give a folder to the user that runs servers, and let that user reach it."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)


def who() -> dict[str, object]:
    """The options that run a program as that user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def run(program: str, *words: str | Path) -> None:
    """Run one of the server's programs to its end."""
    done = subprocess.run(
        [programs() / program, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **who(),  # type: ignore[call-overload]  # a dict of options
    )
    if done.returncode:
        raise BrokenPromiseError(f"{program} failed: {done.stderr or done.stdout}")
