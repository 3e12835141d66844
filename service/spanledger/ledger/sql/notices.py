"""The outbox of notices in SQL. What a database does its own way is left to it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from spanledger.budgets.accounts import AccountKey
from spanledger.budgets.scopes import SCOPES, tags_in
from spanledger.ledger.budget_rows import budget_from_row, select_budgets
from spanledger.ledger.engine import MAX_READ_CHANGES
from spanledger.ledger.lanes import Position
from spanledger.ledger.notices import (
    BudgetNews,
    DeliveryEnd,
    Due,
    Ended,
    NewNotice,
    Notice,
    Refused,
    Traffic,
)
from spanledger.ledger.sql.identity import ledger_uuid
from spanledger.ledger.sql.notice_rows import NOTICE, notice_from_row
from spanledger.ledger.sql.port import Columns, Sql
from spanledger.ledger.sql.reports import SqlReports

IDS_AT_ONCE = 200
"""Ids in one question."""
_RETRIES = "notices_retried"
_WATCHED = "notices_watched_"
"""In the ledger's state, with the step behind it."""
_BY_REQUEST = {
    scope.name: scope.column.replace("a.", "r.")
    for scope in SCOPES
    if scope.name not in ("model", "provider")
}
"""The columns of a request that name subjects; its model and provider are its attempts'."""


