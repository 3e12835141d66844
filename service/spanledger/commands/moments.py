"""Ends and durations as people write them: `2027-01-31`, `90d`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from spanledger.clock import NANOS
from spanledger.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
MAX_NS = 2**63 - 1
"""The latest time that a ledger can hold."""


def parse_duration(text: str, option: str) -> int:
    """Nanoseconds of `90s`, `30m`, `24h`, `7d`, `2w`, or `0`. Raises UsageError."""
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{option}: {text!r} is not a duration; write 30m, 24h, 7d or 2w")
    return min(int(match[1]) * _SECONDS[match[2]] * NANOS, MAX_NS)


def parse_end(text: str, option: str, now_ns: int) -> int:
    """Unix nanoseconds of `2027-01-31`, `2027-01-31T09:30+01:00`, or of a duration from now.

    A moment without a zone is UTC. Raises UsageError.
    """
    if _DURATION.fullmatch(text):
        return min(now_ns + parse_duration(text, option), MAX_NS)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(int(moment.timestamp()), 0) * NANOS, MAX_NS)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is neither a moment nor a duration; write 2027-01-31,"
            " 2027-01-31T09:30+01:00, or 90d"
        ) from None
