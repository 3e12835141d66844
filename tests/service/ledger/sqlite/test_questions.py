"""What the engine asks of a database: few questions, whatever the size of a batch."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from spanledger.ledger.engine import Engine, Transaction
from spanledger.ledger.model import LedgerResult, Settled, Sweep
from spanledger.ledger.sql.records import UNREAD
from spanledger.ledger.sqlite.connection import connect
from spanledger.ledger.sqlite.transaction import SqliteTransaction
from tests.service.ledger.conftest import Book

CENT = 10**7
HOUR = 3_600 * 10**9
ASKED = ("budgets", "booked", "lapsed", "balances", "write")


class Counted:
    """A real transaction whose methods are counted."""

    def __init__(self, transaction: SqliteTransaction) -> None:
        self.calls: Counter[str] = Counter()
        self._transaction = transaction

    def __getattr__(self, name: str) -> object:
        if name in ASKED:
            self.calls[name] += 1
        return getattr(self._transaction, name)

    def __enter__(self) -> Transaction:
        self._transaction.__enter__()
        return self  # type: ignore[return-value]  # it has all that the transaction has

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._transaction.__exit__(kind, error, traceback)


async def test_a_batch_asks_once(book: Book) -> None:
    """Attempts of many accounts, of ours and of others, and a sweep: each question is asked once for
    all of them, before anything is written."""
    book.budget()
    book.budget("each", subject="*")
    others = [book.reservation(CENT, customer=f"c{n}") for n in range(20)]
    for reservation in others:
        await book.ledger.reserve(reservation)
    connection = connect(book.path)
    transaction = Counted(SqliteTransaction(connection, "test"))
    engine = Engine("test", 30 * 10**9)
    ours = [book.reservation(CENT, customer=f"c{n}") for n in range(10, 30)]
    ends = [book.end(reservation, CENT) for reservation in (*others, *ours)]

    results: list[LedgerResult] = engine.commit(
        transaction, [*ours, *ends, Sweep(book.time.now, HOUR)]
    )
    connection.close()

    assert transaction.calls == dict.fromkeys(ASKED, 1)
    assert sum(isinstance(result, Settled) for result in results) == 40
    assert book.accounts("each")["c15"] == (2 * CENT, 0, 0)


async def test_what_is_unread_is_found_by_index(book: Book) -> None:
    """Every gateway asks for it twice a minute, so it must not look through all attempts of a day."""
    connection = connect(book.path)
    plans = [
        [
            row[3]
            for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", {"since": 1, "limit": 9})
        ]
        for query in UNREAD
    ]
    connection.close()
    assert ["attempts_open" in plans[0][0], "attempts_expired" in plans[1][0]] == [True, True]
