"""Finds what people are to be told: which accounts have reached a step of their limit.

Balances are not looked through. An attempt's row says which accounts it changed and what it cost, so an
account is read again only when its rows since then may have brought it to its next step. What no row tells
of (limits that change, raises that end, periods that begin, forecasts) is found by a sweep over all budgets, a few at
a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from spanledger.budgets.accounts import AccountKey, account_keys
from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget, BudgetState
from spanledger.budgets.periods import period_at, renewal
from spanledger.budgets.scopes import (
    SCOPE_NAMES,
    covers,
    subject_text,
    subjects_by_scope,
    subjects_in,
)
from spanledger.budgets.steps import reached, runs_out_at, steps_of, until_next
from spanledger.clock import NANOS
from spanledger.config.notices import FORECAST, RENEWED, AnyDestination
from spanledger.ledger.lanes import START, Position
from spanledger.ledger.notices import NewNotice, Notice, NoticeBook, Refused
from spanledger.money import MAX_NANO
from spanledger.notices.facts import account_of, notice_of, set_limit

log = logging.getLogger("spanledger.notices")

ROWS_AT_ONCE = 5_000
"""Of each lane, in one round."""
BUDGETS_AT_ONCE = 500
"""In one round of the sweep."""
ENDED_AT_ONCE = 500
SWEEP_S = 60
"""From the beginning of a sweep to the next one's."""
BUDGETS_S = 2
"""Between two looks for budgets that have changed."""
FORECAST_FOR_S = 30 * 60
"""How long a forecast must hold before it is told."""
FORGET_S = 30 * 86_400
"""How long notices are kept after their period has ended."""
REMEMBERED_ACCOUNTS = 200_000
"""Accounts of which it is remembered what was told and how far the next step is; then all are forgotten,
and read again."""
FORGET_EVERY_S = 3_600


