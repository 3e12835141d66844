"""How two budgets differ, field by field: one format for commands, logs and JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from spanledger.budgets.model import Budget, BudgetChange
from spanledger.budgets.periods import every, parts_of
from spanledger.budgets.scopes import subjects_by_scope
from spanledger.money import format_usd


def whose(budget: Budget) -> str:
    """Whom a budget limits, as text."""
    return whom(budget.scope, budget.subject)


def whom(scope: str, subject: str) -> str:
    """A subject of a budget or an account as text."""
    subjects = subjects_by_scope(scope, subject)
    return " and ".join(f"{name} {part}" for name, part in subjects.items()) or "everybody"


def as_dict(budget: Budget) -> dict[str, Any]:
    """A budget as JSON. Its period has the fields of a file; null are those that its kind lacks."""
    zone = budget.timezone
    return {
        "name": budget.name,
        "scope": budget.scope,
        "subject": budget.subject,
        "subjects": subjects_by_scope(budget.scope, budget.subject),
        "default": budget.default,
        "limit_usd": format_usd(budget.limit_nano),
        **{name: part or None for name, part in parts_of(budget.period)._asdict().items()},
        "timezone": budget.timezone,
        "rollover": budget.rolls_over,
        "rollover_cap": cap_text(budget) if budget.rolls_over else None,
        "action": budget.action,
        "grace_usd": format_usd(budget.grace_nano),
        "throttle_to": budget.throttle_to or None,
        "throttle_at": budget.throttle_at if budget.throttle_to else None,
        "degrade_to": budget.degrade_to or None,
        "degrade_at": budget.degrade_at if budget.degrade_to else None,
        "thresholds": list(budget.thresholds),
        "strict": budget.strict,
        "on_ledger_down_allow_usd": format_usd(budget.allow_when_down_nano),
        "earlier_limits": [
            {"until": moment_text(until_s, zone), "limit_usd": format_usd(nano)}
            for until_s, nano in budget.noted.earlier
        ],
        "raises": [
            {
                "usd": format_usd(r.nano),
                "from": moment_text(r.from_s, zone),
                "until": moment_text(r.until_s, zone),
            }
            for r in budget.noted.raises
        ],
    }


def cap_text(budget: Budget) -> str:
    """The most that rolls over, as people write it."""
    percent = budget.rollover_percent
    return f"{percent}%" if percent else format_usd(budget.rollover_nano)


def moment_text(at_s: int, timezone: str) -> str:
    """A moment as the clocks of a zone show it."""
    return datetime.fromtimestamp(at_s, ZoneInfo(timezone)).isoformat()


def allowance(budget: Budget) -> str:
    """How much a budget allows, and when again."""
    return f"${format_usd(budget.limit_nano)} {every(budget.period)} ({budget.timezone})"


def summary(budget: Budget) -> str:
    """A budget in one phrase."""
    first = "by default, " if budget.default else ""
    does = ", ".join([budget.action, *besides(budget)])
    return f"{first}{whose(budget)} {allowance(budget)}, {does}"


def besides(budget: Budget) -> list[str]:
    """What a budget does besides its action, in phrases."""
    found = ["strict"] if budget.strict else []
    if budget.rolls_over:
        found.append(f"rolls over up to {_cap_words(budget)}")
    if budget.grace_nano:
        found.append(f"${format_usd(budget.grace_nano)} grace")
    if budget.throttle_to:
        found.append(f"{budget.throttle_to} requests a minute from {budget.throttle_at} %")
    if budget.degrade_to:
        found.append(f"route {budget.degrade_to!r} from {budget.degrade_at} %")
    if budget.allow_when_down_nano:
        found.append(f"${format_usd(budget.allow_when_down_nano)} while the ledger is down")
    return found


def _cap_words(budget: Budget) -> str:
    return f"${cap_text(budget)}" if budget.rollover_nano else cap_text(budget)


class FieldChange(NamedTuple):
    """One changed field, by its JSON name, with both values."""

    field: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """The change as text."""
        name = self.field.removesuffix("_usd")
        return f"{name} {_shown(self.field, self.before)} → {_shown(self.field, self.after)}"


def field_changes(before: Budget, after: Budget) -> list[FieldChange]:
    """The fields in which two budgets of one name differ."""
    old, new = as_dict(before), as_dict(after)
    return [FieldChange(name, old[name], new[name]) for name in old if old[name] != new[name]]


def changes_text(changes: Sequence[FieldChange]) -> str:
    """All changes on one line."""
    return ", ".join(change.text for change in changes)


def with_before(
    history: Iterable[BudgetChange],
) -> Iterator[tuple[BudgetChange, Budget | None]]:
    """Each change of a history, oldest first, with the budget before it; None if it is new."""
    current: dict[str, Budget] = {}
    for change in history:
        name = change.budget.name
        yield change, current.pop(name, None)
        if change.change == "set":
            current[name] = change.budget


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change to one budget."""

    name: str
    kind: Literal["create", "change", "remove"]
    budget: Budget
    """The new budget, or the removed one."""
    fields: tuple[FieldChange, ...] = ()

    @property
    def text(self) -> str:
        """A line of a diff."""
        if self.kind == "change":
            return f"~ {self.name}: {changes_text(self.fields)}"
        return f"{'+' if self.kind == 'create' else '-'} {self.name}: {summary(self.budget)}"

    @property
    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "name": self.name,
            "change": self.kind,
            "fields": [
                {"field": f.field, "before": f.before, "after": f.after} for f in self.fields
            ],
            "budget": as_dict(self.budget),
        }


def plan(current: Mapping[str, Budget], wanted: Sequence[Budget], *, prune: bool) -> list[Change]:
    """The changes needed to reach the wanted budgets; with `prune`, all others are removed."""
    changes = []
    for budget in wanted:
        before = current.get(budget.name)
        if before is None:
            changes.append(Change(budget.name, "create", budget))
        elif before.written != budget:
            fields = tuple(field_changes(before.written, budget))
            changes.append(Change(budget.name, "change", budget, fields))
    if prune:
        dropped = sorted(current.keys() - {budget.name for budget in wanted})
        changes += [Change(name, "remove", current[name]) for name in dropped]
    return changes


def _shown(field: str, value: Any) -> str:
    if field.endswith("_usd"):
        return f"${value}"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " and ".join(f"{name} {part}" for name, part in value.items()) or "everybody"
    if isinstance(value, list):
        return ",".join(map(_shown_item, value)) or "none"
    return str(value)


def _shown_item(item: Any) -> str:
    """A percentage, a raise, or an earlier limit."""
    if not isinstance(item, dict):
        return str(item)
    since = f" from {item['from']}" if "from" in item else ""
    return f"${item.get('usd') or item['limit_usd']}{since} until {item['until']}"
