"""Durable holds and settlements over three budgets, in each kind of ledger, by several gateways at once.

A gateway is a process with 64 callers: a batch of 64 holds, then of their 64 ends, again and again. All
attempts are of one customer (`hot`) or of a thousand. The lanes take turns, so that all see the same
machine:

- `sqlite` and `postgres`: the ledger as it is.
- `locking`: Postgres, but every batch locks and reads first, in two round trips.
- `bare`: Postgres without budgets: the same rows, and no balances.
- `naive`: a transaction for each hold and each end, which locks the three balances and updates them;
  16 connections a gateway. What most programs do, and no rows of requests besides.
- `sqlite-grouped` and `postgres-grouped`: 64 callers that wait for the group commit one by one, as in a
  gateway; and `against`: the same with the SQLite ledger of another checkout, if `--against` names its
  Python.

    .venv/bin/python -m bench.ledger_stores --rounds 3 --seconds 5 --gateways 1 2 4
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from tests.support import postgres

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.ledger import open_store
from spanledger.ledger.model import AttemptEnd, Hold, RequestEnd, RequestStart, Reservation
from spanledger.ledger.ports import LedgerWriter
from spanledger.ledger.postgres.writer import PostgresWriter

CALLERS = 64
NAIVE_CONNECTIONS = 16
CUSTOMERS = {"hot": 1, "spread": 1_000}
LANES = ("sqlite", "postgres", "locking", "bare", "naive")
GROUPED_LANES = ("sqlite-grouped", "postgres-grouped", "against")
AGAINST = "the Python of another checkout's environment, for the lanes of group commits"
IN_FILES = ("sqlite", "sqlite-grouped", "against")
GROUPED = Path(__file__).with_name("grouped.py")
START_S = 3.0
"""Until all gateways of a cell have started."""
LIMIT = 10**15
LEASE_NS = 30 * 10**9
NAIVE_TABLES = """
CREATE TABLE accounts (id int PRIMARY KEY, spent bigint NOT NULL, held bigint NOT NULL);
CREATE TABLE tries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text, state text,
    hold bigint, cost bigint);
