"""Rows of the small tables as what they mean."""

from __future__ import annotations

import json

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.budgets.scopes import tags_in
from spanledger.ledger.model import Key
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


def key_from_row(row: Columns) -> Key:
    """A key from the columns of its table."""
    key_id, digest, customer, team, routes, created_ns, revoked_ns, through, *names = row
    user, project, tags = names
    return Key(
        id=key_id,
        digest=digest,
        customer=customer,
        team=team,
        routes=tuple(json.loads(routes)),
        created_ns=created_ns,
        revoked_ns=revoked_ns,
        pass_through=bool(through),
        user=user,
        project=project,
        tags=tuple(tags_in(tags)),
    )
