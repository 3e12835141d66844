"""What `spanledger budget list` shows of budgets and their accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from spanledger.budgets.diff import as_dict, moment_text, whom
from spanledger.budgets.limits import next_limit
from spanledger.budgets.model import Budget, BudgetState
from spanledger.budgets.periods import in_words, renewal
from spanledger.budgets.scopes import subjects_by_scope
from spanledger.commands.common import console, format_day, new_table
from spanledger.money import format_usd


def state_as_dict(state: BudgetState) -> dict[str, Any]:
    """An account as JSON."""
    zone = state.budget.timezone
    return {
        **as_dict(state.budget),
        "subject": state.subject,
        "subjects": subjects_by_scope(state.budget.scope, state.subject),
        "spent_usd": format_usd(state.spent_nano),
        "held_usd": format_usd(state.held_nano),
        "overrun_usd": format_usd(state.overrun_nano),
        "remaining_usd": format_usd(state.left_nano),
        **_limit_as_dict(state),
        "period_start": format_day(state.period_start_s, zone),
        "period_end": format_day(state.period_end_s, zone),
    }


def _limit_as_dict(state: BudgetState) -> dict[str, Any]:
    """The account's limit as of now, with what it is made of besides the budget's own."""
    limit = state.limit
    return {
        "effective_limit_usd": format_usd(state.limit_nano),
        "rolled_over_usd": format_usd(limit.rolled_nano if limit else 0),
        "raised_usd": format_usd(limit.raised_nano if limit else 0),
    }


def print_states(states: Sequence[BudgetState], now_s: int) -> None:
    """The table, and below it what it does not show of the limits."""
    from rich.markup import escape

    any_when_down = any(state.budget.allow_when_down_nano for state in states)
    table = new_table(
        {
            "budget": "fold",
            "for": "fold",
            "spent": "figure",
            "held": "figure",
            "limit": "figure",
            "each": "fold",
            "used": "figure",
            "then": "keep",
            "renews": "keep",
            **({"ledger down": "figure"} if any_when_down else {}),
        }
    )
    for state in states:
        budget = state.budget
        limit = state.limit_nano
        used = (state.spent_nano + state.held_nano) * 100 // limit if limit else 100
        colour = "red" if used >= 95 else "yellow" if used >= 80 else "green"
        table.add_row(
            escape(budget.name),
            escape(whom(budget.scope, state.subject) + (" (default)" if budget.default else "")),
            "$" + format_usd(state.spent_nano),
            "$" + format_usd(state.held_nano),
            "$" + format_usd(limit),
            in_words(budget.period),
            f"[{colour}]{used} %[/]",
            budget.action,
            _renews(state, now_s),
            *(["$" + format_usd(budget.allow_when_down_nano)] if any_when_down else []),
        )
    console().print(table)
    notes = [f"{s.budget.name}: {text}" for s in states for text in _limit_notes(s, now_s)]
    for note in dict.fromkeys(notes):
        typer.echo(note)


def _limit_notes(state: BudgetState, now_s: int) -> list[str]:
    """What an account's limit is made of, and how it will change."""
    budget, limit = state.budget, state.limit
    zone, found = budget.timezone, []
    if limit is not None and limit.rolled_nano:
        found.append(f"${format_usd(limit.rolled_nano)} of {state.subject}'s limit rolled over")
    for nano, from_s, until_s in budget.noted.raises:
        if until_s > now_s:
            since = f"from {moment_text(from_s, zone)} " if from_s > now_s else ""
            found.append(f"${format_usd(nano)} more {since}until {moment_text(until_s, zone)}")
    if coming := next_limit(budget, now_s):
        found.append(
            f"the limit is ${format_usd(coming[1])} from {moment_text(coming[0], zone)} on"
        )
    if state.left_nano < 0 <= state.left_nano + budget.grace_nano and budget.grace_nano:
        found.append(f"in grace: ${format_usd(-state.left_nano)} beyond the limit")
    return found


def _renews(state: BudgetState, now_s: int) -> str:
    """When another period begins, for a terminal; where none does, what comes instead."""
    budget = state.budget
    if now_s < state.period_start_s:
        return f"begins {_when(state.period_start_s, budget)}"
    kind = renewal(budget.period, budget.timezone, state.period_end_s)
    if kind == "never":
        return kind
    end = _when(state.period_end_s, budget)
    if kind == "renews":
        return end
    return f"{'ends' if now_s < state.period_end_s else 'ended'} {end}"


def _when(seconds: int, budget: Budget) -> str:
    """A day in the budget's time zone, with the time unless it is midnight."""
    text = format_day(seconds, budget.timezone)
    return text[:10] if text[11:19] == "00:00:00" else f"{text[:10]} {text[11:16]}"