class SqlNotices(ABC):
    """`NoticeBook` on one connection, which it closes."""

    lane = "{row}.lane"
    """The lane of a row, as SQL."""

    def __init__(self, sql: Sql, reports: SqlReports) -> None:
        self._sql = sql
        self.reports = reports

    def close(self) -> None:
        """See `NoticeBook`."""
        self._sql.close()

    def ledger_id(self) -> str:
        """See `NoticeBook`."""
        return ledger_uuid(self._sql)

    # what databases do differently ----------------------------------------------------------

    @abstractmethod
    def check(self) -> None:
        """See `NoticeBook`."""

    @abstractmethod
    def ends(self) -> Position:
        """See `NoticeBook`."""

    @abstractmethod
    def _beside(self) -> AbstractContextManager[None]:
        """A write transaction that keeps no gateway from committing."""

    # what happens -------------------------------------------------------------------------

    def traffic(self, after: Position, limit: int) -> Traffic:
        """See `NoticeBook`. Only what has ended before the questions is read, so that no row that ends
        between them is skipped."""
        ends = self.ends()
        spent: list[tuple[str, int]] = []
        refused: list[Refused] = []
        upto = dict(after.lanes())
        for lane, end in ends.lanes():
            begin = after.of(lane)
            upto[lane] = min(end, begin + limit)
            if upto[lane] <= begin:
                upto[lane] = begin
                continue
            where = {"lane": lane, "after": begin, "upto": upto[lane]}
            spent += self._sql.rows(_SPENT.format(lane=self.lane.format(row="a")), **where)
            rows = self._sql.rows(_REFUSED.format(lane=self.lane.format(row="r")), **where)
            refused += map(_refused, rows)
        position = Position(upto)
        return Traffic(spent, refused, position, not position.same_as(ends))

    def budget_news(self, since: int) -> BudgetNews:
        """See `NoticeBook`."""
        ((last,),) = self._sql.rows("SELECT coalesce(max(id), 0) FROM budget_history")
        if 0 < since <= last:
            rows = self._sql.rows(_CHANGED, since=since, limit=MAX_READ_CHANGES + 1)
            if len(rows) <= MAX_READ_CHANGES:
                names = [name for (name,) in rows]
                one = f"{select_budgets()} WHERE name = :name"
                found = [row for name in names for row in self._sql.rows(one, name=name)]
                return BudgetNews(last, names, [budget_from_row(row) for row in found])
        rows = self._sql.rows(select_budgets())
        return BudgetNews(last, None, [budget_from_row(row) for row in rows])

    # notices ------------------------------------------------------------------------------

    def watched_since(self, step: str) -> int:
        """See `NoticeBook`."""
        return self._state(_WATCHED + step)

    def _state(self, key: str) -> int:
        rows = self._sql.rows("SELECT value FROM state WHERE key = :key", key=key)
        return int(rows[0][0]) if rows else 0

    def known(self, ids: Collection[str]) -> set[str]:
        """See `NoticeBook`."""
        asked, found = list(ids), set()
        for first in range(0, len(asked), IDS_AT_ONCE):
            some = {f"id{n}": id_ for n, id_ in enumerate(asked[first : first + IDS_AT_ONCE])}
            places = ", ".join(f":{name}" for name in some)
            query = f"SELECT id FROM notices WHERE id IN ({places})"  # noqa: S608 - our own names
            found |= {id_ for (id_,) in self._sql.rows(query, **some)}
        return found

    def record(
        self,
        found: Sequence[NewNotice],
        now_ns: int,
        *,
        closed: Sequence[str] = (),
        watched: Sequence[str] = (),
    ) -> None:
        """See `NoticeBook`."""
        with self._beside():
            self._sql.many(_FIND, [_row_of(each.notice) for each in found])
            self._sql.many(
                _DELIVER,
                [
                    {"id": each.notice.id, "destination": name, "now": now_ns}
                    for each in found
                    for name in each.destinations
                ],
            )
            self._sql.many(_CLOSE, [{"id": id_} for id_ in closed])
            self._sql.many(_WATCH, [{"key": _WATCHED + step, "now": now_ns} for step in watched])

    def ended(self, now_s: int, limit: int) -> list[Ended]:
        """See `NoticeBook`."""
        found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for id_, account, destination in self._sql.rows(_ENDED, now=now_s, limit=limit):
            ids, destinations = found.setdefault(account, ({}, {}))
            ids[id_] = None
            if destination is not None:
                destinations[destination] = None
        return [
            Ended(AccountKey(*json.loads(account)), [*ids], [*destinations])
            for account, (ids, destinations) in found.items()
        ]

    def forget(self, before_s: int) -> None:
        """See `NoticeBook`."""
        with self._beside():
            self._sql.run(_FORGET, before=before_s)
            self._sql.run(_FORGET_DELIVERIES)

    # deliveries ---------------------------------------------------------------------------

    def due(self, destination: str, now_ns: int, limit: int) -> list[Due]:
        """See `NoticeBook`."""
        rows = self._sql.rows(_DUE, destination=destination, now=now_ns, limit=limit)
        return [Due(notice_from_row(row), row[-1]) for row in rows]

    def waiting(self, destination: str) -> int:
        """See `NoticeBook`."""
        ((count,),) = self._sql.rows(_WAITING, destination=destination)
        return int(count)

    def settle(self, outcomes: Sequence[DeliveryEnd]) -> None:
        """See `NoticeBook`. A delivery that somebody else has sent meanwhile is not counted again."""
        with self._beside():
            sent = [{"id": o.id, "to": o.destination} for o in outcomes if o.state == "sent"]
            self._sql.many(_COUNT, sent)
            self._sql.many(_SETTLE, [outcome._asdict() for outcome in outcomes])

    def give_up(self, destination: str, before_ns: int, error: str) -> None:
        """See `NoticeBook`."""
        with self._beside():
            self._sql.run(_GIVE_UP, destination=destination, before=before_ns, error=error)

    def retries(self) -> int:
        """See `NoticeBook`."""
        return self._state(_RETRIES)

    def retry(self, now_ns: int, destination: str = "", id_prefix: str = "") -> int:
        """See `NoticeBook`."""
        where = {"destination": destination, "prefix": id_prefix, "length": len(id_prefix)}
        with self._beside():
            ((count,),) = self._sql.rows(_TO_RETRY, **where)
            self._sql.run(_RETRY, now=now_ns, **where)
            self._sql.run(_RETRIED, key=_RETRIES)
        return int(count)


def _refused(row: Columns) -> Refused:
    budget, *values = row
    subjects = dict(zip(_BY_REQUEST, values, strict=True))
    return Refused(
        budget,
        tuple(
            tuple(tags_in(subjects[scope.name])) if scope.several else subjects.get(scope.name, "")
            for scope in SCOPES
        ),
    )


