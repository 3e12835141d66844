"""Partitions of requests and attempts: one of each for a month, by the time in their ids.

An id is `req_`, 12 hex digits of its time in milliseconds, and chance. So a month is a range of ids, the
primary key is also the key of the partitions, and pruning drops whole tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from spanledger.clock import NANOS
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.postgres.connection import Link, has_table

TABLES = ("requests", "attempts")
MONTHS_AHEAD = 2
"""Partitions that are made before their first row comes."""
MAX_MONTHS = 600
"""Partitions of a table, fifty years of them. A clock that jumps about would make any number, and each
slows down every statement; at this number, only those of the server's own time are made."""
_PREFIX = "req_"
_DIGITS = 12
_HEX = re.compile("[0-9a-f]*")
_FIRST, _AFTER = "req_000000000000", "req_g"
_LAST_YEAR = 9999
_LAST_MS = 253_402_300_799_999
_LOCK = "spanledger.partitions"


class Partition(NamedTuple):
    """A part of the ids.

    Attributes:
        suffix: of its tables' names.
        start: its first id, or MINVALUE.
        end: the first id after it, or MAXVALUE.
    """

    suffix: str
    start: str
    end: str


BEFORE_ALL = Partition("early", "MINVALUE", f"'{_FIRST}'")
"""Ids that no gateway has made, which sort before all others."""
BEHIND_ALL = Partition("late", f"'{_AFTER}'", "MAXVALUE")


def partition_of(request_id: str) -> Partition:
    """The partition that an id belongs to, by the order of its bytes."""
    if request_id < _FIRST:
        return BEFORE_ALL
    if request_id >= _AFTER:
        return BEHIND_ALL
    digits = request_id[len(_PREFIX) :][:_DIGITS]
    known = _HEX.match(digits)
    assert known is not None
    time, after = known[0], digits[known.end() :][:1]
    if after > "9":  # a letter that is not a digit: behind all that could stand there
        time += "9" if after < "a" else ""
        time = time.ljust(_DIGITS, "f")
    return _month_of(min(int(time.ljust(_DIGITS, "0"), 16), _LAST_MS))


def partitions_ahead(now_ns: int) -> list[Partition]:
    """The partition of now and those of the coming months."""
    moment = datetime.fromtimestamp(now_ns // NANOS, UTC)
    months = [moment.year * 12 + moment.month - 1 + ahead for ahead in range(MONTHS_AHEAD + 1)]
    return [_month(*divmod(month, 12)) for month in months]


def _month_of(ms: int) -> Partition:
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return _month(moment.year, moment.month - 1)


def _month(year: int, month: int) -> Partition:
    """Args: month: from 0."""
    return Partition(
        f"{year:04d}_{month + 1:02d}", _first_id(year, month), _first_id(year, month + 1)
    )


def _first_id(year: int, month: int) -> str:
    year, month = year + month // 12, month % 12
    if year > _LAST_YEAR:
        return f"'{_AFTER}'"
    start_s = int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())
    return f"'req_{start_s * 1000:012x}'"


def ensure(connection: Link, wanted: Iterable[Partition]) -> None:
    """Make the partitions that are missing; call it within a transaction.

    A table is made on its own and then attached, which other transactions need not wait for.
    """
    both = [(table, partition) for partition in wanted for table in TABLES]
    missing = [one for one in both if not _attached(connection, *one)]
    if not missing:
        return
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (_LOCK,))
    _check_number(connection, missing)
    for table, partition in missing:
        if _attached(connection, table, partition):  # another process may have been faster
            continue
        name = f"spanledger.{table}_{partition.suffix}"
        if not has_table(connection, f"{table}_{partition.suffix}"):  # else it was detached
            connection.execute(f"CREATE TABLE {name} (LIKE spanledger.{table} INCLUDING ALL)")
        connection.execute(
            f"ALTER TABLE spanledger.{table} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ({partition.start}) TO ({partition.end})"
        )


def _check_number(connection: Link, missing: list[tuple[str, Partition]]) -> None:
    """Raises LedgerUnavailableError if there are too many partitions to add these."""
    row = connection.execute(
        "SELECT count(*), (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
        " FROM pg_inherits WHERE inhparent = 'spanledger.requests'::regclass"
    ).fetchone()
    assert row is not None
    number, now_ns = row
    if number < MAX_MONTHS:
        return
    usual = partitions_ahead(now_ns)
    odd = [partition.suffix for _, partition in missing if partition not in usual]
    if odd:
        raise LedgerUnavailableError(
            f"the ledger has {number} months of tables already and makes none for {odd[0]}: set the clock of"
            " this machine; drop the empty months that wrong clocks made"
        )


def _attached(connection: Link, table: str, partition: Partition) -> bool:
    """Whether rows of a partition have a table: people may drop or detach one of the two."""
    # By rows of the catalogue: `to_regclass` remembers within a transaction that a name was unknown.
    query = """
SELECT 1 FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
    JOIN pg_class whole ON whole.oid = inhparent AND whole.relnamespace = part.relnamespace
WHERE part.relname = %s AND whole.relname = %s
    AND part.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'spanledger')"""
    names = (f"{table}_{partition.suffix}", table)
    return connection.execute(query, names).fetchone() is not None
