"""Reports in SQL. What only one database can answer its own way is left to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from zoneinfo import ZoneInfo

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import EACH, SCOPES, SubjectColumns, covers, subject_parts
from spanledger.ledger.budget_rows import BUDGET_COLUMNS, budget_from_row, select_budgets
from spanledger.ledger.notices import NoticeDelivery, NoticeFigures
from spanledger.ledger.reports import MAX_FOUND, Reports
from spanledger.ledger.rows import (
    OVER,
    CustomerRow,
    EndedAttempt,
    EndedRequest,
    Event,
    HoldRow,
    RawRow,
    SpendRow,
    Totals,
)
from spanledger.ledger.sql.decoding import (
    SELECT_BALANCES,
    balance_from_row,
)
from spanledger.ledger.sql.notice_rows import LISTED_NOTICES, NOTICE_FIGURES, notice_from_row
from spanledger.ledger.sql.port import Sql
from spanledger.ledger.verify import CountedAttempt, WrongRow

NEWEST = 10_000
"""Attempts that are looked at for what is usual."""
EVER_NS = 2**63 - 1
"""After every time."""
_SPEND_COLUMN: dict[str, str] = {
    **{scope.name: scope.column for scope in SCOPES},
    "deployment": "a.deployment",
}


class SqlReports(Reports):
    """`Reports` on one connection, which it closes."""

    lane = "a.lane"
    """The lane of an attempt `a`, as SQL."""
    budget_columns: Sequence[str] = BUDGET_COLUMNS
    spend_columns: Mapping[str, str] = _SPEND_COLUMN
    has_charges = True
    """Attempts have list prices and charges: a file that is only read may have an older schema."""
    has_notices = True
    """There are notices: as above."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def close(self) -> None:
        """See `Reports`."""
        self._sql.close()

    def _snapshot(self) -> AbstractContextManager[None]:
        return self._sql.snapshot()

    # what databases do differently ----------------------------------------------------------

    @abstractmethod
    def _day(self, zone: ZoneInfo) -> str:
        """The day on which an attempt `a` started there, as SQL; may use the parameter `zone`."""

    @abstractmethod
    def _backlog(self) -> tuple[int, int | None]:
        """How many ended rows wait for the shipper, and when the first of them ended."""

    def _sum(self, column: str) -> str:
        """The sum of an amount that is the cost where it is NULL, as SQL."""
        own = f"coalesce(a.{column}, a.cost_nano)" if self.has_charges else "a.cost_nano"
        return f"coalesce(sum({own}), 0)"

    # spend --------------------------------------------------------------------------------

    def _spend(
        self, by: Sequence[str], since_ns: int, until_ns: int | None, zone: ZoneInfo
    ) -> list[SpendRow]:
        columns = [self._day(zone) if name == "day" else self.spend_columns[name] for name in by]
        places = ", ".join(str(number) for number in range(1, len(by) + 1))
        query = (
            f"SELECT {''.join(c + ', ' for c in columns)}"  # noqa: S608 - from a fixed table
            " coalesce(sum(a.cost_nano), 0), count(*),"
            " count(*) FILTER (WHERE a.error_type != ''), coalesce(sum(a.input_tokens), 0),"
            " coalesce(sum(a.output_tokens), 0),"
            " coalesce(sum(CASE WHEN a.estimated != 0 THEN a.cost_nano ELSE 0 END), 0),"
            f" coalesce(sum(a.unpriced), 0), {self._sum('list_nano')}, {self._sum('charge_nano')}"
            " FROM attempts a JOIN requests r USING (request_id)"
            " WHERE a.state != 'held' AND a.started_ns >= :since AND a.started_ns < :until"
            + (f" GROUP BY {places}" if places else "")
        )
        until = EVER_NS if until_ns is None else until_ns
        width = len(columns)
        return [
            SpendRow(tuple(row[:width]), *row[width:])
            for row in self._sql.rows(query, since=since_ns, until=until, zone=zone.key)
        ]

    # requests -----------------------------------------------------------------------------

    def requests(
        self,
        limit: int = 20,
        customer: str | None = None,
        outcome: str | None = None,
        since_ns: int = 0,
    ) -> list[RawRow]:
        """See `Reports`."""
        return self._sql.raw(
            _REQUESTS, since=since_ns, customer=customer, outcome=outcome, limit=limit
        )

    def _requests_with_id(self, prefix: str) -> list[RawRow]:
        return self._sql.raw(_WITH_ID, prefix=prefix, length=len(prefix), limit=MAX_FOUND)

    def _attempts_of(self, request_id: str) -> list[RawRow]:
        query = "SELECT * FROM attempts WHERE request_id = :id ORDER BY number"
        return self._sql.raw(query, id=request_id)

    # activity -----------------------------------------------------------------------------

    def totals(self, since_ns: int = 0) -> Totals:
        """See `Reports`."""
        (requests,) = self._sql.rows(_REQUEST_TOTALS, since=since_ns)
        (attempts,) = self._sql.rows(_ATTEMPT_TOTALS, since=since_ns)
        return Totals(*requests, *attempts)

    def open_rows(self) -> tuple[int, int]:
        """See `Reports`."""
        ((requests, attempts),) = self._sql.rows(_OPEN)
        return requests, attempts

    def by_customer(self, since_ns: int) -> list[CustomerRow]:
        """See `Reports`."""
        return [CustomerRow(*row) for row in self._sql.rows(_BY_CUSTOMER, since=since_ns)]

    def events(self, limit: int, since_ns: int = 0) -> list[Event]:
        """See `Reports`."""
        fallbacks = self._sql.rows(_FALLBACKS, since=since_ns, limit=limit)
        refusals = self._sql.rows(_REFUSALS, since=since_ns, limit=limit)
        found = [Event(*row) for row in (*fallbacks, *refusals)]
        return sorted(found, key=lambda event: -event.at_ns)

    def ended_requests(self, since_ns: int = 0) -> list[EndedRequest]:
        """See `Reports`."""
        return [EndedRequest(*row) for row in self._sql.rows(_ENDED_REQUESTS, since=since_ns)]

    def ended_attempts(self, since_ns: int = 0) -> list[EndedAttempt]:
        """See `Reports`."""
        return [EndedAttempt(*row) for row in self._sql.rows(_ENDED_ATTEMPTS, since=since_ns)]

    # budgets ------------------------------------------------------------------------------

    def _budgets(self) -> list[Budget]:
        rows = self._sql.rows(f"{select_budgets(self.budget_columns)} ORDER BY name")
        return [budget_from_row(row) for row in rows]

    def _accounts(self, key: AccountKey) -> list[Balance]:
        parts = subject_parts(key.scope, key.subject)
        query = _ACCOUNTS if EACH in parts else _ACCOUNT
        found = [balance_from_row(row) for row in self._sql.rows(query, **key._asdict())]
        return [b for b in found if covers(key.scope, key.subject, b.key.subject)]

    def usual_hold(self, **subjects: str) -> int | None:
        """See `Reports`."""
        wanted = "".join(f" AND {self.spend_columns[name]} = :{name}" for name in subjects)
        query = _HELD.format(wanted=wanted)
        ((count, total),) = self._sql.rows(query, newest=NEWEST, **subjects)
        return total // count if count else None

    def holds(
        self, by: Sequence[str], since_ns: int = 0, until_ns: int | None = None
    ) -> list[HoldRow]:
        """See `Reports`."""
        columns = "".join(f"{self.spend_columns[name]}, " for name in by)
        places = ", ".join(str(number) for number in range(1, len(by) + 2))
        until = EVER_NS if until_ns is None else until_ns
        query = _USED.format(columns=columns, places=places, over=OVER)
        found: dict[tuple[str, ...], HoldRow] = {}
        for *group, percent, count, held, cost, overrun in self._sql.rows(
            query, since=since_ns, until=until
        ):
            row = found.setdefault(tuple(group), HoldRow(tuple(group)))
            row.used[percent] = count
            row.attempts += count
            row.held_nano += int(held)
            row.cost_nano += int(cost)
            row.overrun_nano += int(overrun)
        return sorted(found.values(), key=lambda row: (-row.held_nano, row.group))

    # notices ------------------------------------------------------------------------------

    def notices(
        self, limit: int, destination: str | None = None, state: str | None = None
    ) -> list[NoticeDelivery]:
        """See `Reports`."""
        if not self.has_notices:
            return []
        rows = self._sql.rows(LISTED_NOTICES, destination=destination, state=state, limit=limit)
        return [NoticeDelivery(notice_from_row(row), *row[6:]) for row in rows]

    def notice_figures(self) -> list[NoticeFigures]:
        """See `Reports`."""
        if not self.has_notices:
            return []
        found: dict[str, dict[str, int]] = {}
        for query, names in NOTICE_FIGURES:
            for destination, *values in self._sql.rows(query):
                found.setdefault(destination, {}).update(zip(names, values, strict=True))
        empty = {name: 0 for _, names in NOTICE_FIGURES for name in names}
        return [NoticeFigures(name, **(empty | found[name])) for name in sorted(found)]

    # health -------------------------------------------------------------------------------

    def pruned_ns(self) -> int:
        """See `Reports`."""
        rows = self._sql.rows("SELECT value FROM state WHERE key = 'pruned_ns'")
        return int(rows[0][0]) if rows else 0

    def health(self) -> dict[str, int]:
        """See `Reports`."""
        with self._sql.snapshot():
            ((holds, oldest),) = self._sql.rows(_HOLDS)
            rows, waiting = self._backlog()
        return {
            "open_holds": holds,
            "oldest_hold_ns": oldest or 0,
            "outbox_rows": rows,
            "oldest_outbox_ns": waiting or 0,
        }

    # verify -------------------------------------------------------------------------------

    def _balances(self) -> list[Balance]:
        return [balance_from_row(row) for row in self._sql.rows(SELECT_BALANCES)]

    def _counted_attempts(self, columns: SubjectColumns) -> Iterable[CountedAttempt]:
        # An attempt whose request is missing is a problem of its own.
        join = "LEFT JOIN requests r USING (request_id)" if columns.of_request else ""
        return self._sql.each(_COUNTED.format(lane=self.lane, select=columns.select, join=join))

    def _count_requests(self) -> int:
        ((count,),) = self._sql.rows("SELECT count(*) FROM requests")
        return int(count)

    def _wrong_rows(self) -> Iterator[tuple[WrongRow, str]]:
        for kind, query in _WRONG.items():
            if kind == "charge" and not self.has_charges:
                continue
            for (which,) in self._sql.each(query):
                yield kind, which