INSERT INTO accounts SELECT i, 0, 0 FROM generate_series(0, 2000) i"""


class Outcome(NamedTuple):
    """What one gateway did: pairs of a hold and an end, its CPU, and how long its batches took."""

    pairs: int
    cpu_s: float
    times_s: list[float]
    seconds: float = 0.0
    """If it was not exactly as long as asked for."""


def reservations(customers: int, gateway: int) -> Iterator[list[Reservation]]:
    """Batches of new attempts."""
    for number in itertools.count():
        now = time.time_ns()
        batch = []
        for place in range(CALLERS):
            customer = f"c{(number * CALLERS + place) % customers}"
            start = RequestStart(
                f"req_{now // 10**6:012x}{gateway:02x}{number:06x}{place:04x}", "0" * 32, "0" * 16,
                "", now, customer, "t1", "key_1", "chat", "chat", False,
            )  # fmt: skip
            sizes = HoldSizes(2_000_000, 2_000_000, 2_000_000)
            batch.append(Reservation(start, 1, "1" * 16, now, "d", "openai", "m", sizes, True, "p"))
        yield batch


def ended(batch: list[Reservation]) -> list[AttemptEnd]:
    """Their ends, all successful."""
    now = time.time_ns()
    return [
        AttemptEnd(
            one.attempt_id, now, 1_500_000, input_tokens=100, output_tokens=50,
            request=RequestEnd("ok", "", 200, now),
        )
        for one in batch
    ]  # fmt: skip


def write(writer: LedgerWriter, seconds: float, customers: int, gateway: int) -> Outcome:
    """Hold and settle for a while."""
    batches = reservations(customers, gateway)
    for batch in itertools.islice(batches, 4):  # plans and caches
        writer.commit(batch)
        writer.commit(ended(batch))
    times = []
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        batch = next(batches)
        before = time.perf_counter()
        results = writer.commit(batch)
        times.append(time.perf_counter() - before)
        assert all(isinstance(result, Hold) for result in results), results[0]
        writer.commit(ended(batch))
    return Outcome(len(times) * CALLERS, time.process_time() - cpu, times)


def lock_rows(url: str, seconds: float, customers: int) -> Outcome:
    """The naive way, on several connections."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    def caller(seed: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for number in itertools.count(seed, NAIVE_CONNECTIONS):
                if time.perf_counter() > until:
                    return
                ids = [2 + number % customers, 1, 0]
                before = time.perf_counter()
                with connection.transaction():
                    _locked(connection, ids, "held = held + 2000000")
                    row = connection.execute(
                        "INSERT INTO tries (customer, state, hold) VALUES (%s, 'held', 2000000)"
                        " RETURNING id",
                        (f"c{ids[0]}",),
                    ).fetchone()
                times.append(time.perf_counter() - before)
                with connection.transaction():
                    _locked(connection, ids, "held = held - 2000000, spent = spent + 1500000")
                    connection.execute(
                        "UPDATE tries SET state = 'settled', cost = 1500000 WHERE id = %s", row
                    )

    cpu = time.process_time()
    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(NAIVE_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(len(times), time.process_time() - cpu, times)


def _locked(connection: psycopg.Connection[Any], ids: list[int], change: str) -> None:
    connection.execute(
        "SELECT * FROM accounts WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (ids,)
    ).fetchall()
    statement = f"UPDATE accounts SET {change} WHERE id = ANY(%s)"  # noqa: S608 - one of two texts above
    connection.execute(statement, (ids,))


def grouped(python: str, url: str, *numbers: float) -> Outcome:
    """A gateway's callers in an interpreter that may be another checkout's."""
    command = [python, str(GROUPED), url, *map(str, numbers)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
    return Outcome(**json.loads(ended.stdout))


def gateway(
    lane: str, url: str, seconds: float, customers: int, number: int, python: str, start_at: float
) -> Outcome:
    """One gateway's work, in a process of its own."""
    if lane in GROUPED_LANES:
        return grouped(python, url, seconds, customers, number, start_at)
    if lane == "naive":
        return lock_rows(url, seconds, customers)
    writer = open_store(url).writer(f"gateway-{number}-{os.getpid()}", LEASE_NS, time.time_ns)
    if lane == "locking":
        assert isinstance(writer, PostgresWriter)
        writer._optimistic = writer._locking  # type: ignore[assignment]  # measured alone
    try:
        return write(writer, seconds, customers, number)
    finally:
        writer.close()


def set_budgets(python: str, url: str) -> None:
    """The three budgets, by the command line of an environment, which makes the ledger."""
    for words in (["each", "--customer", "*"], ["team", "--team", "*"], ["all"]):
        money = ["--limit", "1000000", "--period", "month", "--ledger", url]
        command = [python, "-m", "spanledger", "budget", "set", *words, *money]
        subprocess.run(command, check=True, capture_output=True)


def new_ledger(lane: str, server: postgres.Server, file: Path, python: str) -> str:
    """The URL of a new ledger for a lane, with three budgets, or none."""
    url = f"sqlite:///{file}.db" if lane in IN_FILES else server.new_database()
    if lane == "against":
        set_budgets(python, url)
        return url
    if lane == "naive":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(NAIVE_TABLES)
        return url
    store = open_store(url)
    store.migrate()
    if lane != "bare":
        with store.records("create") as records:
            budgets = [
                Budget("each", "customer", "*", LIMIT, "month"),
                Budget("team", "team", "*", LIMIT, "month"),
                Budget("all", "global", "*", LIMIT, "month"),
            ]
            records.set_budgets(budgets, time.time_ns())
    return url


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """All lanes in turn, round after round; yields the median of each cell."""
    server = postgres.Server({"shared_buffers": "512MB", "max_wal_size": "4GB"})
    server.create()
    server.start()
    pool: Callable[..., Any] = multiprocessing.get_context("spawn").Pool
    found: dict[tuple[str, int, str], list[tuple[float, list[Outcome]]]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(arguments.rounds):
                for load, count, lane in itertools.product(
                    arguments.loads, arguments.gateways, arguments.lanes
                ):
                    python = arguments.against if lane == "against" else sys.executable
                    file = Path(folder) / f"{turn}-{load}-{count}-{lane}"
                    url = new_ledger(lane, server, file, python)
                    start_at = time.time() + START_S
                    work = [
                        (lane, url, arguments.seconds, CUSTOMERS[load], n, python, start_at)
                        for n in range(count)
                    ]
                    with pool(count) as processes:
                        outcomes = processes.starmap(gateway, work)
                    rate = sum(o.pairs / (o.seconds or arguments.seconds) for o in outcomes)
                    found.setdefault((load, count, lane), []).append((rate, outcomes))
    finally:
        server.remove()
    for (load, count, lane), runs in found.items():
        times = sorted(t for _, outcomes in runs for o in outcomes for t in o.times_s)
        pairs = sum(o.pairs for _, outcomes in runs for o in outcomes)
        cpu = sum(o.cpu_s for _, outcomes in runs for o in outcomes)
        yield {
            "load": load,
            "gateways": count,
            "lane": lane,
            "pairs_per_s": round(statistics.median(rate for rate, _ in runs)),
            "hold_p50_ms": round(times[len(times) // 2] * 1000, 1),
            "hold_p99_ms": round(times[len(times) * 99 // 100] * 1000, 1),
            "cpu_us_per_pair": round(cpu / pairs * 1e6),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--loads", nargs="+", default=list(CUSTOMERS), choices=list(CUSTOMERS))
    choices = [*LANES, *GROUPED_LANES]
    parser.add_argument("--lanes", nargs="+", default=list(LANES), choices=choices)
    parser.add_argument("--against", metavar="PYTHON", default="", help=AGAINST)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.against and "against" not in arguments.lanes:
        arguments.lanes += GROUPED_LANES
    if "against" in arguments.lanes and not arguments.against:
        parser.error("the lane `against` needs --against PYTHON")
    for row in measure(arguments):
        text = json.dumps(row) if arguments.json else "  ".join(f"{v!s:>9}" for v in row.values())
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
