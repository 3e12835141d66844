"""Why a budget applies to a request or not, in words: one look at every budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spanledger.budgets.matching import BudgetIndex
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import FOREVER_S
from spanledger.budgets.scopes import EACH, SCOPES, Dimensions, subjects_by_scope

Subjects = Mapping[str, str | tuple[str, ...]]
"""Of a request, by scope; what is not known of it is missing or empty."""


class Applying(NamedTuple):
    """A budget that counts a request.

    Attributes:
        subject: of its account.
        instead: the budget that limits in its place, if it is a default.
    """

    budget: Budget
    subject: str
    instead: Budget | None


class Other(NamedTuple):
    """A budget that does not, and why."""

    budget: Budget
    why: str


class Explanation(NamedTuple):
    """All budgets, as a request sees them."""

    applying: list[Applying]
    others: list[Other]


def explain(budgets: Iterable[Budget], subjects: Subjects, at_s: int) -> Explanation:
    """Which budgets count a request with these subjects at a time, and why the others do not."""
    index = BudgetIndex(budgets)
    dimensions: Dimensions = tuple(
        subjects.get(scope.name, () if scope.several else "") for scope in SCOPES
    )
    applying, counted = [], set()
    for budget, subject in index.match(dimensions):
        if index.period(budget, at_s).counts:
            applying.append(Applying(budget, subject, index.replacing(budget, subject, at_s)))
            counted.add(budget.name)
    others = [
        Other(budget, _why_not(budget, subjects, index.period(budget, at_s).end_s))
        for budget in index.by_name.values()
        if budget.name not in counted
    ]
    return Explanation(applying, others)


def _why_not(budget: Budget, subjects: Subjects, end_s: int) -> str:
    for name, wanted in subjects_by_scope(budget.scope, budget.subject).items():
        has = subjects.get(name)
        if not has:
            each = "any" if wanted == EACH else repr(wanted)
            return f"it is for {each} as {name}, and none is given (--{name})"
        if wanted != EACH and wanted not in ((has,) if isinstance(has, str) else has):
            given = repr(has) if isinstance(has, str) else ", ".join(map(repr, has))
            return f"it is for {name} {wanted!r}, not {given}"
    if end_s >= FOREVER_S:
        return "its time is over"
    begins = datetime.fromtimestamp(end_s, ZoneInfo(budget.timezone))
    return f"it limits nothing before {begins:%Y-%m-%d %H:%M} ({budget.timezone})"
