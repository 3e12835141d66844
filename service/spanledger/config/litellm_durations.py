"""LiteLLM's `budget_duration`, read as a period of ours. Pure.

LiteLLM (its module `duration_parser`, as of 1.106) resets a day at midnight, a week on Monday and a
month on the first, and counts other days from midnight of the day on which it first saw the budget.
It counts hours within a day, so that what does not divide a day is shorter than it says.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spanledger.budgets.periods import MAX_DAYS, MAX_HOURS

SINCE = "2024-01-01"
"""Hours and days are counted from this Monday: a file does not say when LiteLLM first saw its budget."""
_WORDS = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "30d"}
_CALENDAR = {
    **dict.fromkeys(("1d", "24h"), "day"),
    **dict.fromkeys(("7d", "168h"), "week"),
    **dict.fromkeys(("30d", "1mo"), "month"),
}
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([1-9][0-9]{0,8})(mo|[smhdw])")
_OURS = "write a budget under `budgets`"


class Duration(NamedTuple):
    """A duration as a budget's period; `problem` or `warning` says what is not as in LiteLLM."""

    period: str = ""
    period_from: str = ""
    warning: str = ""
    problem: str = ""


def read_duration(text: str) -> Duration:
    """What a duration means here."""
    match = _DURATION.fullmatch(_WORDS.get(text, text))
    if match is None:
        return Duration(
            problem=f"{text!r} is not a duration; write one like 1d, 7d, 30d, 12h or 1mo"
        )
    amount, unit = int(match[1]), match[2]
    if unit == "w":
        amount, unit = amount * 7, "d"
    if unit in _SECONDS:
        hours, rest = divmod(amount * _SECONDS[unit], 3600)
        if rest:
            hint = "; a month is 1mo" if unit == "m" else ""
            return Duration(
                problem=f"{text!r} is shorter than 1h, or not a whole number of hours{hint}"
            )
        amount, unit = hours, "h"
    if period := _CALENDAR.get(f"{amount}{unit}"):
        return Duration(period)
    if unit == "mo":
        return Duration(
            problem=f"LiteLLM resets no budget after {text!r}; {_OURS}, with a period like quarter or year"
        )
    if amount > {"h": MAX_HOURS, "d": MAX_DAYS}[unit]:
        return Duration(problem=f"{text!r} is too long; {_OURS}, with the period `once`")
    return Duration(f"{amount}{unit}", SINCE, _difference(text, amount, unit))


def _difference(text: str, amount: int, unit: str) -> str:
    """In what the periods differ from LiteLLM's."""
    if unit == "d":
        return (
            f"periods of {text!r} are counted from {SINCE}, in LiteLLM from its first start; to choose,"
            f" {_OURS}, with period_from"
        )
    if 24 % amount:
        return f"periods of {text!r} are that long here; LiteLLM begins another at least each day"
    return ""
