"""Pruning drops whole months of which nothing is needed any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from msgspec import structs

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.model import AttemptEnd, EndRequest, Kept, RequestEnd, Reservation
from spanledger.ledger.ports import LedgerWriter, Store
from spanledger.ledger.postgres import pruning
from spanledger.ledger.pruning import Keep, Pruned
from tests.service.ledger.conftest import NOON
from tests.service.ledger.postgres import rig
from tests.service.ledger.stores import raw

SECOND = 10**9
SEPTEMBER, OCTOBER = (
    int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) * SECOND for month in (9, 10)
)
MIDDLE = SEPTEMBER + 15 * 86_400 * SECOND


@pytest.fixture
def writer(store: Store) -> Iterator[LedgerWriter]:
    """A gateway of a ledger without a shipper."""
    with store.records("create") as records:
        records.set_ships(ships=False)
    with rig.writing(store) as writer:
        yield writer


def at(now_ns: int) -> Reservation:
    """An attempt of a request that began then."""
    held = rig.reservation()
    request_id = f"req_{now_ns // 10**6:012x}{held.request.request_id[16:]}"
    start = structs.replace(held.request, request_id=request_id, started_ns=now_ns)
    return structs.replace(held, request=start, now_ns=now_ns)


def ended(held: Reservation, cost: int = 7) -> AttemptEnd:
    """Its end, a second later."""
    moment = held.now_ns + SECOND
    return structs.replace(
        rig.end(held, cost), ended_ns=moment, request=RequestEnd("ok", "", 200, moment)
    )


def serve(writer: LedgerWriter, *moments: int) -> list[str]:
    """A request at each of some moments; returns their ids."""
    held = [at(moment) for moment in moments]
    writer.commit([*held, *map(ended, held)])
    return [one.request.request_id for one in held]


def prune(store: Store, before_ns: int = OCTOBER, keep: Keep | None = None) -> Pruned:
    """Run a pruning to its end; returns what was removed."""
    with closing(store.prune(before_ns, NOON)) as removal:
        return [Pruned(), *removal.run(keep)][-1]


def months(store: Store) -> set[str]:
    """Tables of months that exist."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_2026_(08|09|10)$'"
    return {name for (name,) in raw(store, query)}


def remaining(store: Store) -> set[str]:
    """Ids of requests that are left."""
    return {request_id for (request_id,) in raw(store, "SELECT request_id FROM requests")}


def test_a_month_is_dropped_with_all_that_is_in_it(store: Store, writer: LedgerWriter) -> None:
    """Its tables are gone, all its rows have been passed on, and later months are as they were."""
    kept_id, *others = serve(writer, SEPTEMBER, MIDDLE, MIDDLE + 1)
    (later,) = serve(writer, OCTOBER + 5)
    start = structs.replace(at(MIDDLE).request, request_id=kept_id)
    kept = Kept(kept_id, "file", "acme", "", "d", "file_1", SEPTEMBER, "{}")
    writer.commit([EndRequest(start, RequestEnd("ok", "", 200, SEPTEMBER), kept)])
    assert {"requests_2026_09", "attempts_2026_09"} <= months(store)
    passed: list[str] = []

    def keep(batch: object) -> None:
        passed.extend(request["request_id"] for request, _ in batch)  # type: ignore[attr-defined]  # as `Keep` says

    done = prune(store, keep=keep)

    assert (done.requests, done.attempts, done.cost_nano) == (3, 3, 21)
    assert sorted(passed) == sorted([kept_id, *others])
    assert months(store) == {"requests_2026_10", "attempts_2026_10"}
    assert remaining(store) == {later}
    assert raw(store, "SELECT * FROM kept") == []
    with store.reports() as reports:
        assert (reports.pruned_ns(), reports.verify().problems) == (OCTOBER, [])
    assert serve(writer, MIDDLE)  # a clock set wrong makes the month again


def test_a_month_that_is_needed_keeps_its_tables(store: Store, writer: LedgerWriter) -> None:
    """Of a month with an open hold, or whose end is after the limit, single rows are removed."""
    serve(writer, MIDDLE, MIDDLE + 1)
    held = at(MIDDLE + 2)
    writer.commit([held])
    serve(writer, OCTOBER)

    done = prune(store, OCTOBER + 10 * SECOND)

    assert done.requests == 3
    assert remaining(store) == {held.request.request_id}
    assert {"requests_2026_09", "requests_2026_10"} <= months(store)
    writer.commit([ended(held)])


def test_a_month_that_changes_meanwhile_is_not_dropped(
    store: Store, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that a clock set back has put into it after the look stays."""
    serve(writer, MIDDLE)
    look = pruning.PostgresPruning._unneeded
    late: list[Reservation] = []

    def meanwhile(self: pruning.PostgresPruning, partition: object) -> object:
        found = look(self, partition)  # type: ignore[arg-type]  # a partition
        late.append(at(MIDDLE + 5))
        writer.commit([late[-1]])
        return found

    monkeypatch.setattr(pruning.PostgresPruning, "_unneeded", meanwhile)

    assert prune(store).requests == 1
    assert remaining(store) == {one.request.request_id for one in late}


def test_a_reader_is_waited_for_and_nobody_for_long(
    store: Store, writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a report reads, the month stays and gateways commit; the next run removes it."""
    serve(writer, MIDDLE)
    monkeypatch.setattr(pruning, "DROP_TRIES", 2)
    monkeypatch.setattr(pruning, "DROP_PAUSE_S", 0.01)
    with psycopg.connect(store.url) as reader:
        reader.execute("SELECT count(*) FROM spanledger.requests")
        with pytest.raises(LedgerUnavailableError, match="prune again"):
            prune(store)
        thread = threading.Thread(target=serve, args=(writer, NOON))
        thread.start()
        thread.join()
    assert len(remaining(store)) == 2

    assert prune(store).requests == 1
    assert not any(name.endswith("_09") for name in months(store))
