"""A real PgBouncer in front of a test's server, in transaction mode unless told otherwise. Without
Debian's package `pgbouncer`, tests skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import free_port, other_user

START_S = 30.0
POOL = 4
"""Connections to the server, fewer than clients: a transaction gets any of them."""


@contextmanager
def pgbouncer(server_port: int, mode: str = "transaction") -> Iterator[int]:
    """The port of a PgBouncer that ends with the block."""
    import psycopg

    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="spanledger-pgbouncer-"))
    port, user = free_port(), other_user()
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {POOL}\nmax_client_conn = 100\n"
        "server_reset_query =\n"
    )
    # `auth_type = any` logs everybody in as the user of the database's line.
    me = os.environ.get("USER") or "root"
    text = (folder / "pgbouncer.ini").read_text()
    (folder / "pgbouncer.ini").write_text(
        text.replace(f"port={server_port}\n", f"port={server_port} user={me}\n")
    )
    if user:
        for path in (folder, folder / "pgbouncer.ini"):
            shutil.chown(path, user, user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")],
            stdout=log,
            stderr=log,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(
                    f"postgresql://127.0.0.1:{port}/postgres", connect_timeout=2
                ).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((folder / "log").read_text()) from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
