"""A budget as written in a file."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, create_model, field_validator

from spanledger.budgets.actions import ACTIONS, MAX_THROTTLE, STEP_PERCENT, ActionName
from spanledger.budgets.model import Budget
from spanledger.budgets.periods import PERIOD_KINDS, Parts
from spanledger.budgets.scopes import SCOPE_NAMES, SCOPES, Scope, named
from spanledger.budgets.written import (
    Mistake,
    action_mistakes,
    read_cap,
    read_period,
    rollover_mistakes,
)
from spanledger.config.fields import Name, Ours, Owner, Usd, nearest


def _as_written(value: Any) -> Any:
    """YAML reads a day's number and a date as values of their own."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


CapText = Annotated[str, BeforeValidator(_as_text)]
"""An amount, or a percentage of the limit."""
Percent = Annotated[int, Field(ge=1, le=100)]
PeriodPart = Annotated[str, BeforeValidator(_as_written), Field(min_length=1)]
PERIODS = ", ".join(f"`{kind.name}`" for kind in PERIOD_KINDS)


class OnLedgerDown(Ours):
    """`on_ledger_down` of a budget."""

    allow_up_to: Usd = Field(
        0, description="What each gateway process may spend while the ledger is unavailable."
    )


def _subject(scope: Scope) -> tuple[Any, Any]:
    """A scope's key: its type and description."""
    kind = Owner if scope.owner else Name
    return kind | None, Field(None, description=f"{scope.meaning}; `*`: each separately.")


if TYPE_CHECKING:  # its fields follow from a table
    Named = Ours
else:
    Named = create_model(
        "Named",
        __base__=Ours,
        name=(Name, Field(description="Unique name.", max_length=128)),
        **{scope.name: _subject(scope) for scope in SCOPES},
    )


class BudgetEntry(Named):
    """A budget, as in `budgets.yaml` and under `budgets` in the config. It has a key for each scope."""

    if TYPE_CHECKING:
        name: Name
    limit: Usd = Field(description="USD per period, like `12.50`.")
    period: PeriodPart = Field("month", description=f"When it renews: {PERIODS}.")
    period_day: PeriodPart | None = Field(
        None, description="The day on which weeks (`sunday`) or months (`31`) begin."
    )
    period_from: PeriodPart | None = Field(
        None, description="When the first period begins, like `2026-01-01` or `2026-01-01T09:30`."
    )
    period_to: PeriodPart | None = Field(None, description="When a period of `once` ends.")
    valid_from: PeriodPart | None = Field(
        None, description="From when on it limits and counts; default: always."
    )
    valid_to: PeriodPart | None = Field(None, description="Until when; default: for good.")
    timezone: str = Field("UTC", description="IANA time zone of the period.")
    rollover: bool | None = Field(
        None, description="Add what was left of the period before to the limit."
    )
    rollover_cap: CapText | None = Field(
        None, description="The most that is added, like `20` USD or `25%` of the limit."
    )
    action: ActionName = Field(
        "block",
        description="What happens near the limit and at it: "
        + "; ".join(f"`{action.name}` {action.meaning}" for action in ACTIONS.values())
        + ".",
    )
    grace: Usd = Field(0, description="USD beyond the limit that each period may have.")
    throttle_to: int | None = Field(
        None,
        ge=1,
        le=MAX_THROTTLE,
        description="Requests a minute for each account, near the limit.",
    )
    throttle_at: Percent = Field(
        STEP_PERCENT, description="Percentage of the limit spent from which on that is so."
    )
    degrade_to: Name | None = Field(
        None, description="A route of `model_list` that serves requests instead, near the limit."
    )
    degrade_at: Percent = Field(
        STEP_PERCENT, description="Percentage of the limit spent from which on it does."
    )
    thresholds: tuple[Percent, ...] = Field(
        (50, 80, 95), description="Percentages of the limit at which an alert fires."
    )
    default: bool = Field(
        False,
        description="With `*`: limits only subjects that no other budget of the same scope names.",
    )
    strict: bool = Field(False, description="Lower `max_tokens` to what the budget can pay for.")

    on_ledger_down: OnLedgerDown = OnLedgerDown()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, available_timezones

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            near = nearest(value, sorted(available_timezones()))
            raise ValueError(f"{value!r} is not an IANA time zone{near}") from None
        return value


def period_of(entry: BudgetEntry) -> tuple[Parts, list[Mistake]]:
    """A configured period, and what is wrong with it."""
    written = Parts(*(getattr(entry, part) or "" for part in Parts._fields))
    return read_period(written, entry.timezone)


def mistakes_of(entry: BudgetEntry) -> list[Mistake]:
    """What is wrong with a configured budget, as far as one field alone does not say it."""
    return [
        *period_of(entry)[1],
        *rollover_mistakes(entry.rollover, entry.rollover_cap),
        *action_mistakes(
            entry.action,
            {
                "grace": entry.grace > 0,
                "throttle_to": entry.throttle_to is not None,
                "throttle_at": "throttle_at" in entry.model_fields_set,
                "degrade_to": entry.degrade_to is not None,
                "degrade_at": "degrade_at" in entry.model_fields_set,
            },
        ),
    ]


def subjects_of(entry: Named) -> dict[str, str]:
    """The subjects that a configured budget or rate names, by scope."""
    return {name: given for name in SCOPE_NAMES if (given := getattr(entry, name))}


def budget_of(entry: BudgetEntry) -> Budget:
    """A configured budget as the ledger stores it; without a subject it applies to everybody, and with
    several to what they have in common."""
    period, _ = period_of(entry)
    rollover_nano, rollover_percent = read_cap(entry.rollover, entry.rollover_cap)
    scope, subject = named(subjects_of(entry))
    return Budget(
        name=entry.name,
        scope=scope,
        subject=subject,
        limit_nano=entry.limit,
        period=period.text,
        timezone=entry.timezone,
        action=entry.action,
        thresholds=tuple(sorted(set(entry.thresholds))),
        strict=entry.strict,
        allow_when_down_nano=entry.on_ledger_down.allow_up_to,
        default=entry.default,
        grace_nano=entry.grace,
        throttle_to=entry.throttle_to or 0,
        throttle_at=entry.throttle_at,
        degrade_to=entry.degrade_to or "",
        degrade_at=entry.degrade_at,
        rollover_nano=rollover_nano,
        rollover_percent=rollover_percent,
    )
