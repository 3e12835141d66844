"""Connections to Postgres as the ledger uses them: address, time limits, settings, reconnecting.

A connection through a pooler in transaction mode, such as PgBouncer, keeps nothing between two
transactions: no prepared statements, no settings, no locks. It is recognised by the server's process
id, which a pooler makes up at the start of a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from spanledger.config.addresses import WRITE_POSTGRES, postgres_url, shown_ledger
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.deadline import Deadline
from spanledger.ledger.postgres.errors import translating

CONNECT_TIMEOUT_S = 5
"""For each of the URL's hosts in turn; without it a dead machine costs minutes."""
LOCK_TIMEOUT_S = 5
"""How long a transaction waits for another's lock before the ledger counts as unavailable."""
STATEMENT_TIMEOUT_S = 30
REPORT_TIMEOUT_S = 600
"""For a report, which may read every row."""
IDLE_TIMEOUT_S = 60
"""A transaction that does nothing for this long is ended: its locks stop all gateways."""
OLDEST_SERVER = 140_000

Link = psycopg.Connection[tuple[Any, ...]]

_DEFAULTS: Mapping[str, object] = {
    "application_name": "spanledger",
    "connect_timeout": CONNECT_TIMEOUT_S,
    # A peer that vanished is noticed while idle, and with data on the way, within about 20 s.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
}
"""A plan made while a table was empty would scan it for as long as the connection lives, and small
batches would be planned again each time. Only for statements that find rows by their keys."""


class ServerAddress:
    """Where a ledger's database is.

    Attributes:
        shown: the URL without its secrets.

    Raises:
        ValueError: the URL cannot be read; says what to write instead.
    """

    def __init__(self, url: str) -> None:
        self.shown = shown_ledger(url)
        try:
            given = conninfo_to_dict(postgres_url(url))
        except psycopg.Error:
            # libpq's own text may quote the password.
            raise ValueError(
                f"{self.shown!r} has a parameter that libpq does not know, or a value that it cannot"
                f" read; {WRITE_POSTGRES}"
            ) from None
        self._parameters: dict[str, Any] = {**_DEFAULTS, **given, "client_encoding": "utf8"}
        self._several = "," in f"{given.get('host', '')}{given.get('hostaddr', '')}"

    def connect(self, *, read_only: bool = False) -> Link:
        """A new connection in autocommit mode.

        Of several servers, the one that can be written to is used, unless the URL says otherwise: a
        standby may not know yet what was just written.

        Args:
            read_only: a URL's only server may be a standby.

        Raises:
            LedgerUnavailableError: there is none to be had.
        """
        parameters = dict(self._parameters)
        if not read_only or self._several:
            parameters.setdefault("target_session_attrs", "read-write")
        with translating(f"cannot connect to the ledger {self.shown!r}"):
            connection = psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)
        connection.adapters.register_loader("numeric", WholeLoader)
        return connection


class WholeLoader(Loader):
    """Loads sums of integers, which Postgres makes decimals of."""

    def load(self, data: Buffer) -> int:
        """The number."""
        return int(bytes(data))


