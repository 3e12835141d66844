"""`spanledger budget explain`: which budgets apply to a request, and what each would say now."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from spanledger.budgets.diff import as_dict, whom
from spanledger.budgets.explained import Explanation, Other, Subjects, explain
from spanledger.budgets.model import BudgetState
from spanledger.budgets.periods import in_words
from spanledger.budgets.scopes import SCOPES
from spanledger.budgets.steering import near
from spanledger.commands.common import (
    DEFAULT_LEDGER,
    AsJson,
    LedgerUrl,
    console,
    new_table,
    print_json,
    reporting_errors,
    store_of,
)
from spanledger.commands.scope_options import with_scopes
from spanledger.config import validate_budget
from spanledger.errors import UsageError
from spanledger.money import format_usd

if TYPE_CHECKING:
    from spanledger.ledger.keys import Key
    from spanledger.ledger.ports import Store

MAX_OTHERS = 20
"""Budgets that do not apply and are shown unless all are asked for."""


class Said(NamedTuple):
    """What a budget that applies says of a request.

    Attributes:
        instead: the budget that limits in its place; then it says nothing.
        hold_nano: what the request would hold; None if that is not known.
    """

    state: BudgetState
    instead: str
    hold_nano: int | None

    @property
    def left_nano(self) -> int:
        """What is left to hold, with grace."""
        return self.state.left_nano + self.state.budget.grace_nano

    @property
    def fits(self) -> bool:
        """Whether it has room; for a request of an unknown size, any room at all."""
        return self.left_nano >= (1 if self.hold_nano is None else self.hold_nano)

    @property
    def refuses(self) -> bool:
        """Whether it would refuse the request."""
        return not self.instead and self.state.budget.blocks and not self.fits

    @property
    def text(self) -> str:
        """In words."""
        if self.instead:
            return f"nothing: {self.instead!r} limits in its place"
        if self.fits:
            return ", ".join(["admits", *self._steps()])
        return "refuses" if self.refuses else "warns"

    def _steps(self) -> list[str]:
        """What it does to a request near its limit, or beyond it."""
        state, budget = self.state, self.state.budget
        found = ["in grace"] if state.left_nano < (self.hold_nano or 1) else []
        if budget.degrade_to and near(budget.degrade_at, state.limit_nano, state.spent_nano):
            found.append(f"by the route {budget.degrade_to!r} if that can serve it")
        if budget.throttle_to and near(budget.throttle_at, state.limit_nano, state.spent_nano):
            found.append(f"{budget.throttle_to} a minute")
        return found


@with_scopes(lambda scope: f"{scope.meaning}.", several=True)
def explain_(
    *,
    subjects: Mapping[str, str | list[str]],
    hold: Annotated[
        str | None,
        typer.Option(help="USD that the request would hold; default: what such requests held."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also list all budgets that do not apply.")
    ] = False,
    ledger: LedgerUrl = DEFAULT_LEDGER,
    json: AsJson = False,
) -> None:
    """Show which budgets apply to a request, what each would say of it now, and why others do not.

    Describe the request by its subjects. With --key, the key's customer, team, user, project and tags
    are known.
    """
    now_s = int(time.time())
    with reporting_errors():
        given = _normal(subjects)
        asked = None if hold is None else validate_budget({"name": "hold", "limit": hold}, _LABELS)
        store = store_of(ledger)
        with store.records("read") as records:
            budgets = records.budgets()
            keys = {key.id: key for key in records.keys()}  # noqa: SIM118 - not a dict's
        key = keys.get(str(given.get("key", "")))
        if "key" in given and key is None:
            raise UsageError(f"there is no key {given['key']!r}; `spanledger keys list` shows all")
        known = given if key is None else _with_key(given, key)
        found = explain(budgets, known, now_s)
        size = _usual(store, known) if asked is None else asked.limit
        said = _said(store, found, size, now_s)
    others = found.others if all_ else found.others[:MAX_OTHERS]
    if json:
        print_json(_as_json(known, said, others, size, len(found.others)))
    else:
        _print(said, others, size, len(found.others))


_LABELS = {"limit": "--hold"}


def _normal(subjects: Mapping[str, str | list[str]]) -> dict[str, str | tuple[str, ...]]:
    """What was given, as budgets compare it."""
    found: dict[str, str | tuple[str, ...]] = {}
    for scope in SCOPES:
        value = subjects.get(scope.name)
        if isinstance(value, list):
            found[scope.name] = tuple(unicodedata.normalize("NFC", each) for each in value)
        elif value:
            found[scope.name] = unicodedata.normalize("NFC", value) if scope.owner else value
    return found


def _with_key(
    given: Mapping[str, str | tuple[str, ...]], key: Key
) -> dict[str, str | tuple[str, ...]]:
    """With what the key has, which no request changes. Raises UsageError if something else is given."""
    has = {"customer": key.customer, "team": key.team, "user": key.user, "project": key.project}
    for name, value in has.items():
        if value and given.get(name, value) != value:
            raise UsageError(f"--{name} {given[name]}: the key {key.id} has {name} {value!r}")
        if name in ("customer", "team") and not value and name in given:
            raise UsageError(f"--{name} {given[name]}: the key {key.id} has no {name}")
    tags = (*key.tags, *given.get("tag", ()))
    usual = {"user": key.default_user} if key.default_user else {}
    return {
        **usual,
        **given,
        **{name: value for name, value in has.items() if value},
        "tag": tuple(dict.fromkeys(tags)),
    }


def _usual(store: Store, subjects: Subjects) -> int | None:
    """What such requests held lately, from the closest kind that there were any of."""
    wanted = {name: value for name, value in subjects.items() if isinstance(value, str)}
    closest = ("customer", "key", "model", "route"), ("model", "route"), ("model",), ("route",), ()
    with store.reports() as reports:
        for names in closest:
            some = {name: wanted[name] for name in names if name in wanted}
            if (found := reports.usual_hold(**some)) is not None:
                return found
    return None


def _said(store: Store, found: Explanation, size: int | None, now_s: int) -> list[Said]:
    with store.reports() as reports:
        accounts = [(each.budget, each.subject) for each in found.applying]
        states = reports.account_states(accounts, now_s)
    return [
        Said(state, each.instead.name if each.instead else "", size)
        for state, each in zip(states, found.applying, strict=True)
    ]


def _as_json(
    subjects: Subjects, said: Sequence[Said], others: Sequence[Other], size: int | None, count: int
) -> dict[str, Any]:
    return {
        "request": {name: value for name, value in subjects.items() if value},
        "hold_usd": None if size is None else format_usd(size),
        "admitted": not any(each.refuses for each in said),
        "applies": [
            {
                **as_dict(each.state.budget),
                "account": each.state.subject,
                "spent_usd": format_usd(each.state.spent_nano),
                "held_usd": format_usd(each.state.held_nano),
                "effective_limit_usd": format_usd(each.state.limit_nano),
                "left_usd": format_usd(each.left_nano),
                "says": each.text,
                "refuses": each.refuses,
                "replaced_by": each.instead or None,
            }
            for each in said
        ],
        "does_not_apply": [{"name": o.budget.name, "why": o.why} for o in others],
        "does_not_apply_count": count,
    }


def _print(said: Sequence[Said], others: Sequence[Other], size: int | None, count: int) -> None:
    from rich.markup import escape

    screen = console()
    if said:
        usual = "size unknown" if size is None else f"holding ${format_usd(size)}"
        table = new_table(
            {
                "budget": "fold",
                "for": "fold",
                "spent": "figure",
                "held": "figure",
                "limit": "figure",
                "left": "figure",
                "each": "fold",
                f"a request {usual}": "fold",
            }
        )
        for each in said:
            state, budget = each.state, each.state.budget
            amounts = (state.spent_nano, state.held_nano, state.limit_nano, each.left_nano)
            table.add_row(
                escape(budget.name),
                escape(whom(budget.scope, state.subject)),
                *(f"${format_usd(nano)}" for nano in amounts),
                in_words(budget.period),
                f"[red]{each.text}[/]" if each.refuses else escape(each.text),
            )
        screen.print(table)
    else:
        screen.print("no budget applies")
    if others:
        screen.print("\nnot applied:")
        for other in others:
            screen.print(escape(f"  {other.budget.name}: {other.why}"))
        if count > len(others):
            screen.print(f"  and {count - len(others):,} more; --all lists them")
