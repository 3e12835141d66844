"""Months of a clock that is wrong: their number is bounded, and the right one always has its tables."""

from __future__ import annotations

import time

import pytest

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.ports import Store
from spanledger.ledger.postgres import partitions
from tests.service.ledger.postgres import rig
from tests.service.ledger.postgres.test_months import serve
from tests.service.ledger.stores import raw

YEAR = 365 * 86_400 * 10**9


def test_a_clock_that_jumps_about_makes_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway whose clock shows another month each time is refused at the limit, with the month in
    the message, and others go on, also in a month without tables."""
    now = time.time_ns()
    usual = partitions.partitions_ahead(now)[0].suffix
    with rig.writing(store, "wrong") as wrong, rig.writing(store, "right") as right:
        serve(wrong, now)
        count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spanledger.requests'::regclass"
        ((made,),) = raw(store, count)
        monkeypatch.setattr(partitions, "MAX_MONTHS", made + 2)
        serve(wrong, now + 2 * YEAR)
        serve(wrong, now + 3 * YEAR)
        with pytest.raises(
            LedgerUnavailableError, match=r"makes none for \d{4}_\d\d: set the clock"
        ):
            serve(wrong, now + 4 * YEAR)
        assert raw(store, count) == [(made + 2,)]

        for table in partitions.TABLES:
            raw(store, f"DROP TABLE spanledger.{table}_{usual}")
        serve(right, now)
        serve(wrong, now + 2 * YEAR)
