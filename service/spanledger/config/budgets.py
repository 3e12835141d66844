"""A budget as written in a file."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from spanledger.budgets.model import Action, Budget
from spanledger.budgets.periods import PERIOD_KINDS, Parts
from spanledger.budgets.scopes import SUBJECT_SCOPES, Scope
from spanledger.budgets.written import Mistake, read_period
from spanledger.config.fields import Name, Ours, Owner, Usd, nearest


def _as_written(value: Any) -> Any:
    """YAML reads a day's number and a date as values of their own."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


PeriodPart = Annotated[str, BeforeValidator(_as_written), Field(min_length=1)]
PERIODS = ", ".join(f"`{kind.name}`" for kind in PERIOD_KINDS)


class OnLedgerDown(Ours):
    """`on_ledger_down` of a budget."""

    allow_up_to: Usd = Field(
        0, description="What each gateway process may spend while the ledger is unavailable."
    )


class BudgetEntry(Ours):
    """A budget, as in `budgets.yaml` and under `budgets` in the config."""

    name: Name = Field(description="Unique name.", max_length=128)
    customer: Owner | None = Field(
        None, description="Subject; `*` limits each customer separately."
    )
    key: Name | None = Field(None, description="Subject: a key's id (`key_…`).")
    team: Owner | None = Field(None, description="Subject: a team.")
    model: Name | None = Field(None, description="Subject: a provider's model.")
    provider: Name | None = Field(None, description="Subject: a provider.")
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
    action: Action = Field("block", description="What happens at the limit.")
    thresholds: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (50, 80, 95), description="Percentages of the limit at which an alert fires."
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


def budget_of(entry: BudgetEntry) -> Budget:
    """A configured budget as the ledger stores it; without a subject it applies to everybody."""
    period, _ = period_of(entry)
    everybody: tuple[Scope, str] = ("global", "*")
    scope, subject = next(
        ((s, getattr(entry, s)) for s in SUBJECT_SCOPES if getattr(entry, s)), everybody
    )
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
    )