def _row_of(notice: Notice) -> dict[str, Any]:
    account = json.dumps(notice.account, ensure_ascii=False)
    return {**notice._asdict(), "account": account, "open": int(notice.open)}


_SPENT = """
SELECT a.accounts, a.cost_nano FROM attempts a
WHERE {lane} = :lane AND a.seq > :after AND a.seq <= :upto AND a.cost_nano > 0"""

_REFUSED = f"""
SELECT r.refused_by, {", ".join(_BY_REQUEST.values())} FROM requests r
WHERE {{lane}} = :lane AND r.seq > :after AND r.seq <= :upto AND r.outcome = 'refused'
    AND r.refused_by != ''"""  # noqa: S608 - our own columns

_CHANGED = "SELECT DISTINCT name FROM budget_history WHERE id > :since LIMIT :limit"

_FIND = """
INSERT INTO notices (id, account, step, at_ns, until_s, data, is_open)
VALUES (:id, :account, :step, :at_ns, :until_s, :data, :open) ON CONFLICT (id) DO NOTHING"""

_DELIVER = """
INSERT INTO notice_deliveries (id, destination, state, due_ns)
VALUES (:id, :destination, 'waiting', :now) ON CONFLICT (id, destination) DO NOTHING"""

_CLOSE = "UPDATE notices SET is_open = 0 WHERE id = :id"

_WATCH = "INSERT INTO state (key, value) VALUES (:key, :now) ON CONFLICT (key) DO NOTHING"

_ENDED = """
SELECT n.id, n.account, d.destination
FROM (SELECT * FROM notices WHERE is_open = 1 AND until_s <= :now ORDER BY until_s LIMIT :limit) AS n
LEFT JOIN notice_deliveries d ON d.id = n.id"""

_FORGET = """
DELETE FROM notices WHERE is_open = 0 AND until_s < :before AND NOT EXISTS
    (SELECT 1 FROM notice_deliveries d WHERE d.id = notices.id AND d.state = 'waiting')"""
_FORGET_DELIVERIES = """
DELETE FROM notice_deliveries WHERE NOT EXISTS
    (SELECT 1 FROM notices n WHERE n.id = notice_deliveries.id)"""

_DUE = f"""
SELECT {NOTICE}, d.attempts FROM notice_deliveries d JOIN notices n ON n.id = d.id
WHERE d.destination = :destination AND d.state = 'waiting' AND d.due_ns <= :now
ORDER BY d.due_ns, n.at_ns, d.id LIMIT :limit"""  # noqa: S608 - our own columns

_COUNT = """
INSERT INTO notice_totals (destination, sent)
SELECT destination, 1 FROM notice_deliveries WHERE id = :id AND destination = :to AND state != 'sent'
ON CONFLICT (destination) DO UPDATE SET sent = notice_totals.sent + 1"""
_SETTLE = """
UPDATE notice_deliveries SET state = :state, due_ns = :due_ns, error = :error, attempts = attempts + 1
WHERE id = :id AND destination = :destination AND state != 'sent'"""

_WAITING = """
SELECT count(*) FROM notice_deliveries WHERE destination = :destination AND state = 'waiting'"""

_GIVE_UP = """
UPDATE notice_deliveries SET state = 'failed', error = :error
WHERE destination = :destination AND state = 'waiting' AND EXISTS
    (SELECT 1 FROM notices n WHERE n.id = notice_deliveries.id AND n.at_ns < :before)"""

_AGAIN = """
WHERE state IN ('waiting', 'failed')
    AND (CAST(:destination AS TEXT) = '' OR destination = :destination)
    AND substr(id, 1, :length) = :prefix"""
_TO_RETRY = f"SELECT count(*) FROM notice_deliveries {_AGAIN}"  # noqa: S608 - our own text
_RETRY = f"UPDATE notice_deliveries SET state = 'waiting', due_ns = :now {_AGAIN}"  # noqa: S608 - as above
_RETRIED = """
INSERT INTO state (key, value) VALUES (:key, 1)
ON CONFLICT (key) DO UPDATE SET value = state.value + 1"""
