"""Errors that come while several statements are on their way, and connections that are stuck after them."""

from __future__ import annotations

import psycopg
import pytest

from spanledger.ledger.changes import Changes
from spanledger.ledger.model import Settled
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres.batch import Batch
from spanledger.ledger.postgres.connection import ServerAddress, Session
from tests.service.ledger.postgres.rig import end, reservation, states, writing


def get_stuck(session: Session) -> None:
    """Do in a pipeline what cannot be done there, which leaves results that nobody can read."""
    with session.snapshot(), session.connection.pipeline():
        session.connection.execute("COPY (SELECT 1) TO STDOUT")


def test_a_connection_that_cannot_be_rolled_back_is_replaced(store: Store) -> None:
    """One that is stuck in a pipeline looks open forever, and refuses everything."""
    session = Session(ServerAddress(store.url))
    with pytest.raises(psycopg.Error):
        get_stuck(session)

    assert session.rows("SELECT 1") == [(1,)]
    session.close()


def test_a_stale_attempt_that_is_noticed_early_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may complain before all statements of a batch are sent; the batch is decided again."""
    write_rows = Batch._write_rows

    def and_wait(batch: Batch, changes: Changes) -> None:
        write_rows(batch, changes)
        assert batch._connection is not None
        with batch._connection.pipeline():
            pass  # waits for all results so far

    with writing(store) as first, writing(store, "other") as second:
        held = reservation()
        first.commit([held])
        second.commit([end(held)])
        monkeypatch.setattr(Batch, "_write_rows", and_wait)

        [settled] = first.commit([end(held)])

        assert isinstance(settled, Settled)
        assert states(store) == {"settled": 1}