_REQUESTS = """
SELECT * FROM requests WHERE started_ns >= :since
    AND (CAST(:customer AS TEXT) IS NULL OR customer = :customer)
    AND (CAST(:outcome AS TEXT) IS NULL OR coalesce(outcome, 'running') = :outcome)
ORDER BY started_ns DESC LIMIT :limit"""

_WITH_ID = """
SELECT * FROM requests WHERE substr(request_id, 1, :length) = :prefix
    OR substr(trace_id, 1, :length) = :prefix OR substr(span_id, 1, :length) = :prefix
    OR request_id IN (SELECT request_id FROM attempts WHERE substr(span_id, 1, :length) = :prefix)
ORDER BY started_ns LIMIT :limit"""

_REQUEST_TOTALS = """
SELECT count(*), count(*) FILTER (WHERE outcome IN ('error', 'abandoned')),
    count(*) FILTER (WHERE outcome = 'refused')
FROM requests WHERE started_ns >= :since"""

_ATTEMPT_TOTALS = """
SELECT count(*), count(*) FILTER (WHERE fallback_from != ''), coalesce(sum(cost_nano), 0)
FROM attempts WHERE started_ns >= :since"""

_OPEN = """
SELECT (SELECT count(*) FROM requests WHERE seq IS NULL),
    (SELECT count(*) FROM attempts WHERE state = 'held')"""

