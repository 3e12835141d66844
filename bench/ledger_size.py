"""How large a ledger becomes: requests written by the real writer, then the bytes of each table.

Each request has one attempt that counts on three budgets, as most do. They are written in batches of 64,
first the holds, then the ends, spread over the last hours. Postgres is vacuumed first, as it does by
itself; its tables then still have the room of the rows' first versions, which later rows use. Give URLs
of ledgers that are empty or do not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import time
from pathlib import Path

import psycopg

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.config.addresses import is_postgres, sqlite_file
from spanledger.ledger import open_store
from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation
from spanledger.ledger.ports import Store

BATCH = 64
CUSTOMERS = 1_000
DETAIL = (
    '{"gen_ai.response.id":"chatcmpl-9f3a0b1c2d4e5f60","gen_ai.response.finish_reasons":["stop"],'
    '"server.address":"api.openai.com","gen_ai.request.max_tokens":1024}'
)
BUDGETS = (
    Budget("each", "customer", "*", 10**15, "month"),
    Budget("team", "team", "*", 10**15, "month"),
    Budget("all", "global", "*", 10**16, "month"),
)
_TABLES = """
SELECT regexp_replace(c.relname, '_[0-9]{4}_[0-9]{2}$', ''), sum(pg_table_size(c.oid))::bigint,
    sum(pg_indexes_size(c.oid))::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'spanledger' AND c.relkind = 'r' GROUP BY 1"""


def main() -> None:
    """Write, and print megabytes for a million requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("urls", nargs="+", metavar="URL")
    options = parser.parse_args()
    for url in options.urls:
        store = open_store(url)
        write(store, options.requests)
        sizes = postgres_sizes(url) if is_postgres(url) else sqlite_sizes(sqlite_file(url))
        total = sum(map(sum, sizes.values()))
        print(f"{store.url}: {total / options.requests:,.0f} bytes a request", flush=True)
        for name, (table, indexes) in sorted(sizes.items(), key=lambda item: -sum(item[1])):
            if table + indexes > total // 1_000:
                each = (table / options.requests, indexes / options.requests)
                print(f"  {name}: {each[0]:,.0f} and {each[1]:,.0f} in indexes")


def write(store: Store, requests: int) -> None:
    """Write requests with one attempt each."""
    with store.records("create") as records:
        records.set_budgets(BUDGETS, time.time_ns())
    writer = store.writer("bench", 3_600 * 10**9, time.time_ns)
    begin = time.time_ns() - requests * 10**6
    for first in range(0, requests, BATCH):
        numbers = range(first, min(requests, first + BATCH))
        held = [reservation(number, begin + number * 10**6) for number in numbers]
        writer.commit(held)
        writer.commit([end(one) for one in held])
    writer.close()


def reservation(number: int, now_ns: int) -> Reservation:
    """The attempt of a request, with ids as long as a gateway's."""
    start = RequestStart(
        request_id=f"req_{now_ns // 10**6:012x}{number:012x}",
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id=f"{number:016x}",
        started_ns=now_ns,
        customer=f"customer-{number % CUSTOMERS}",
        team=f"team-{number % 20}",
        key_id=f"key_{number % CUSTOMERS:012x}",
        route="gpt-4o-mini",
        operation="chat",
        stream=False,
    )
    return Reservation(
        request=start,
        number=1,
        span_id=f"{number + 2**60:016x}",
        now_ns=now_ns,
        deployment="gpt-4o-mini-primary",
        provider="openai",
        model="gpt-4o-mini",
        sizes=HoldSizes(10**6, 10**6, 10**6),
        priced=True,
        price_id="2026-11-01/gpt-4o-mini",
    )


def end(held: Reservation) -> AttemptEnd:
    """The end of an attempt and its request."""
    ended_ns = held.now_ns + 800 * 10**6
    return AttemptEnd(
        attempt_id=held.attempt_id,
        ended_ns=ended_ns,
        cost_nano=450_000,
        http_status=200,
        input_tokens=1_000,
        output_tokens=500,
        response_model="gpt-4o-mini-2024-07-18",
        detail=DETAIL,
        request=RequestEnd("ok", "", 200, ended_ns),
    )


def sqlite_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Bytes of the file, once its log is empty."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return {"the file": (path.stat().st_size, 0)}


def postgres_sizes(url: str) -> dict[str, tuple[int, int]]:
    """Bytes of each table with all its months, and of their indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM")
        rows = connection.execute(_TABLES).fetchall()
    return {name: (table, indexes) for name, table, indexes in rows}


if __name__ == "__main__":
    main()
