"""The statements of a batch. Each takes all rows of its kind at once, as arrays.

What has to be checked is checked in SQL (`ledger_guard`), because COMMIT is sent with the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from spanledger.budgets.accounts import AccountKey
from spanledger.ledger.budget_rows import BUDGET_COLUMNS
from spanledger.ledger.changes import (
    ATTEMPT_COLUMNS,
    ATTEMPT_END_COLUMNS,
    REQUEST_COLUMNS,
    REQUEST_END_COLUMNS,
)
from spanledger.ledger.postgres.arrays import unnest
from spanledger.ledger.postgres.errors import LANE_LOST, NO_ROOM, STALE

ENDED_COLUMNS = ("request_id", "number", "was", *ATTEMPT_END_COLUMNS)
REQUEST_ENDED_COLUMNS = ("request_id", *REQUEST_END_COLUMNS)
EXPIRED_COLUMNS = ("request_id", "number", "ended_ns", "cost_nano", "charge_nano", "seq")
CORRECTED_COLUMNS = ("seq", "request_id")
DECIDED_COLUMNS = ("decision", "request_id")


def _names(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _set(columns: Collection[str]) -> str:
    return ", ".join(f"{column} = x.{column}" for column in columns)


def _guarded(update: str, code: str) -> str:
    """An update whose number of rows must be the last parameter."""
    return (
        f"WITH u AS ({update} RETURNING 1)"
        f" SELECT spanledger.ledger_guard(count(*) = %s, '{code}') FROM u"
    )


# the owner's row --------------------------------------------------------------------------

BEGIN_BATCH = _guarded(
    "UPDATE spanledger.owners SET batch = batch + 1 WHERE lane = %s AND id = %s AND batch = %s",
    LANE_LOST,
)
"""First in every batch: nobody else can number rows in this lane, and a batch of ours that was given
up can no longer come through. It also waits while budgets are set."""
END_BATCH = (
    "UPDATE spanledger.owners SET seq = %s, lease_ns = coalesce(%s, lease_ns) WHERE lane = %s"
)
WHOLE_BATCH = _guarded(
    "UPDATE spanledger.owners SET batch = batch + 1, seq = %s, lease_ns = coalesce(%s, lease_ns)"
    " WHERE lane = %s AND id = %s AND batch = %s",
    LANE_LOST,
)
"""Both in one, for a batch that is decided before it begins."""
SELECT_STATE = (
    "SELECT key, value FROM spanledger.state WHERE key IN ('schema_version', 'budgets_version')"
)
FENCE = (
    "UPDATE spanledger.owners SET batch = batch + 2 WHERE lane = %s AND id = %s"
    " RETURNING lane, seq, batch"
)
"""Waits until no earlier transaction of ours is open, and lets none of them commit any more. By two,
because whether `batch` is even or odd says what became of the last batch, however many fences were
needed to find out."""
LOCK_LANES = "SELECT pg_advisory_xact_lock(hashtextextended('spanledger.lanes', 0))"
TAKE_LANE = """
UPDATE spanledger.owners SET id = %(owner)s, lease_ns = %(until)s, batch = batch + 2
WHERE lane = (
    SELECT o.lane FROM spanledger.owners o
    WHERE o.id IS NULL OR ((o.lease_ns < %(lapsed)s OR o.lease_ns > %(ahead)s
        + (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint) AND NOT EXISTS (
        SELECT FROM spanledger.attempts a WHERE a.owner = o.id AND a.state = 'held'))
    ORDER BY o.lane LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING lane, seq, batch"""
"""A lease that is too far ahead of the server's clock is of a gateway with a wrong one: if that was
killed, nothing else would ever free its lane. If it lives, it takes another lane."""
NEW_LANE = """
INSERT INTO spanledger.owners (lane, id, lease_ns)
SELECT coalesce(max(lane) + 1, 0), %(owner)s, %(until)s FROM spanledger.owners
RETURNING lane, seq, batch"""
LEAVE_LANE = """
UPDATE spanledger.owners SET id = NULL, lease_ns = 0 WHERE lane = %(lane)s AND id = %(owner)s
    AND NOT EXISTS (SELECT FROM spanledger.attempts WHERE owner = %(owner)s AND state = 'held')"""

# reads ------------------------------------------------------------------------------------

READ_BUDGETS = f"SELECT {', '.join(BUDGET_COLUMNS)} FROM spanledger.budgets"
READ_THESE_BUDGETS = f"{READ_BUDGETS} WHERE name = ANY(%s::text[])"
LAST_CHANGE = "SELECT coalesce(max(id), 0) FROM spanledger.budget_history"
CHANGED_BUDGETS = "SELECT DISTINCT name FROM spanledger.budget_history WHERE id > %s LIMIT %s"
BOOKED = """
SELECT a.request_id, a.number, a.state, a.hold_nano, a.cost_nano, a.overrun_nano, a.accounts,
    a.charge_rule
FROM unnest(%s::text[], %s::int[]) x (request_id, number)
JOIN spanledger.attempts a ON a.request_id = x.request_id AND a.number = x.number"""

_UNOWNED = """owner != %(owner)s AND NOT EXISTS (SELECT FROM spanledger.owners o
        WHERE o.id = owner AND o.lease_ns BETWEEN %(now)s AND %(latest)s)"""
LAPSED = f"""
SELECT request_id, number, hold_nano,
    CASE WHEN held_until_ns != 0 THEN expected_nano ELSE hold_nano END, accounts, charge_rule
FROM spanledger.attempts WHERE state = 'held' AND CASE WHEN held_until_ns != 0
    THEN held_until_ns < %(now)s ELSE started_ns < %(oldest)s OR ({_UNOWNED}) END
ORDER BY request_id, number"""
LEFT = f"""
SELECT request_id FROM spanledger.requests
WHERE seq IS NULL AND (started_ns < %(oldest)s OR ({_UNOWNED}))
ORDER BY request_id"""

_KEY = _names(AccountKey._fields)
_KEYS = unnest(AccountKey._fields)
_BALANCE = "b.id, b.period_end_s, b.spent_nano, b.held_nano, b.overrun_nano, b.opened_seq, b.paced"
OPEN_ACCOUNTS = f"""
INSERT INTO spanledger.balances ({_KEY}, period_end_s)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[],
    %s::bigint[]) x ({_KEY}, period_end_s)
ORDER BY {_KEY} ON CONFLICT DO NOTHING"""
"""In one order everywhere, and before any balance is locked: so no two wait for each other."""
LOCK_NEW_BALANCES = f"""
SELECT {_names(f"b.{field}" for field in AccountKey._fields)}, {_BALANCE}
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[]) x ({_KEY})
JOIN spanledger.balances b USING ({_KEY})
ORDER BY b.id FOR UPDATE OF b"""
LOCK_BALANCES = f"""
SELECT {_BALANCE} FROM spanledger.balances b WHERE b.id = ANY(%s::bigint[])
ORDER BY b.id FOR UPDATE"""

# writes -----------------------------------------------------------------------------------

BEGIN_REQUESTS = (
    f"INSERT INTO spanledger.requests ({_names(REQUEST_COLUMNS)})"
    f" SELECT * FROM {unnest(REQUEST_COLUMNS)} ON CONFLICT DO NOTHING"
)
HOLD = (
    f"INSERT INTO spanledger.attempts ({_names(ATTEMPT_COLUMNS)}, state)"
    f" SELECT x.*, 'held' FROM {unnest(ATTEMPT_COLUMNS)} x"
)
DECIDE = (
    "UPDATE spanledger.requests t SET decision = x.decision"
    f" FROM {unnest(DECIDED_COLUMNS)} x ({_names(DECIDED_COLUMNS)})"
    " WHERE t.request_id = x.request_id AND t.decision != 'warn'"
)
HOLD_ON = """
UPDATE spanledger.attempts SET held_until_ns = %s, expected_nano = least(%s, hold_nano), detail = %s
WHERE request_id = %s AND state = 'held'"""
EXPIRE = _guarded(
    "UPDATE spanledger.attempts t SET state = 'expired', ended_ns = x.ended_ns,"
    " cost_nano = x.cost_nano, charge_nano = x.charge_nano, estimated = 1, error_type = 'expired', lane = %s, seq = x.seq"
    f" FROM {unnest(EXPIRED_COLUMNS)} x ({_names(EXPIRED_COLUMNS)})"
    " WHERE t.request_id = x.request_id AND t.number = x.number AND t.state = 'held'",
    STALE,
)
END_ATTEMPTS = _guarded(
    f"UPDATE spanledger.attempts t SET {_set(ATTEMPT_END_COLUMNS)}, lane = %s"
    f" FROM {unnest(ENDED_COLUMNS)} x ({_names(ENDED_COLUMNS)})"
    " WHERE t.request_id = x.request_id AND t.number = x.number AND t.state = x.was",
    STALE,
)
CORRECT = (
    "UPDATE spanledger.requests t SET lane = %s, seq = x.seq, (attempts, cost_nano) ="
    " (SELECT count(*), sum(a.cost_nano)::bigint FROM spanledger.attempts a"
    " WHERE a.request_id = t.request_id)"
    f" FROM {unnest(CORRECTED_COLUMNS)} x ({_names(CORRECTED_COLUMNS)})"
    " WHERE t.request_id = x.request_id AND t.seq IS NOT NULL"
)
END_REQUESTS = (
    f"UPDATE spanledger.requests t SET {_set(REQUEST_END_COLUMNS)}, lane = %s,"
    " decision = CASE x.outcome WHEN 'refused' THEN 'deny' ELSE t.decision END,"
    " (attempts, cost_nano) = (SELECT count(*), coalesce(sum(a.cost_nano), 0)::bigint"
    " FROM spanledger.attempts a WHERE a.request_id = t.request_id)"
    f" FROM {unnest(REQUEST_ENDED_COLUMNS)} x ({_names(REQUEST_ENDED_COLUMNS)})"
    " WHERE t.request_id = x.request_id AND (t.seq IS NULL OR t.outcome = 'abandoned')"
)
CHANGE_BALANCES = """
UPDATE spanledger.balances b SET spent_nano = b.spent_nano + x.spent,
    held_nano = b.held_nano + x.held, overrun_nano = b.overrun_nano + x.overrun
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) x (id, spent, held, overrun)
WHERE b.id = x.id"""
PACE = """
UPDATE spanledger.balances b SET paced = x.paced
FROM unnest(%s::bigint[], %s::text[]) x (id, paced) WHERE b.id = x.id"""
USE_KEYS = """
UPDATE spanledger.keys k SET last_used_ns = greatest(k.last_used_ns, x.at_ns)
FROM unnest(%s::text[], %s::bigint[]) x (id, at_ns) WHERE k.id = x.id"""
LOCK_IDS = """
SELECT FROM spanledger.balances WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE"""
CHANGE_WHERE_ROOM = f"""
WITH u AS (
    UPDATE spanledger.balances b SET spent_nano = b.spent_nano + x.spent,
        held_nano = b.held_nano + x.held, overrun_nano = b.overrun_nano + x.overrun
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        x (id, spent, held, overrun, most, slack)
    WHERE b.id = x.id AND (x.slack IS NULL
        OR x.most - (b.spent_nano + x.spent) - (b.held_nano + x.held) >= x.slack)
    RETURNING b.id, b.spent_nano, b.held_nano, b.overrun_nano)
SELECT array_agg(id), array_agg(spent_nano), array_agg(held_nano), array_agg(overrun_nano),
    spanledger.ledger_guard(count(*) = %s AND
        (SELECT value FROM spanledger.state WHERE key = 'budgets_version') = %s AND
        (SELECT value FROM spanledger.state WHERE key = 'schema_version') = %s, '{NO_ROOM}')
FROM u"""