_BY_CUSTOMER = """
SELECT customer, count(*), count(*) FILTER (WHERE outcome IN ('error', 'abandoned')),
    count(*) FILTER (WHERE outcome = 'refused'), sum(cost_nano)
FROM requests WHERE started_ns >= :since GROUP BY customer ORDER BY 5 DESC, 2 DESC, 1"""

_FALLBACKS = """
SELECT started_ns, 'fallback', customer,
    fallback_from || ' → ' || deployment || ' (' || reason || ')'
FROM attempts WHERE started_ns >= :since AND fallback_from != ''
ORDER BY started_ns DESC LIMIT :limit"""

_REFUSALS = """
SELECT started_ns, 'refused', customer, 'by budget ' || refused_by
FROM requests WHERE started_ns >= :since AND outcome = 'refused'
ORDER BY started_ns DESC LIMIT :limit"""

_ENDED_REQUESTS = """
SELECT span_id, started_ns, ended_ns, customer, route, outcome, refused_by, cost_nano
FROM requests WHERE started_ns >= :since AND seq IS NOT NULL ORDER BY started_ns"""

_ENDED_ATTEMPTS = """
SELECT span_id, started_ns, ended_ns, first_chunk_ns, customer, provider, deployment, model, state,
    fallback_from, reason, error_type, cost_nano
FROM attempts WHERE started_ns >= :since AND state != 'held' ORDER BY started_ns"""

