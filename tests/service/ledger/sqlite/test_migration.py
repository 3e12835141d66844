"""Ledger files of other versions: upgraded completely or not at all, or refused with a reason."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spanledger.budgets.model import Budget
from spanledger.cli import app
from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.model import AttemptEnd, RequestEnd, Settled
from spanledger.ledger.ports import LedgerWriter
from spanledger.ledger.sqlite import migrate as migrations
from spanledger.ledger.sqlite import opening
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.migrate import migrate
from spanledger.ledger.sqlite.records import SqliteRecords
from tests.service.ledger.conftest import NOON
from tests.support.ledgers import store_at

CENT = 10**7
SECOND = 10**9
LEASE_ENDS = NOON + 70 * SECOND
"""When the lease of the old gateway with open holds ends."""
LATER = LEASE_ENDS + SECOND
NEWEST = 12
VERSION_1 = Path(__file__).with_name("version_1.sql")
LATE, EXPIRED, FLYING, OTHER = (f"req_{number:024x}.1" for number in (5, 10, 12, 13))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1."""
    path = tmp_path / "ledger.db"
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.executescript(VERSION_1.read_text(encoding="utf-8"))
        file.execute("PRAGMA user_version = 1")
    return path


@contextlib.contextmanager
def opened(path: Path, now_ns: int) -> Iterator[LedgerWriter]:
    """The old gateway's successor under the same name, so that its holds are not swept."""
    store = store_at(path).writer("alive", 30 * SECOND, lambda: now_ns)
    yield store
    store.close()


def columns_of(path: Path, table: str) -> str:
    """The names of a table's columns, for a query."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        return ", ".join(row[1] for row in file.execute(f"PRAGMA table_info({table})"))


def version(path: Path) -> int:
    """The schema version of a file."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        return int(file.execute("PRAGMA user_version").fetchone()[0])


def states(path: Path, now_ns: int = LATER) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Cents spent, held and overrun of each account."""
    reports = store_at(path).reports()
    found = {
        (s.budget.name, s.subject): (
            s.spent_nano // CENT,
            s.held_nano // CENT,
            s.overrun_nano // CENT,
        )
        for s in reports.budget_states(now_ns // SECOND)
    }
    assert reports.verify().problems == []
    reports.close()
    return found


def end(attempt_id: str, cost: int | None) -> AttemptEnd:
    """The end of an attempt and its request."""
    request = RequestEnd("ok", "", 200, LATER)
    return AttemptEnd(attempt_id, LATER, cost, request=request)


def test_an_old_files_accounts_are_counted_from_its_rows(old: Path) -> None:
    """Each budget has what its subject spent and holds in its period, with the mistakes of the old
    keys fixed: `moved` has the month, and `reused` nothing from the team."""
    with opened(old, LATER):
        pass

    month = (33, 18, 4)
    assert states(old) == {
        ("acme", "acme"): month,
        ("all", "*"): (34, 20, 4),
        ("each", "acme"): (18, 11, 4),
        ("each", "globex"): (0, 2, 0),
        ("moved", "acme"): month,
        ("red", "red"): (18, 18, 4),
        ("reused", "red"): (0, 0, 0),
    }


def test_open_holds_survive(old: Path) -> None:
    """Attempts held under the old version end under the new one, each on all its accounts, and an
    expired one with its real cost."""
    with opened(old, LATER) as store:
        results = store.commit(
            [end(LATE, 5 * CENT), end(FLYING, 10 * CENT), end(OTHER, None), end(EXPIRED, 2 * CENT)]
        )

    assert all(isinstance(result, Settled) for result in results)
    assert states(old) == {
        ("acme", "acme"): (44, 0, 4),
        ("all", "*"): (45, 0, 4),
        ("each", "acme"): (24, 0, 4),
        ("each", "globex"): (0, 0, 0),
        ("moved", "acme"): (44, 0, 4),
        ("red", "red"): (29, 0, 4),
        ("reused", "red"): (0, 0, 0),
    }


def test_nothing_but_balances_is_lost(old: Path) -> None:
    """Rows, keys, history and the shipper's cursor are those of the old file."""
    tables = ("requests", "keys", "budgets", "budget_history", "owners", "ship_cursor")
    columns = {table: columns_of(old, table) for table in tables}
    digests = "SELECT {} FROM {} ORDER BY 1"
    with contextlib.closing(sqlite3.connect(old)) as file:
        secrets = file.execute(digests.format("digest, id, created_ns", "keys")).fetchall()
    columns["keys"] = columns["keys"].replace("digest, ", "")
    columns["attempts"] = "request_id, number, state, hold_nano, cost_nano, overrun_nano, seq"

    def content() -> list[object]:
        with contextlib.closing(sqlite3.connect(old)) as file:
            return [
                file.execute(f"SELECT {names} FROM {table} ORDER BY 1, 2").fetchall()
                for table, names in columns.items()
            ]

    before = content()
    connection = connect(old)
    migrate(connection, lambda: LATER)
    connection.close()

    assert content() == before
    with contextlib.closing(sqlite3.connect(old)) as file:
        found = file.execute(digests.format("digest, key_id, from_ns", "key_secrets")).fetchall()
    assert found == secrets
    assert secrets
    outbox = store_at(old).outbox()
    assert len(outbox.read_after(outbox.cursor(), 100)) == 9 + 9
    outbox.close()


