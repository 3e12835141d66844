"""The server that tests run on."""

from __future__ import annotations

import contextlib
import threading

import psycopg

from tests.support import postgres


def test_a_server_outlives_the_thread_that_asked_for_it() -> None:
    """A server started by a thread that has ended still answers."""
    server = postgres.Server(postgres.QUICK)
    try:
        server.create()
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()

        with contextlib.closing(psycopg.connect(server.url("postgres"))) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.remove()
