"""What a notice says: its id, its figures, and its words. Pure.

The id follows from the ledger, the account with its period, the step and the limit that people have set.
So a process that was killed between sending and remembering sends the same id again, and a limit that was
raised has steps of its own. What rolls over moves the limit without a person's doing, and is not part of it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from spanledger.budgets.accounts import AccountKey
from spanledger.budgets.model import BudgetState
from spanledger.budgets.periods import FOREVER_S, in_words
from spanledger.budgets.scopes import EACH, EVERYBODY, subjects_by_scope
from spanledger.budgets.steps import LIMIT_STEP
from spanledger.clock import NANOS
from spanledger.config.notices import FORECAST, RENEWED
from spanledger.ledger.notices import Notice
from spanledger.money import format_usd

NOTICE_ID_PREFIX = "notice_"
TYPES = {
    FORECAST: "budget.forecast",
    RENEWED: "budget.renewed",
    str(LIMIT_STEP): "budget.limit_reached",
}
THRESHOLD = "budget.threshold_reached"
TEST = "notice.test"
"""The types of messages; those of percentages below the limit are `THRESHOLD`."""


def id_of(ledger_id: str, account: AccountKey, step: str, limit_nano: int) -> str:
    """The id of a fact."""
    about = json.dumps([ledger_id, *account, step, limit_nano], ensure_ascii=False)
    return NOTICE_ID_PREFIX + sha256(about.encode()).hexdigest()[:32]


def set_limit(state: BudgetState) -> int:
    """The limit of an account as far as people have set it: without what rolled over."""
    if state.limit is None:
        return state.budget.limit_nano
    return state.limit.base_nano + state.limit.raised_nano


def account_of(state: BudgetState) -> AccountKey:
    """The account of a state."""
    return AccountKey.of(state.budget, state.subject, state.period_start_s)


def notice_of(
    ledger_id: str,
    state: BudgetState,
    step: str,
    now_ns: int,
    *,
    runs_out_s: int | None = None,
    refused: bool = False,
) -> Notice:
    """A step of an account as a notice.

    Args:
        runs_out_s: when a forecast says that the limit will be reached.
        refused: the budget has just refused a request.
    """
    account = account_of(state)
    data = _figures(state, step)
    data["refuses"] = refused
    if runs_out_s is not None:
        data["runs_out_at"] = moment(runs_out_s)
    limit_nano = 0 if step == RENEWED else set_limit(state)
    return Notice(
        id_of(ledger_id, account, step, limit_nano),
        account,
        step,
        now_ns,
        state.period_end_s,
        json.dumps(data, ensure_ascii=False),
        open=step != RENEWED,
    )


def trial(ledger_id: str, destination: str, now_ns: int) -> Notice:
    """A message that is about nothing, to try a destination."""
    account = AccountKey("", EVERYBODY, "month", "UTC", 0, EACH)
    id_ = id_of(ledger_id, account, f"test {destination}", now_ns)
    text = json.dumps(
        {"destination": destination, "message": "spanledger can reach this destination"}
    )
    return Notice(id_, account, "test", now_ns, 0, text)


def type_of(step: str) -> str:
    """The type of a notice's message."""
    if step == "test":
        return TEST
    return TYPES.get(step, THRESHOLD)


def moment(seconds: int) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def found_at(notice: Notice) -> str:
    """When a notice was found, as RFC 3339."""
    at = datetime.fromtimestamp(notice.at_ns // NANOS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{notice.at_ns % NANOS // 1_000_000:03d}Z"


def _figures(state: BudgetState, step: str) -> dict[str, Any]:
    """The figures of an account as JSON; amounts of money are decimal strings."""
    budget, limit = state.budget, state.limit_nano
    return {
        "budget": budget.name,
        "scope": budget.scope,
        "subject": state.subject,
        "subjects": subjects_by_scope(budget.scope, state.subject),
        "percent": int(step) if step.isdecimal() else None,
        "currency": "USD",
        "spent_usd": format_usd(state.spent_nano),
        "held_usd": format_usd(state.held_nano),
        "limit_usd": format_usd(limit),
        "used_percent": state.spent_nano * 100 // limit if limit > 0 else None,
        "period": budget.period,
        "period_in_words": in_words(budget.period),
        "timezone": budget.timezone,
        "period_start": moment(state.period_start_s),
        "period_end": None if state.period_end_s == FOREVER_S else moment(state.period_end_s),
        "action": budget.action,
        "blocks": budget.blocks,
    }


# words --------------------------------------------------------------------------------------


def sentence(notice: Notice) -> str:
    """A notice for people, on one line."""
    data = json.loads(notice.data)
    if notice.step == "test":
        return f"Test: {data['message']}."
    about = f"Budget {data['budget']}{_of_subject(data)}"
    amounts = f"${data['spent_usd']} of ${data['limit_usd']} spent"
    end = data["period_end"]
    until = f"; its period ends at {end}" if end else ""
    if notice.step == RENEWED:
        return f"{about} has renewed: ${data['limit_usd']} until {end}."
    if notice.step == FORECAST:
        return f"{about} will run out at about {data['runs_out_at']}, before its period ends at {end}: {amounts}."
    if data["percent"] == LIMIT_STEP and data["refuses"]:
        return f"{about} refuses requests that it has no room for: {amounts}{until}."
    if data["percent"] == LIMIT_STEP:
        what = "is used up" if data["blocks"] else "is used up, and only warns"
        return f"{about} {what}: {amounts}{until}."
    return f"{about} has reached {data['percent']} %: {amounts}{until}."


def _of_subject(data: dict[str, Any]) -> str:
    subjects = data["subjects"]
    if not subjects:
        return ""
    return " (" + ", ".join(f"{scope} {subject}" for scope, subject in subjects.items()) + ")"