CRASH = """
import os, sqlite3, sys
from pathlib import Path
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.migrate import migrate

left = int(sys.argv[2])

def count(statement):
    global left
    left -= 1
    if left < 0:
        os._exit(9)

connection = connect(Path(sys.argv[1]))
connection.set_trace_callback(count)
migrate(connection, lambda: int(sys.argv[3]))
connection.set_trace_callback(None)
"""


def test_a_migration_that_dies_has_not_happened(old: Path) -> None:
    """Killed at any statement, an upgrade leaves the old file, and the next start completes it."""
    with contextlib.closing(sqlite3.connect(old)) as file:
        before = list(file.iterdump())
    codes = []
    for statement in range(0, 100, 6):
        run = subprocess.run(
            [sys.executable, "-c", CRASH, str(old), str(statement), str(LATER)],
            check=False,
            timeout=60,
        )
        codes.append(run.returncode)
        if run.returncode == 0:
            break
        with contextlib.closing(sqlite3.connect(old)) as file:
            assert list(file.iterdump()) == before
            assert version(old) == 1

    assert set(codes[:-1]) == {9}
    assert len(codes) > 5
    assert codes[-1] == 0
    assert states(old)["all", "*"] == (34, 20, 4)


def test_processes_that_migrate_at_once_do_it_once(old: Path) -> None:
    """One migrates; the others wait for it and find the file up to date."""
    failures: list[Exception] = []
    together = threading.Barrier(12)

    def start() -> None:
        together.wait()
        try:
            with opened(old, LATER):
                pass
        except (LedgerUnavailableError, sqlite3.Error) as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert states(old)["all", "*"] == (34, 20, 4)


def test_a_file_that_an_old_gateway_uses_is_left_alone(old: Path) -> None:
    """The old gateway could no longer end its holds; the error says to stop it."""
    for now_ns in (NOON, LEASE_ENDS - 1):
        with pytest.raises(LedgerUnavailableError, match=r"earlier version is using this ledger"):
            store_at(old).writer("new", 30 * SECOND, lambda now_ns=now_ns: now_ns)  # type: ignore[misc]  # bound in the loop
        assert version(old) == 1

    with opened(old, LATER):
        pass
    assert version(old) == NEWEST


def test_a_lease_from_before_the_clock_was_set_back_keeps_nobody_out(old: Path) -> None:
    """A lease that ends in years does not belong to a running gateway."""
    with opened(old, NOON - 5 * 365 * 86_400 * SECOND):
        pass

    assert version(old) == NEWEST


def test_an_old_gateway_that_wakes_up_is_told_why_it_must_stop(old: Path) -> None:
    """The first statement of every transaction of version 1 fails, with the reason in its error."""
    with opened(old, LATER):
        pass

    with (
        contextlib.closing(sqlite3.connect(old)) as file,
        pytest.raises(sqlite3.OperationalError, match="upgraded by a newer spanledger; restart"),
    ):
        file.execute("SELECT key, value FROM meta")


def test_reading_an_old_file_changes_nothing(old: Path) -> None:
    """`spend` must not upgrade the file of a running gateway of the old version."""
    with pytest.raises(
        LedgerUnavailableError, match=r"version 1, but this program reads 2 and later"
    ):
        store_at(old).reports()
    result = CliRunner().invoke(app, ["spend", "--ledger", f"sqlite:///{old}"])

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "which upgrades it" in result.stderr
    assert version(old) == 1


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """Readers and writers refuse a newer file and say what to do."""
    path = tmp_path / "ledger.db"
    store_at(path).records("create").close()
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")

    store = store_at(path)
    for use in (lambda: store.records("create"), store.reports, store.outbox):
        with pytest.raises(
            LedgerUnavailableError, match=rf"version 99, .* knows {NEWEST}: upgrade spanledger"
        ):
            use()


