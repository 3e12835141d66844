"""Commits whose answer is lost: what became of them is found out, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from spanledger.clock import Clock
from spanledger.errors import CommitInDoubtError, LedgerUnavailableError
from spanledger.ledger.group import GroupLedger
from spanledger.ledger.model import Hold, Reservation, Settled
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres import batch as batch_module
from spanledger.ledger.postgres import writer as writer_module
from tests.service.ledger.postgres.rig import (
    balance,
    end,
    port_of,
    reservation,
    set_budget,
    states,
    through,
    writing,
)
from tests.service.ledger.stores import raw
from tests.support.cutting_proxy import CuttingProxy, Moment, cutting_proxy
from tests.support.processes import poll

COMMIT = b"COMMIT\0"


@pytest.fixture
def proxy(store: Store) -> Iterator[CuttingProxy]:
    """In front of the ledger's server."""
    store.migrate()
    with cutting_proxy(port_of(store)) as proxy:
        yield proxy


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_connection_cut_in_mid_commit_holds_once(
    store: Store, proxy: CuttingProxy, moment: Moment
) -> None:
    """Whether or not the server got the COMMIT, the caller has its hold and the ledger has it once."""
    set_budget(store, 100)
    with writing(through(store, proxy.port)) as writer:
        [first] = writer.commit([reservation()])
        proxy.cut(COMMIT, moment)
        held = [reservation() for _ in range(3)]

        results = writer.commit(held)

        assert proxy.cuts == 1
        assert all(isinstance(result, Hold) for result in results), results
        assert (states(store), balance(store)) == ({"held": 4}, (0, 40))
        assert all(isinstance(r, Settled) for r in writer.commit([end(r) for r in held]))
    assert isinstance(first, Hold)
    assert (states(store), balance(store)) == ({"held": 1, "settled": 3}, (21, 10))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_end_cut_in_mid_commit_is_charged_once(
    store: Store, proxy: CuttingProxy, moment: Moment
) -> None:
    """Its rows have one place each in the outbox."""
    set_budget(store, 100)
    with writing(through(store, proxy.port)) as writer:
        held = [reservation() for _ in range(3)]
        writer.commit(held)
        proxy.cut(COMMIT, moment)

        results = writer.commit([end(r) for r in held])

        assert [r.cost_nano for r in results if isinstance(r, Settled)] == [7, 7, 7]
    assert (states(store), balance(store)) == ({"settled": 3}, (21, 0))
    numbers = raw(store, "SELECT seq FROM attempts UNION ALL SELECT seq FROM requests")
    assert len(set(numbers)) == 6
    [(last,)] = raw(store, "SELECT seq FROM owners")
    assert max(numbers) == (last,)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_answer_to_the_question_is_lost_too(
    store: Store, proxy: CuttingProxy, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections on which a lost commit is asked after are cut in their own commits: asked once
    more, the answer is still the right one."""
    with writing(through(store, proxy.port)) as writer:
        writer.commit([reservation()])
        settle = batch_module.Batch._settle

        def settle_with_cuts(batch: batch_module.Batch, problem: str) -> None:
            proxy.cut(COMMIT, "after", times=3)
            settle(batch, problem)

        monkeypatch.setattr(batch_module.Batch, "_settle", settle_with_cuts)
        proxy.cut(COMMIT, moment)

        [result] = writer.commit([reservation()])

    assert isinstance(result, Hold)
    assert states(store) == {"held": 2}
    assert proxy.cuts == 4


def test_a_silent_server_is_left_and_asked_again(
    store: Store, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that gets no answer ends at our own deadline, and is then found to have been made."""
    monkeypatch.setattr(writer_module, "ANSWER_TIMEOUT_S", 0.5)
    with writing(through(store, proxy.port)) as writer:
        writer.commit([reservation()])
        proxy.cut(COMMIT, "silence")

        [result] = writer.commit([reservation()])

    assert isinstance(result, Hold)
    assert states(store) == {"held": 2}


def test_a_commit_that_comes_too_late_does_not_come_through(
    store: Store, proxy: CuttingProxy
) -> None:
    """A transaction that we have given up cannot begin any more, wherever its bytes were kept."""
    with writing(store) as writer:
        writer.commit([reservation()])
        owner = writer._owner
        stale = (owner.lane, owner.id, owner.batch, 1)
        owner.fence(writer._session)

        with pytest.raises(Exception, match="not as this transaction assumed"):
            raw(store, _as_questions(), *stale)


def _as_questions() -> str:
    from spanledger.ledger.postgres.statements import BEGIN_BATCH

    return BEGIN_BATCH.replace("%s", "?")


async def test_holds_of_a_lost_database_are_released_when_it_is_back(
    store: Store, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is lost in mid-commit and stays unreachable: callers get an error, and once it is back,
    the hold that was made after all is released."""
    monkeypatch.setattr(batch_module, "SETTLE_S", 0.3)
    set_budget(store, 100)
    with writing(through(store, proxy.port)) as writer:
        ledger = group(writer)
        await ledger.reserve(reservation())
        proxy.cut(COMMIT, "after")
        proxy.refuses = True

        with pytest.raises(CommitInDoubtError, match="while a commit was under way"):
            await ledger.reserve(reservation())
        with pytest.raises(LedgerUnavailableError):
            await ledger.reserve(reservation())

        proxy.refuses = False
        wanted = {"held": 1, "released": 1}
        assert await asyncio.to_thread(poll, lambda: states(store) == wanted)
        assert balance(store) == (0, 10)
        await ledger.reserve(reservation())
        ledger._queue.put(None)
        await asyncio.to_thread(ledger._thread.join)
    assert balance(store) == (0, 20)


def group(writer: writer_module.PostgresWriter) -> GroupLedger:
    """A group ledger on a writer; it reads no keys."""
    return GroupLedger(
        writer,
        None,  # type: ignore[arg-type]  # nothing is read here
        now_ns=Clock().now_ns,
        monotonic=Clock().monotonic,
        lease_s=30,
        max_hold_s=3600,
    )


def test_a_row_that_cannot_be_stored_fails_alone(store: Store) -> None:
    """Text that Postgres cannot store is cleaned; a number that does not fit fails, without the row in
    the error."""
    with writing(store) as writer:
        good, dirty, large = (reservation() for _ in range(3))
        writer.commit([good, dirty, large])

        writer.commit([end(dirty, detail='{"a": "x\x00y\ud800z"}')])
        with pytest.raises(writer_module.RejectedError) as caught:
            writer.commit([end(good), end(large, cost=2**63, detail='{"secret": 1}')])
        writer.commit([end(good)])

    assert "secret" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert states(store) == {"settled": 2, "held": 1}
    [(detail,)] = raw(store, "SELECT detail FROM attempts WHERE detail != '{}'")
    assert detail == '{"a": "xy?z"}'


def test_an_idle_connection_that_was_closed_is_replaced(store: Store) -> None:
    """Also when the server has closed it while nobody was looking."""
    with writing(store) as writer:
        writer.commit([reservation()])
        raw(
            store,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()",
        )

        writer.commit([reservation()])

    assert states(store) == {"held": 2}


def test_a_clock_set_wrong_makes_the_partition_it_needs(store: Store) -> None:
    """Ids of a month far from now are stored, and so are ids that no gateway makes."""
    far = f"req_{4_102_444_800_000:012x}{7:012x}"
    with writing(store) as writer:
        results = writer.commit([with_id("1234-5"), with_id(far)])

        assert all(isinstance(hold, Hold) for hold in results)

    assert raw(store, "SELECT request_id FROM attempts_early") == [("1234-5",)]
    assert raw(store, "SELECT request_id FROM attempts_2100_01") == [(far,)]


def with_id(request_id: str) -> Reservation:
    """An attempt of a request with this id."""
    found = reservation()
    request = msgspec.structs.replace(found.request, request_id=request_id)
    return msgspec.structs.replace(found, request=request)
