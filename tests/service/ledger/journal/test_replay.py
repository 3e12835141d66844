"""What a journal leaves is recorded as if the ledger had been there all the time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.budgets.model import Budget, HoldSizes
from spanledger.ledger.changes import (
    ATTEMPT_COLUMNS,
    ATTEMPT_END_COLUMNS,
    REQUEST_COLUMNS,
    REQUEST_END_COLUMNS,
)
from spanledger.ledger.journal.file import (
    JOURNAL_SUFFIX,
    JournalEntry,
    JournalFile,
    encode,
    left_behind,
)
from spanledger.ledger.model import (
    AttemptEnd,
    EndRequest,
    Journaled,
    Later,
    LedgerOperation,
    RequestEnd,
    RequestStart,
    Reservation,
    Sweep,
)
from spanledger.ledger.ports import LedgerWriter, Store
from tests.service.ledger.conftest import NOON
from tests.service.ledger.stores import new_store, raw

LEASE_NS = 30 * 10**9
OWNER = "1-dead"
BUDGETS = [
    Budget("each", "customer", "*", 10**12, "day"),
    Budget("all", "global", "*", 10**12, "month", "Europe/Berlin"),
    Budget("warns", "model", "m1", 100, "week", action="warn"),
]
SAME = {"owner", "seq"}
"""Columns that say who recorded a row and when, not what it is."""
ATTEMPTS = ", ".join(c for c in (*ATTEMPT_COLUMNS, *ATTEMPT_END_COLUMNS) if c not in SAME)
REQUESTS = ", ".join(
    dict.fromkeys(
        c
        for c in (*REQUEST_COLUMNS, *REQUEST_END_COLUMNS, "cost_nano", "attempts")
        if c not in SAME
    )
)
BALANCES = "budget, scope, subject, period_start_s, spent_nano, held_nano, overrun_nano"


def _start(number: int, customer: str, at_ns: int) -> RequestStart:
    return RequestStart(
        request_id=f"req_{number:024x}",
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id="",
        started_ns=at_ns,
        customer=customer,
        team="red",
        key_id="key_1",
        route="chat",
        operation="chat",
        stream=False,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[JournalEntry]:
    """What some requests do, interleaved: each entry is one that a journal can have."""
    entries: list[JournalEntry] = []
    open_: list[Reservation] = []
    now = NOON
    for number in range(1, draw(st.integers(1, 12)) + 1):
        now += draw(st.sampled_from([1, 10**9, 3_600 * 10**9, 13 * 3_600 * 10**9]))
        start = _start(number, draw(st.sampled_from(["acme", "red"])), now)
        hold = draw(st.integers(0, 90))
        reservation = Reservation(
            request=start,
            number=1,
            span_id=f"{number + 2**60:016x}",
            now_ns=now,
            deployment="d1",
            provider="openai",
            model=draw(st.sampled_from(["m1", "m2"])),
            sizes=HoldSizes(hold, hold, hold),
            priced=True,
            price_id="p",
        )
        entries.append(Journaled(reservation, hold))
        open_.append(reservation)
        for _ in range(draw(st.integers(0, len(open_)))):
            ending = open_.pop(draw(st.integers(0, len(open_) - 1)))
            entries += draw(_ends(ending, now + draw(st.integers(0, 9))))
    return entries


@st.composite
def _ends(draw: st.DrawFn, ending: Reservation, at_ns: int) -> list[JournalEntry]:
    cost = draw(st.none() | st.integers(0, 120))
    request = RequestEnd("ok", "", 200, at_ns)
    kind = draw(st.sampled_from(["ends", "ends", "ends", "later", "only the attempt", "apart"]))
    end = AttemptEnd(
        ending.attempt_id,
        at_ns,
        cost,
        input_tokens=3,
        detail='{"a": "ü\\u0000"}',
        request=request if kind == "ends" else None,
    )
    if kind == "later":
        return [EndRequest(ending.request, request, later=Later(at_ns + 10**15, 1))]
    return [end, EndRequest(ending.request, request)] if kind == "apart" else [end]


def _direct(entries: Sequence[JournalEntry]) -> list[LedgerOperation]:
    return [entry.reservation if isinstance(entry, Journaled) else entry for entry in entries]


@contextlib.contextmanager
def _ledger(kind: str) -> Iterator[tuple[Store, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(kind, Path(folder))
        with store.records("create") as records:
            records.set_budgets(BUDGETS, NOON)
        yield store, Path(folder) / "journal"


@contextlib.contextmanager
def _writer(store: Store, owner: str) -> Iterator[LedgerWriter]:
    with contextlib.closing(store.writer(owner, LEASE_NS, lambda: NOON)) as writer:
        yield writer


def _rows(store: Store) -> list[list[tuple[object, ...]]]:
    """Everything that the ledger has of them."""
    queries = (
        f"SELECT {ATTEMPTS} FROM attempts ORDER BY request_id, number",
        f"SELECT {REQUESTS} FROM requests ORDER BY request_id",
        f"SELECT {BALANCES} FROM balances ORDER BY {BALANCES}",
    )
    return [[tuple(row) for row in raw(store, query)] for query in queries]


def _settle(store: Store) -> None:
    """Long after, another process sweeps, and the ledger must add up."""
    with _writer(store, "2-other") as writer:
        writer.commit([Sweep(NOON + 30 * 86_400 * 10**9, 3_600 * 10**9)])
    with store.reports() as reports:
        assert reports.verify().problems == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@settings(max_examples=25, deadline=None)
@given(
    entries=histories(),
    cut=st.integers(0, 400),
    chunks=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    dies_after=st.integers(0, 6),
)
def test_replay_equals_direct(
    kind: str, entries: list[JournalEntry], cut: int, chunks: list[int], dies_after: int
) -> None:
    """Wherever the file breaks off, whatever is recorded together, and though a first process dies
    while recording: rows, totals and balances are those of a ledger that was never unavailable."""
    with _ledger(kind) as (direct, _), _ledger(kind) as (later, folder):
        file = JournalFile(folder, "L", OWNER)
        begun = file.size
        lines = [encode(entry) for entry in entries]
        file.append([line for line in lines if line is not None])
        size = max(begun, file.size - cut)
        file.close()
        (path,) = folder.glob(f"*{JOURNAL_SUFFIX}")
        with path.open("r+b") as stream:
            stream.truncate(size)
        kept = path.read_bytes().count(b"\n") - 1
        with _writer(direct, OWNER) as writer:
            for operation in _direct(entries[:kept]):
                writer.commit([operation])

        dying = next(iter(left_behind(folder, "L", set())), None)
        assert dying is not None
        assert len(dying.entries) == kept
        assert not dying.damaged
        with _writer(later, "3-first") as first:
            first.commit(list(dying.entries[:dies_after]))
            first.commit(list(dying.entries[:dies_after]))
        with _writer(later, "4-second") as successor:
            at = turn = 0
            while at < kept:
                many = chunks[turn % len(chunks)]
                successor.commit(list(dying.entries[at : at + many]))
                at, turn = at + many, turn + 1
        dying.recorded(completely=True)
        assert list(folder.iterdir()) == []

        for store in (direct, later):
            _settle(store)
        assert _rows(later) == _rows(direct)


@given(entries=histories(), place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_kept(entries: list[JournalEntry], place: int, bit: int) -> None:
    """A flipped bit never becomes another entry: that line is left out, and the file stays."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = JournalFile(folder, "L", OWNER)
        begun = file.size
        file.append([line for line in map(encode, entries) if line is not None])
        file.close()
        (path,) = folder.glob(f"*{JOURNAL_SUFFIX}")
        data = bytearray(path.read_bytes())
        at = begun + place % (len(data) - begun)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        (found,) = left_behind(folder, "L", set())
        attempts = [e.attempt_id for e in found.entries if isinstance(e, AttemptEnd)]
        assert set(attempts) <= {e.attempt_id for e in entries if isinstance(e, AttemptEnd)}
        assert len(found.entries) < len(entries)
        last = data[:at].count(b"\n") >= len(entries)  # as good as cut off: never acknowledged
        assert found.damaged or last
        found.recorded(completely=True)
        assert path.exists() is False
        assert bool(list(folder.glob("*.damaged"))) is found.damaged