_ACCOUNTS = f"""{SELECT_BALANCES}
WHERE budget = :budget AND scope = :scope AND period = :period AND timezone = :timezone
    AND period_start_s = :period_start_s"""
_ACCOUNT = f"{_ACCOUNTS} AND subject = :subject"

_HELD = """
SELECT count(*), coalesce(sum(hold_nano), 0)
FROM (SELECT * FROM attempts ORDER BY started_ns DESC LIMIT :newest) a
JOIN requests r ON r.request_id = a.request_id WHERE a.hold_nano > 0{wanted}"""

_USED = """
SELECT {columns}CASE WHEN a.cost_nano > a.hold_nano THEN {over}
        ELSE (a.cost_nano * 100 + a.hold_nano - 1) / a.hold_nano END,
    count(*), sum(a.hold_nano), sum(a.cost_nano),
    sum(CASE WHEN a.cost_nano > a.hold_nano THEN a.cost_nano - a.hold_nano ELSE 0 END)
FROM attempts a JOIN requests r USING (request_id)
WHERE a.state = 'settled' AND a.hold_nano > 0 AND a.started_ns >= :since AND a.started_ns < :until
GROUP BY {places}"""

_HOLDS = "SELECT count(*), min(started_ns) FROM attempts WHERE state = 'held'"

_COUNTED = """
SELECT a.state, a.hold_nano, a.cost_nano, a.overrun_nano, a.accounts, {lane}, a.seq, a.started_ns,
    {select}
FROM attempts a {join}"""

_WRONG: dict[WrongRow, str] = {
    "total": """
SELECT request_id FROM requests r WHERE seq IS NOT NULL AND cost_nano !=
    (SELECT coalesce(sum(cost_nano), 0) FROM attempts a WHERE a.request_id = r.request_id)""",
    "place": """
SELECT request_id || '.' || number FROM attempts WHERE (state = 'held') != (seq IS NULL)""",
    "cost": """
SELECT request_id || '.' || number FROM attempts
WHERE (state IN ('released', 'held') AND cost_nano != 0) OR cost_nano < 0""",
    "charge": """
SELECT request_id || '.' || number FROM attempts
WHERE charge_nano < 0 OR (state != 'held' AND (charge_rule = '') != (charge_nano IS NULL))""",
    "orphan": """
SELECT a.request_id || '.' || number FROM attempts a LEFT JOIN requests r USING (request_id)
WHERE r.request_id IS NULL""",
}
