"""A rate as written in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from spanledger.budgets.scopes import EACH, SCOPE_NAMES, named
from spanledger.config.budgets import Named, subjects_of
from spanledger.config.fields import Name, PositiveInt, Usd
from spanledger.rates.model import Rate, RateLimits

RATE_LIMITS = ("rpm_limit", "tpm_limit", "usd_per_minute", "max_parallel_requests")
"""The keys of a rate's limits."""
MAX_LIMIT = 10**15


class RateEntry(Named):
    """A rate under `rates` in the config. It has a key for each scope, as budgets have."""

    if TYPE_CHECKING:
        name: Name
    rpm_limit: PositiveInt | None = Field(None, le=MAX_LIMIT, description="Requests in any minute.")
    tpm_limit: PositiveInt | None = Field(
        None, le=MAX_LIMIT, description="Tokens of input and output in any minute."
    )
    usd_per_minute: Usd | None = Field(None, description="USD in any minute, like `0.50`.")
    max_parallel_requests: PositiveInt | None = Field(
        None, le=MAX_LIMIT, description="Requests in flight at once."
    )
    default: bool = Field(
        False,
        description="With `*`: limits only subjects that no other rate of the same scope names.",
    )


def rate_mistakes(rates: Sequence[tuple[str, RateEntry]]) -> list[str]:
    """What is wrong with configured rates, as far as one field alone does not say it."""
    found = []
    names = [rate.name for _, rate in rates]
    found += [f"rate {n!r} is set twice" for n in sorted({n for n in names if names.count(n) > 1})]
    for place, rate in rates:
        subjects = subjects_of(rate)
        # `customer:` without a value must not become a limit on everybody together.
        found += [
            f"rate {rate.name!r}: {s} is empty; name one, write '*' for every {s}, or remove it"
            for s in SCOPE_NAMES
            if s in rate.model_fields_set and s not in subjects
        ]
        if rate.default and EACH not in subjects.values():
            found.append(
                f"rate {rate.name!r}: only one for each subject ('*') can be a default; name '*', or"
                " remove default"
            )
        if rate.usd_per_minute == 0:
            found.append(f"{place}.usd_per_minute: must be greater than 0, or left out")
        if all(getattr(rate, limit) is None for limit in RATE_LIMITS):
            found.append(f"{place}: it limits nothing; give it one of {', '.join(RATE_LIMITS)}")
    return found


def rate_of(entry: RateEntry, source: str = "") -> Rate:
    """A configured rate as the ledger stores it."""
    scope, subject = named(subjects_of(entry))
    limits = RateLimits(
        entry.rpm_limit, entry.tpm_limit, entry.usd_per_minute, entry.max_parallel_requests
    )
    return Rate(entry.name, scope, subject, limits, entry.default, source)
