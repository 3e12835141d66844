"""A budget as written in a file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from spanledger.budgets.model import Action, Budget, PeriodKind
from spanledger.budgets.scopes import SUBJECT_SCOPES, Scope
from spanledger.config.fields import Name, Ours, Owner, Usd, nearest


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
    period: PeriodKind = Field("month", description="When it renews.")
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


def budget_of(entry: BudgetEntry) -> Budget:
    """A configured budget as the ledger stores it; without a subject it applies to everybody."""
    everybody: tuple[Scope, str] = ("global", "*")
    scope, subject = next(
        ((s, getattr(entry, s)) for s in SUBJECT_SCOPES if getattr(entry, s)), everybody
    )
    return Budget(
        name=entry.name,
        scope=scope,
        subject=subject,
        limit_nano=entry.limit,
        period=entry.period,
        timezone=entry.timezone,
        action=entry.action,
        thresholds=tuple(sorted(set(entry.thresholds))),
        strict=entry.strict,
        allow_when_down_nano=entry.on_ledger_down.allow_up_to,
    )
