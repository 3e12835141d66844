"""Rows of the small tables as what they mean."""

from __future__ import annotations

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.ledger.sql.port import Columns

SELECT_BALANCES = """
SELECT budget, scope, period, timezone, period_start_s, subject, period_end_s, spent_nano,
    held_nano, overrun_nano, opened_seq
FROM balances"""

SELECT_WHOLE_BALANCES = SELECT_BALANCES.replace("opened_seq", "opened_seq, paced")
"""The same with what ledgers of earlier versions lack."""


def balance_from_row(row: Columns) -> Balance:
    """A balance from `SELECT_BALANCES`."""
    return Balance(AccountKey(*row[:6]), *row[6:])
