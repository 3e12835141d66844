"""What people ask a ledger: spend, requests, one trace, current budgets, and whether it adds up.

Read-only, each answer from one snapshot. Money is nano-USD; the commands format it.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from spanledger.budgets.accounts import AccountKey, Balance
from spanledger.budgets.limits import key_before, limit_at
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget, BudgetState
from spanledger.budgets.periods import Period, shown_period
from spanledger.budgets.scopes import SubjectColumns, columns_for, tags_in
from spanledger.errors import UsageError
from spanledger.ledger.model import Verification
from spanledger.ledger.notices import NoticeDelivery, NoticeFigures
from spanledger.ledger.rows import (
    CustomerRow,
    EndedAttempt,
    EndedRequest,
    Event,
    HoldRow,
    RawRow,
    SpendRow,
    Totals,
)
from spanledger.ledger.verify import (
    WRONG_ROWS,
    CountedAttempt,
    Openings,
    WrongRow,
    check_balances,
)

MIN_ID_CHARS = 6
MAX_FOUND = 1_000
"""Most requests that a trace shows."""
COUNTED_ROWS = 1_000
"""Most unshipped rows of each kind that are counted exactly."""


class Reports(ABC):
    """Reads a ledger on one connection. Every method may raise LedgerUnavailableError."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _snapshot(self) -> AbstractContextManager[None]:
        """While it is open, all queries see one state."""

    # spend --------------------------------------------------------------------------------

    def spend(
        self,
        by: Sequence[str],
        since_ns: int = 0,
        until_ns: int | None = None,
        timezone: str = "UTC",
    ) -> list[SpendRow]:
        """Cost of attempts started in `[since, until)`, the most expensive group first.

        By tag, an attempt counts in the group of each of its tags.
        """
        rows = self._spend(by, since_ns, until_ns, ZoneInfo(timezone))
        if "tag" in by:
            rows = _by_each_tag(rows, list(by).index("tag"))
        if "day" in by:
            return sorted(rows, key=lambda r: (r.group[list(by).index("day")], -r.cost_nano))
        return sorted(rows, key=lambda r: (-r.cost_nano, r.group))

    @abstractmethod
    def _spend(
        self, by: Sequence[str], since_ns: int, until_ns: int | None, zone: ZoneInfo
    ) -> list[SpendRow]:
        """See `spend`, in any order; by tag, each group has all tags of its attempts (`tags_text`)."""

    # requests -----------------------------------------------------------------------------

    @abstractmethod
    def requests(
        self,
        limit: int = 20,
        customer: str | None = None,
        outcome: str | None = None,
        since_ns: int = 0,
    ) -> list[RawRow]:
        """The newest requests as rows of the table, newest first."""

    def trace(self, some_id: str) -> list[tuple[RawRow, list[RawRow]]]:
        """Requests found by a trace, request or span id, each with its attempts in order.

        A prefix of an id is enough if it belongs to only one trace.

        Raises:
            UsageError: the prefix is too short, or belongs to several traces.
        """
        if len(some_id) < MIN_ID_CHARS:
            raise UsageError(f"{some_id!r} is too short; give {MIN_ID_CHARS} characters or more")
        with self._snapshot():
            requests = self._requests_with_id(some_id)
            if len({request["trace_id"] for request in requests}) > 1:
                raise UsageError(f"several traces begin with {some_id!r}; give more characters")
            return [(request, self._attempts_of(request["request_id"])) for request in requests]

    @abstractmethod
    def _requests_with_id(self, prefix: str) -> list[RawRow]:
        """Requests with an id, or an attempt with one, that begins so; oldest first."""

    @abstractmethod
    def _attempts_of(self, request_id: str) -> list[RawRow]:
        """A request's attempts, in order."""

    # activity -----------------------------------------------------------------------------

    @abstractmethod
    def totals(self, since_ns: int = 0) -> Totals:
        """Counts of requests and attempts that started since then."""

    @abstractmethod
    def open_rows(self) -> tuple[int, int]:
        """Requests in flight, and attempts that have not ended."""

    @abstractmethod
    def by_customer(self, since_ns: int) -> list[CustomerRow]:
        """Customers of requests that started since then, the most expensive first."""

    @abstractmethod
    def events(self, limit: int, since_ns: int = 0) -> list[Event]:
        """The newest fallbacks and the newest refusals, at most `limit` of each, newest first."""

    @abstractmethod
    def ended_requests(self, since_ns: int = 0) -> list[EndedRequest]:
        """Requests that started since then and have ended, oldest first."""

    @abstractmethod
    def ended_attempts(self, since_ns: int = 0) -> list[EndedAttempt]:
        """Attempts that started since then and have ended, oldest first."""

    # budgets ------------------------------------------------------------------------------

    def budget_states(self, now_s: int) -> list[BudgetState]:
        """Every account that budgets limit in the period of `now_s`, by budget and subject.

        A budget of a named subject without spend yet shows zeros.
        """
        with self._snapshot():
            budgets = self._budgets()
            return self._states_of(budgets, BudgetIndex(budgets), now_s)

    def states_of(
        self, budgets: Iterable[Budget], index: BudgetIndex, now_s: int
    ) -> list[BudgetState]:
        """The same of some budgets; the index has all of them."""
        with self._snapshot():
            return self._states_of(budgets, index, now_s)

    def _states_of(
        self, budgets: Iterable[Budget], index: BudgetIndex, now_s: int
    ) -> list[BudgetState]:
        states = []
        for budget in budgets:
            period = shown_period(budget.period, budget.timezone, now_s)
            key = AccountKey.of(budget, budget.subject, period.start_s)
            found = self._accounts(key) or [Balance(key, period.end_s)]
            if budget.default:
                found = [b for b in found if not index.replacing(budget, b.key.subject, now_s)]
            states += self._states(budget, found, key, period, now_s)
        return states

    def account_states(
        self, accounts: Sequence[tuple[Budget, str]], now_s: int
    ) -> list[BudgetState]:
        """These accounts, each by its budget and subject, in the period of `now_s`; with zeros where
        nothing was counted."""
        states = []
        with self._snapshot():
            for budget, subject in accounts:
                period = shown_period(budget.period, budget.timezone, now_s)
                key = AccountKey.of(budget, subject, period.start_s)
                [balance] = self._accounts(key) or [Balance(key, period.end_s)]
                states += self._states(budget, [balance], key, period, now_s)
        return states

    def _states(
        self,
        budget: Budget,
        balances: Sequence[Balance],
        key: AccountKey,
        period: Period,
        now_s: int,
    ) -> list[BudgetState]:
        """A budget's accounts as of now."""
        before: dict[str, Balance] = {}
        if earlier := key_before(budget, key):  # whose rest rolls over
            before = {balance.key.subject: balance for balance in self._accounts(earlier)}
        return [
            BudgetState(
                budget,
                balance.key.subject,
                balance.spent_nano,
                balance.held_nano,
                balance.overrun_nano,
                period.start_s,
                period.end_s,
                limit_at(balance.key, budget, now_s, before.get(balance.key.subject)),
            )
            for balance in balances
        ]

    @abstractmethod
    def usual_hold(self, **subjects: str) -> int | None:
        """The mean hold of the latest attempts with these subjects, by scope, nano-USD; None if there
        is none among the newest."""

    @abstractmethod
    def holds(
        self, by: Sequence[str], since_ns: int = 0, until_ns: int | None = None
    ) -> list[HoldRow]:
        """What was held for attempts started in `[since, until)` that were charged by what they used, the
        largest sum first. `by` has scopes, `deployment` or both, but not `tag`."""

    @abstractmethod
    def _budgets(self) -> list[Budget]:
        """All budgets, by name."""

    @abstractmethod
    def _accounts(self, key: AccountKey) -> list[Balance]:
        """The accounts that a budget with this subject counts, by subject."""

    # notices ------------------------------------------------------------------------------

    @abstractmethod
    def notices(
        self, limit: int, destination: str | None = None, state: str | None = None
    ) -> list[NoticeDelivery]:
        """The newest notices with their deliveries, newest first."""

    @abstractmethod
    def notice_figures(self) -> list[NoticeFigures]:
        """The figures of each destination that ever got or awaited anything."""

    # health -------------------------------------------------------------------------------

    @abstractmethod
    def pruned_ns(self) -> int:
        """Requests that ended before this were pruned, Unix nanoseconds; 0 if none were."""

    @abstractmethod
    def health(self) -> dict[str, int]:
        """Figures for `/metrics`: open holds, the oldest one's start, rows not shipped yet.

        A long backlog is not counted in full, because a scrape must not cost more when things are
        worse: beyond `COUNTED_ROWS` the count is estimated from the rows' sequence numbers. That
        includes numbers of repeated ends, about one in thousands.
        """

    # verify -------------------------------------------------------------------------------

    def verify(self) -> Verification:
        """Recompute every balance and every total from the attempt rows."""
        found = Verification()
        with self._snapshot():
            found.problems += self._damage()
            balances = self._balances()
            attempts = self._counted_attempts(columns_for({b.key.scope for b in balances}))
            check_balances(balances, attempts, self._openings(), self.pruned_ns(), found)
            found.requests = self._count_requests()
            found.problems += [WRONG_ROWS[kind].format(which) for kind, which in self._wrong_rows()]
        return found

    @abstractmethod
    def _damage(self) -> list[str]:
        """What the database itself finds wrong with its files."""

    @abstractmethod
    def _balances(self) -> list[Balance]: ...

    @abstractmethod
    def _counted_attempts(self, columns: SubjectColumns) -> Iterable[CountedAttempt]: ...

    @abstractmethod
    def _openings(self) -> Openings: ...

    @abstractmethod
    def _count_requests(self) -> int: ...

    @abstractmethod
    def _wrong_rows(self) -> Iterable[tuple[WrongRow, str]]:
        """Rows that contradict themselves or each other, with their ids."""


def _by_each_tag(rows: Sequence[SpendRow], place: int) -> list[SpendRow]:
    """Groups of a single tag, of groups that have several at a place."""
    found: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        before, tags, after = row.group[:place], row.group[place], row.group[place + 1 :]
        for tag in tags_in(tags) or [""]:
            sums = found.setdefault((*before, tag, *after), [0] * 7)
            sums[:] = map(operator.add, sums, row.figures)
    return [SpendRow(group, *sums) for group, sums in found.items()]
