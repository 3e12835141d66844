"""The order of the outbox where several gateways write: lanes, each read to its end."""

from __future__ import annotations

import random
import threading
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from spanledger.ledger.model import AttemptEnd
from spanledger.ledger.ports import Outbox, Store
from spanledger.ledger.postgres import outbox as outbox_module
from spanledger.ledger.postgres.outbox import _shares
from spanledger.ledger.rows import Advance, AttemptRow, EndedRow
from tests.service.ledger.postgres.rig import end, reservation, writing

WRITERS, BATCHES = 3, 40


def shipped(outbox: Outbox, limit: int) -> list[EndedRow]:
    """Read a batch and accept it."""
    at = outbox.cursor()
    rows = outbox.read_after(at, limit)
    if rows:
        outbox.advance(Advance(at, at.past(rows)))
    return rows


def test_nothing_is_passed_over_while_three_gateways_write(store: Store) -> None:
    """Every ended row comes exactly once, in order within its lane, whichever commits first."""
    store.migrate()
    ids: set[str] = set()
    running = threading.Semaphore(0)

    def write(number: int) -> None:
        pick = random.Random(number)
        with writing(store, f"w{number}") as writer:
            for _ in range(BATCHES):
                batch = [reservation() for _ in range(pick.randint(1, 12))]
                ids.update(one.request.request_id for one in batch)
                writer.commit([*batch, *(end(one, 5) for one in batch)])
        running.release()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    rows: list[EndedRow] = []
    with closing(store.outbox()) as outbox:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            rows += shipped(outbox, random.choice([1, 7, 64]))
        for thread in threads:
            thread.join()
        while found := shipped(outbox, 64):
            rows += found

    attempts = [row.request_id for row in rows if isinstance(row, AttemptRow)]
    requests = [row.request_id for row in rows if not isinstance(row, AttemptRow)]
    assert sorted(attempts) == sorted(requests) == sorted(ids)
    places = [(row.lane, row.seq) for row in rows]
    assert len(set(places)) == len(places)
    for lane in {lane for lane, _ in places}:
        numbers = [seq for of, seq in places if of == lane]
        assert numbers == sorted(numbers)
    assert len({lane for lane, _ in places}) == WRITERS


def test_content_of_many_lanes_stays_within_a_batch(store: Store, monkeypatch: object) -> None:
    """A batch has a bound on its content, each lane moves on, and no row is skipped."""
    monkeypatch.setattr(outbox_module, "MAX_BATCH_BYTES", 3_000)  # type: ignore[attr-defined]  # pytest's
    ids = []
    for number in range(2):
        with writing(store, f"w{number}") as writer:
            other = writing(store, "other")
            with other as beside:
                for _ in range(5):
                    for one in (writer, beside):
                        attempt = reservation()
                        ids.append(attempt.request.request_id)
                        one.commit([attempt, with_content(end(attempt, 5))])
    sizes, seen = [], []
    with closing(store.outbox()) as outbox:
        while rows := shipped(outbox, 100):
            attempts = [row for row in rows if isinstance(row, AttemptRow)]
            sizes.append(sum(len(row.content or "") for row in attempts))
            seen += [row.request_id for row in attempts]

    assert sorted(seen) == sorted(ids)
    assert max(sizes) <= 3_000 + 2 * 1_000
    assert len(sizes) > 3


def with_content(attempt: AttemptEnd) -> AttemptEnd:
    """An end with a thousand characters of content."""
    return structs.replace(attempt, content="x" * 1_000)


@given(
    waiting=st.dictionaries(st.integers(0, 50), st.integers(1, 10_000), min_size=1, max_size=30),
    most=st.integers(1, 300),
)
def test_a_lane_with_a_backlog_fills_the_batch(waiting: dict[int, int], most: int) -> None:
    """Every lane gets something, none more than waits, and together as much as there is room or rows."""
    shares = _shares(waiting, most)

    assert shares.keys() == waiting.keys()
    assert all(1 <= share <= waiting[lane] for lane, share in shares.items())
    if most >= len(waiting):
        assert sum(shares.values()) == min(most, sum(waiting.values()))