class Session:
    """One connection with its settings, opened on first use and again after it was lost.

    Used by one thread at a time.

    Args:
        settings: what applies in each of its transactions, besides the time limits.
        deadline: watches the connection.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        read_only: bool = False,
        statement_timeout_s: int = STATEMENT_TIMEOUT_S,
        settings: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.address = address
        self.pooled = False
        self.read_only = read_only
        self.settings = {
            "statement_timeout": f"{statement_timeout_s}s",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
            **(settings or {}),
        }
        if read_only:
            self.settings["default_transaction_read_only"] = "on"
        self.deadline = deadline
        self.not_replicated = False
        """Whether the server gave up waiting for its standby in the last transaction."""
        self._connection: Link | None = None

    @property
    def connection(self) -> Link:
        """The open connection; a lost one is replaced. Raises LedgerUnavailableError."""
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = connection = self._open()
        return connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> Link:
        connection = self.address.connect(read_only=self.read_only)
        connection.add_notice_handler(self._notice)
        if self.deadline is not None:
            self.deadline.attach(connection.fileno())
        try:
            with translating(f"cannot use the ledger {self.address.shown!r}"):
                self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """A cancelled wait for a standby does not fail in Postgres: COMMIT succeeds with a warning."""
        if notice.sqlstate == "01000":
            self.not_replicated = True

    def _set_up(self, connection: Link) -> None:
        row = connection.execute(
            "SELECT pg_backend_pid(), current_setting('synchronous_commit'),"
            " current_setting('server_encoding')"
        ).fetchone()
        assert row is not None
        pid, synchronous, encoding = row
        if connection.info.server_version < OLDEST_SERVER:
            raise LedgerUnavailableError(
                f"the server of the ledger {self.address.shown!r} is PostgreSQL"
                f" {connection.info.server_version // 10_000}: use {OLDEST_SERVER // 10_000} or newer"
            )
        if encoding != "UTF8":
            raise LedgerUnavailableError(
                f"the database of the ledger {self.address.shown!r} has the encoding {encoding}:"
                " create it with ENCODING 'UTF8'"
            )
        self.pooled = pid != connection.info.backend_pid
        if synchronous == "off":
            # A crash of the server would forget holds that requests were sent for.
            self.settings["synchronous_commit"] = "on"
        if not self.pooled:
            connection.execute(_SET.format(local="false"), _pairs(self.settings))
            connection.prepare_threshold = 1

    @contextmanager
    def transaction(self) -> Iterator[Link]:
        """A transaction, committed if nothing is raised; the driver's errors pass through."""
        connection = self.connection
        mode = "READ ONLY" if self.read_only else "READ WRITE"
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED {mode}")
        try:
            self.settle_in(connection)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise

    @contextmanager
    def snapshot(self) -> Iterator[Link]:
        """A read-only transaction whose queries all see one state."""
        connection = self.connection
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self.settle_in(connection)
            yield connection
        finally:
            roll_back(connection)

    def settle_in(self, connection: Link) -> None:
        """Apply the settings to the transaction that has begun, where the connection cannot keep them."""
        if self.pooled:
            connection.execute(_SET.format(local="true"), _pairs(self.settings))

    def rows(self, query: str, parameters: Sequence[object] | Mapping[str, Any] = ()) -> list[Any]:
        """The rows of one query that changes nothing, asked again if the connection was lost."""
        try:
            return self._rows(query, parameters)
        except psycopg.OperationalError:
            if not self.connection_lost:
                raise
            return self._rows(query, parameters)

    def _rows(self, query: str, parameters: Sequence[object] | Mapping[str, Any]) -> list[Any]:
        connection = self.connection
        if self.pooled and self.read_only:
            with self.transaction():
                return connection.execute((query), parameters).fetchall()
        return connection.execute((query), parameters).fetchall()

    @property
    def connection_lost(self) -> bool:
        """Whether the connection was open and is no longer."""
        return self._connection is not None and self._connection.closed


_SET = (
    "SELECT set_config(s.name, s.value, {local}) FROM unnest(%s::text[], %s::text[]) s(name, value)"
)


def roll_back(connection: Link) -> None:
    """End a transaction that must not be committed.

    A connection that cannot do so is closed: one that was lost within a pipeline may look open
    forever, and refuse everything.
    """
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def has_table(connection: Link, name: str) -> bool:
    """Whether the schema has a table. `to_regclass` may not see what was made while we waited for a
    lock that is not a table's."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'spanledger' AND c.relname = %s)",
        (name,),
    ).fetchone()
    assert row is not None
    return bool(row[0])


def _pairs(settings: Mapping[str, str]) -> tuple[list[str], list[str]]:
    return list(settings), list(settings.values())
