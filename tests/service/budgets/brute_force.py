"""Which budgets apply to an attempt, found by looking at every budget: too simple to be wrong.

It shares nothing with the index but the budgets themselves: subjects are read from a budget by a
regular expression, and one account is compared with another by its subjects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain

from spanledger.budgets.model import Budget
from spanledger.budgets.periods import period_at

Attempt = Mapping[str, str | tuple[str, ...]]
"""Its subjects by scope; of tags all."""
Subjects = Mapping[str, str]
_PART = re.compile(r"(?:[^,\\]|\\.)*", re.DOTALL)


def subjects_of(budget: Budget) -> dict[str, str]:
    """What a budget names, by scope."""
    names = [] if budget.scope == "global" else budget.scope.split(",")
    if len(names) < 2:
        return dict.fromkeys(names, budget.subject)
    parts, at = [], 0
    for _ in names:
        found = _PART.match(budget.subject, at)
        assert found is not None
        parts.append(re.sub(r"\\(.)", r"\1", found[0], flags=re.DOTALL))
        at = found.end() + 1
    assert at == len(budget.subject) + 1
    return dict(zip(names, parts, strict=True))


def account_text(subjects: Iterable[str]) -> str:
    """The subject of an account, as stored."""
    parts = list(subjects)
    if len(parts) < 2:
        return parts[0] if parts else "*"
    return ",".join(re.sub(r"([\\,])", r"\\\1", part) for part in parts)


def counted(budget: Budget, attempt: Attempt) -> list[Subjects]:
    """The subjects of all accounts of a budget that count an attempt."""
    wanted = subjects_of(budget)
    tags = attempt.get("tag", ())
    found: list[Subjects] = []
    for tag in tags if "tag" in wanted else ("",):
        has = {**attempt, "tag": tag}
        if all(has.get(name) and part in ("*", has[name]) for name, part in wanted.items()):
            found.append({name: str(has[name]) for name in wanted})
    return found


def replaced(budget: Budget, subjects: Subjects, budgets: Iterable[Budget], at_s: int) -> bool:
    """Whether another budget limits these subjects in the place of a default one."""
    return budget.default and any(
        other.scope == budget.scope
        and (budget.action == "warn" or other.action != "warn")
        and _names_more(subjects_of(other), subjects_of(budget))
        and all(part in ("*", subjects[name]) for name, part in subjects_of(other).items())
        and period_at(other.period, other.timezone, at_s).counts
        for other in budgets
    )


def _names_more(other: Subjects, than: Subjects) -> bool:
    """Whether a budget names whatever another one names, and something else."""
    names = {name for name, part in other.items() if part != "*"}
    return names > {name for name, part in than.items() if part != "*"}


def accounts(
    budgets: Iterable[Budget], attempt: Attempt, at_s: int
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """All accounts that count an attempt, by budget and subject, and those of them that limit it."""
    budgets = list(budgets)
    counting = [b for b in budgets if period_at(b.period, b.timezone, at_s).counts]
    every = list(chain.from_iterable(((b, s) for s in counted(b, attempt)) for b in counting))
    limiting = [(b, s) for b, s in every if not replaced(b, s, budgets, at_s)]
    return _named(every), _named(limiting)


def _named(found: Iterable[tuple[Budget, Subjects]]) -> set[tuple[str, str]]:
    return {(budget.name, account_text(subjects.values())) for budget, subjects in found}
