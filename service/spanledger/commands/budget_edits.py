"""Budgets as given by options: what stays of a budget, and what a command asks for in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.budgets.actions import OPTIONS
from spanledger.budgets.diff import cap_text, whose
from spanledger.budgets.limits import When
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import Parts, parts_of
from spanledger.budgets.scopes import SCOPE_NAMES, subjects_by_scope
from spanledger.budgets.written import changed
from spanledger.config import budget_of, validate_budget
from spanledger.errors import UsageError
from spanledger.money import format_usd

OPTION_LABELS = {"on_ledger_down": "--on-ledger-down-allow"}
"""Options that are not called as in a file."""
REMOVABLE = ("period_to", "valid_from", "valid_to", "degrade_to", "throttle_to")
"""Options that `none` takes from a budget that has them."""
NEXT_PERIOD = "next-period"


def when_of(text: str | None, limit: str | None) -> When:
    """From when on a limit holds, by --from. Raises UsageError."""
    if text is None:
        return "now" if limit is not None else ""
    if text == "now":
        return "now"
    if text != NEXT_PERIOD:
        raise UsageError(f"--from: {text!r} is neither now nor {NEXT_PERIOD}")
    if limit is None:
        raise UsageError("--from is about a limit, and none is given: add --limit")
    return "next-period"


def with_options(before: Budget, given: Mapping[str, Any]) -> Budget:
    """A budget with the given options changed. Raises UsageError if its subject would change."""
    gone = {name for name in REMOVABLE if given.get(name) == "none"}
    given = {option: value for option, value in given.items() if option not in gone}
    written = Parts(*(given.get(part, "") for part in Parts._fields))
    ends = {part: "" for part in Parts._fields if part in gone}
    period = changed(parts_of(before.period)._replace(**ends), written)._asdict()
    entry = {
        **_entry_of(before),
        **_steps_of(before, given.get("action"), gone),
        **{part: text for part, text in period.items() if text},
    }
    if "rollover_cap" in given or given.get("rollover") is False:
        entry.pop("rollover", None)
        entry.pop("rollover_cap", None)
    if not any(scope in given for scope in SCOPE_NAMES):
        entry |= subjects_by_scope(before.scope, before.subject)
    after = budget_of(validate_budget({**entry, **given}, OPTION_LABELS))
    if (after.scope, after.subject) != (before.scope, before.subject):
        raise UsageError(
            f"budget {before.name!r} is for {whose(before)}, not {whose(after)}: choose another"
            " name, or add --replace to recreate it"
        )
    return after


def _entry_of(budget: Budget) -> dict[str, Any]:
    return {
        "limit": format_usd(budget.limit_nano),
        "timezone": budget.timezone,
        "action": budget.action,
        "thresholds": budget.thresholds,
        "default": budget.default,
        "strict": budget.strict,
        "on_ledger_down": {"allow_up_to": format_usd(budget.allow_when_down_nano)},
        **({"rollover": True, "rollover_cap": cap_text(budget)} if budget.rolls_over else {}),
    }


def _steps_of(before: Budget, action: str | None, gone: set[str]) -> dict[str, Any]:
    """What a budget does near its limit; another action begins without that."""
    if action not in (None, before.action):
        return {}
    found: dict[str, Any] = {"grace": format_usd(before.grace_nano)}
    for name in ("throttle", "degrade"):
        to, at = f"{name}_to", f"{name}_at"
        if getattr(before, to) and to not in gone:
            found |= {to: getattr(before, to), at: getattr(before, at)}
    assert found.keys() <= {*OPTIONS}
    return found