class Watcher:
    """Finds notices in one ledger and records them; used by one thread.

    Args:
        destinations: who gets which notices.
    """

    def __init__(self, book: NoticeBook, destinations: Sequence[AnyDestination]) -> None:
        self._book = book
        self._destinations = destinations
        named = {step for d in destinations for step in d.steps or ()}
        self._more = sorted(int(step) for step in named if step.isdecimal())
        self._ledger_id = book.ledger_id()
        self._index = BudgetIndex(())
        self._last_change = 0
        self._budgets_at_s = 0
        self._position: Position = START
        self._left: dict[AccountKey, int] = {}
        self._told: dict[AccountKey, tuple[int, frozenset[str]]] = {}
        self._course: dict[AccountKey, int] = {}
        self._scanned: dict[str, int] = {}
        self._sweep: list[str] = []
        self._sweep_at_s = 0
        self._forgot_at_s = 0
        self._new_steps: frozenset[str] = frozenset()

    def begin(self, now_ns: int) -> None:
        """Look at all budgets once. Steps that were never watched before are only remembered where
        they have been reached: nobody gets notices of the past."""
        self._position = self._book.ends()
        self._read_budgets(now_ns)
        watched = ["accounts", *map(str, self._more)]
        new = [step for step in watched if not self._book.watched_since(step)]
        self._new_steps = frozenset(new)
        self._warn_of_unknown()
        self._start_sweep(now_ns)
        while self._sweep_some(now_ns):
            pass
        self._book.record((), now_ns, watched=new)
        self._new_steps = frozenset()

    def look(self, now_ns: int) -> bool:
        """Find what has happened since the last time; returns whether there is more to read at once."""
        now_s = now_ns // NANOS
        changed: list[Budget] = []
        if now_s - self._budgets_at_s >= BUDGETS_S or now_s < self._budgets_at_s:
            changed = self._read_budgets(now_ns)
        more = self._read_traffic(now_ns)
        if changed:
            self._tell(self._book.reports.states_of(changed, self._index, now_s), now_ns)
        if now_s - self._sweep_at_s >= SWEEP_S or now_s < self._sweep_at_s:
            self._start_sweep(now_ns)
        self._sweep_some(now_ns)
        return more

    # what has happened --------------------------------------------------------------------

    def _read_budgets(self, now_ns: int) -> list[Budget]:
        """Budgets that have changed; all, the first time."""
        self._budgets_at_s = now_ns // NANOS
        news = self._book.budget_news(self._last_change)
        if news.last == self._last_change and self._last_change:
            return []
        first, self._last_change = not self._last_change, news.last
        if news.names is None:
            self._index = BudgetIndex(news.budgets)
        else:
            self._index = self._index.with_changes(news.names, news.budgets)
        self._left.clear()
        return [] if first else list(news.budgets)

    def _read_traffic(self, now_ns: int) -> bool:
        traffic = self._book.traffic(self._position, ROWS_AT_ONCE)
        now_s = now_ns // NANOS
        near: dict[AccountKey, Budget] = {}
        for text, cost in traffic.spent:
            for key in _keys(text):
                left = self._left.get(key, 0) - cost
                if left > 0:
                    self._left[key] = left
                elif budget := self._index.limiting(key):
                    near[key] = budget
        # One account may have rows of two periods; only the present one counts.
        accounts = dict.fromkeys((budget, key.subject) for key, budget in near.items())
        self._tell(self._book.reports.account_states(list(accounts), now_s), now_ns)
        for refusal in traffic.refused:
            self._tell(self._refusing(refusal, now_s), now_ns, refused=True)
        self._position = traffic.upto
        return traffic.more

    def _refusing(self, refusal: Refused, now_s: int) -> list[BudgetState]:
        """The accounts that a budget may have refused a request for."""
        budget = self._index.by_name.get(refusal.budget)
        if budget is None:
            return []
        place = budget.scope.split(",")
        unknown = {"model", "provider"} & set(place)
        if not unknown:
            subjects = [subject_text(p) for p in subjects_in(budget.scope, refusal.dimensions)]
            accounts = [(budget, s) for s in subjects if covers(budget.scope, budget.subject, s)]
            return self._book.reports.account_states(accounts, now_s)
        if now_s - self._scanned.get(budget.name, 0) < SWEEP_S:
            return []
        self._scanned[budget.name] = now_s
        known = {
            name: refusal.dimensions[SCOPE_NAMES.index(name)]
            for name in place
            if name not in unknown
        }
        states = self._book.reports.states_of([budget], self._index, now_s)
        return [state for state in states if _agrees(state, known)]

    # sweeps -------------------------------------------------------------------------------

    def _start_sweep(self, now_ns: int) -> None:
        """Begin again, unless the last one is still under way."""
        if self._sweep:
            return
        now_s = now_ns // NANOS
        self._sweep_at_s = now_s
        self._sweep = sorted(self._index.by_name, reverse=True)
        self._renew(now_ns)
        if not 0 <= now_s - self._forgot_at_s < FORGET_EVERY_S:
            self._forgot_at_s = now_s
            self._book.forget(now_s - FORGET_S)

    def _sweep_some(self, now_ns: int) -> bool:
        """Look at some more budgets; returns whether any was left."""
        names = self._sweep[-BUDGETS_AT_ONCE:]
        if not names:
            return False
        del self._sweep[-BUDGETS_AT_ONCE:]
        budgets = [b for name in names if (b := self._index.by_name.get(name))]
        states = self._book.reports.states_of(budgets, self._index, now_ns // NANOS)
        self._tell(states, now_ns, forecasts=True)
        return True

    def _renew(self, now_ns: int) -> None:
        """Tell of new periods those who got notices of the one before."""
        now_s = now_ns // NANOS
        while ended := self._book.ended(now_s, ENDED_AT_ONCE):
            found: list[NewNotice] = []
            for account, _, told in ended:
                state = self._renewed(account, now_s)
                if state is not None:
                    names = [n for n in self._wanting(state.budget, RENEWED) if n in told]
                    found.append(
                        NewNotice(notice_of(self._ledger_id, state, RENEWED, now_ns), names)
                    )
            closed = [id_ for each in ended for id_ in each.ids]
            self._book.record([f for f in found if f.destinations], now_ns, closed=closed)

    def _renewed(self, account: AccountKey, now_s: int) -> BudgetState | None:
        """The account in its present period, if one follows that of an old one."""
        budget = self._index.limiting(account)
        if budget is None:
            return None
        period = period_at(account.period, account.timezone, account.period_start_s)
        if renewal(account.period, account.timezone, period.end_s) != "renews":
            return None
        [state] = self._book.reports.account_states([(budget, account.subject)], now_s)
        return state if state.counts_at(now_s) else None

    # what is told -------------------------------------------------------------------------

    def _tell(
        self,
        states: Iterable[BudgetState],
        now_ns: int,
        *,
        refused: bool = False,
        forecasts: bool = False,
    ) -> None:
        """Record what is new about accounts."""
        if len(self._told) > REMEMBERED_ACCOUNTS or len(self._left) > REMEMBERED_ACCOUNTS:
            self._told.clear()
            self._left.clear()
        now_s = now_ns // NANOS
        maybe: list[tuple[BudgetState, list[Notice]]] = []
        for state in states:
            if state.counts_at(now_s):
                steps = self._steps(state, now_s, refused=refused, forecasts=forecasts)
                if steps:
                    maybe.append((state, self._notices(state, steps, now_ns, refused=refused)))
        if not maybe:
            return
        known = self._book.known([notice.id for _, notices in maybe for notice in notices])
        found: list[NewNotice] = []
        for state, notices in maybe:
            found += self._addressed(state.budget, [n for n in notices if n.id not in known])
        if found:
            self._book.record(found, now_ns)
        for state, notices in maybe:
            self._remember(state, {notice.step for notice in notices})

    def _steps(
        self, state: BudgetState, now_s: int, *, refused: bool, forecasts: bool
    ) -> dict[str, int | None]:
        """The steps that an account has reached and that are not known to be told: with the moment at
        which it will run out, for a forecast."""
        account, steps = account_of(state), steps_of(state.budget, self._more)
        if not forecasts or account in self._left:  # a sweep sees many that nobody uses
            left = until_next(state, steps)
            self._left[account] = MAX_NANO if left is None else left
        limit, told = self._told.get(account, (0, frozenset()))
        if limit != set_limit(state):
            told = frozenset()
        found: dict[str, int | None] = {
            str(step): None
            for step in reached(state, steps, refused=refused)
            if str(step) not in told
        }
        if forecasts and (at_s := self._runs_out(account, state, now_s)) and FORECAST not in told:
            found[FORECAST] = at_s
        return found

    def _notices(
        self, state: BudgetState, steps: Mapping[str, int | None], now_ns: int, *, refused: bool
    ) -> list[Notice]:
        """Notices of one account, the lowest percentage first."""
        return [
            notice_of(self._ledger_id, state, step, now_ns, runs_out_s=at_s, refused=refused)
            for step, at_s in steps.items()
        ]

    def _runs_out(self, account: AccountKey, state: BudgetState, now_s: int) -> int | None:
        """When an account runs out, if that has been foreseen for long enough."""
        at_s = runs_out_at(state, now_s)
        if at_s is None:
            self._course.pop(account, None)
            return None
        if len(self._course) > REMEMBERED_ACCOUNTS:
            self._course.clear()
        since_s = self._course.setdefault(account, now_s)
        return at_s if now_s - since_s >= FORECAST_FOR_S else None

    def _addressed(self, budget: Budget, notices: Sequence[Notice]) -> list[NewNotice]:
        """New notices of one account, and where they go. Of several percentages that were reached at
        once, each destination gets the highest one that it asks for."""
        to: dict[str, list[str]] = {notice.id: [] for notice in notices}
        for destination in self._destinations:
            wanted = [
                notice
                for notice in notices
                if self._is_told(notice.step) and wants(destination, budget, notice.step)
            ]
            percents = [n for n in wanted if n.step.isdecimal()]
            others = [n for n in wanted if not n.step.isdecimal()]
            for notice in (*percents[-1:], *others):
                to[notice.id].append(destination.name)
        return [NewNotice(notice, to[notice.id]) for notice in notices]

    def _is_told(self, step: str) -> bool:
        return step not in self._new_steps and "accounts" not in self._new_steps

    def _remember(self, state: BudgetState, steps: set[str]) -> None:
        account, limit = account_of(state), set_limit(state)
        before, told = self._told.get(account, (limit, frozenset()))
        self._told[account] = limit, (told if before == limit else frozenset()) | steps

    def _wanting(self, budget: Budget, step: str) -> list[str]:
        return [d.name for d in self._destinations if wants(d, budget, step)]

    def _warn_of_unknown(self) -> None:
        for destination in self._destinations:
            for name in destination.budgets:
                if name not in self._index.by_name:
                    log.warning("destination %r: there is no budget %r yet", destination.name, name)


def wants(destination: AnyDestination, budget: Budget, step: str) -> bool:
    """Whether a destination gets notices of a step of a budget."""
    if destination.budgets and budget.name not in destination.budgets:
        return False
    if destination.scopes and budget.scope not in destination.scopes:
        return False
    if destination.steps is not None:
        return step in destination.steps
    return not step.isdecimal() or int(step) in steps_of(budget)


def _agrees(state: BudgetState, known: Mapping[str, str | tuple[str, ...]]) -> bool:
    """Whether an account has these subjects, or one of them where there are several."""
    subjects = subjects_by_scope(state.budget.scope, state.subject)
    return all(
        subjects[name] in (value if isinstance(value, tuple) else (value,))
        for name, value in known.items()
    )


@lru_cache(maxsize=20_000)
def _keys(text: str) -> tuple[AccountKey, ...]:
    return account_keys(text)