def test_a_new_file_has_the_newest_schema_and_no_accounts(tmp_path: Path) -> None:
    """All scripts run on an empty file, and a budget set there works."""
    path = tmp_path / "ledger.db"
    records = store_at(path).records("create")
    records.set_budgets([Budget("b", "customer", "acme", CENT, "day")], NOON)
    records.close()

    assert states(path, NOON) == {("b", "acme"): (0, 0, 0)}


@pytest.fixture
def release(old: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of version 2, as release 0.1 leaves it."""
    scripts = migrations._scripts()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_scripts", lambda: scripts[:2])
        # Its balances had no `paced`, which is empty here.
        places = ", ".join(f"?{number}" for number in range(1, 12))
        write = f"INSERT OR REPLACE INTO balances SELECT {places} WHERE ?12 = ''"
        patch.setattr(opening, "WRITE_BALANCE", write)
        # Its tables alone: a writer of today reads columns that they do not have.
        with contextlib.closing(connect(old)) as connection:
            migrate(connection, lambda: LATER)
    return old


def test_a_file_of_the_release_before_is_read_as_it_is(release: Path) -> None:
    """Reports and lists work next to a gateway of that release, and change nothing."""
    reports = store_at(release).reports()
    assert reports.verify().problems == []
    assert reports.spend(["customer"])
    reports.close()
    records = store_at(release).records("read")
    assert records.budgets()
    assert records.differences() == []
    records.close()
    url = f"sqlite:///{release}"
    for command in (
        ["spend"],
        ["spend", "--by", "user,tag,route"],
        ["budget", "list"],
        ["keys", "list"],
        ["requests"],
        ["notices", "list"],
    ):
        result = CliRunner().invoke(app, [*command, "--ledger", url], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
    assert version(release) == 2


def test_a_file_of_the_release_before_is_brought_up_to_date(release: Path) -> None:
    """A gateway or shipper upgrades the file: every balance, hold and unshipped row is there."""
    before = states(release)
    outbox = store_at(release).outbox()
    assert len(outbox.read_after(outbox.cursor(), 100)) == 9 + 9
    outbox.close()

    assert version(release) == NEWEST
    with opened(release, LATER) as store:
        assert isinstance(store.commit([end(FLYING, 10 * CENT)])[0], Settled)
    assert states(release).keys() == before.keys()
    assert states(release)["all", "*"] == (44, 9, 4)


def test_what_a_person_changed_under_the_release_before_stays(release: Path) -> None:
    """The file's entry was set by an earlier start and later changed by command; an entry that
    the ledger never had is applied."""
    as_in_file = Budget("acme", "customer", "acme", 100 * CENT, "month")
    with SqliteRecords(connect(release)) as records:
        records.set_budgets([as_in_file], NOON)
        changed = Budget("acme", "customer", "acme", 200 * CENT, "month")
        records.set_budgets([changed], NOON)
    new = Budget("new", "customer", "acme", CENT, "month")

    with contextlib.closing(sqlite3.connect(release)) as file:  # its gateway was stopped
        file.execute("DELETE FROM owners")
        file.commit()
    with contextlib.closing(store_at(release).records("create")) as records:
        assert records.apply_file("/etc/spanledger.yaml", [as_in_file, new], LATER) == [new]
        assert changed in records.budgets()
        # Set later, and never by a file.
        beta = Budget("beta", "customer", "beta", CENT, "month")
        records.set_budgets([beta], LATER)
        records.remove_budget("beta", LATER)
        assert records.apply_file("/etc/spanledger.yaml", [as_in_file, new, beta], LATER) == [beta]


def test_rows_of_the_release_before_count_by_route_and_for_nobody(release: Path) -> None:
    """A budget for each route counts what was spent before routes had budgets; no old row has a user or
    a tag."""
    with opened(release, LATER):
        pass
    with store_at(release).records("change") as records:
        wide = 10**15
        budgets = [Budget(name, name, "*", wide, "month") for name in ("route", "user", "tag")]
        records.set_budgets(budgets, LATER)

    found = states(release)
    with store_at(release).reports() as reports:
        assert reports.verify().problems == []
        spent = {row.group[0]: row.cost_nano for row in reports.spend(("route",))}
        assert {row.group for row in reports.spend(("user", "tag"))} == {("", "")}
    assert {s: f for (name, s), f in found.items() if name == "user"} == {"*": (0, 0, 0)}
    assert {s: f for (name, s), f in found.items() if name == "tag"} == {"*": (0, 0, 0)}
    routes = {s: f for (name, s), f in found.items() if name == "route"}
    assert routes.keys() <= spent.keys()
    assert sum(f[0] for f in routes.values()) == found["all", "*"][0]
