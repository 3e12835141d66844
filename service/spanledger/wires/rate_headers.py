"""What is left of rates, as headers of an answer. Each wire has the names that its clients know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from spanledger.rates.meter import Left, Standing

RateHeaders = list[tuple[bytes, bytes]]

_NANOS = 1_000_000_000


def openai_rate_headers(standing: Standing) -> RateHeaders:
    """OpenAI's: the time until a limit is whole again is a duration, like `1m0.5s`."""
    found: RateHeaders = []
    for what, left in _each(standing):
        found += [
            (b"x-ratelimit-limit-" + what, b"%d" % left.limit),
            (b"x-ratelimit-remaining-" + what, b"%d" % left.remaining),
            (b"x-ratelimit-reset-" + what, _duration(left.resets_s).encode()),
        ]
    return found


def anthropic_rate_headers(standing: Standing) -> RateHeaders:
    """Anthropic's: the same is a moment, as RFC 3339 has it."""
    found: RateHeaders = []
    for what, left in _each(standing):
        name = b"anthropic-ratelimit-" + what
        resets_s = (standing.at_ns + int(left.resets_s * _NANOS)) / _NANOS
        moment = datetime.fromtimestamp(-int(-resets_s // 1), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found += [
            (name + b"-limit", b"%d" % left.limit),
            (name + b"-remaining", b"%d" % left.remaining),
            (name + b"-reset", moment.encode()),
        ]
    return found


def _each(standing: Standing) -> Iterator[tuple[bytes, Left]]:
    if standing.requests is not None:
        yield b"requests", standing.requests
    if standing.tokens is not None:
        yield b"tokens", standing.tokens


def _duration(seconds: float) -> str:
    """As Go writes it, which OpenAI's clients and people's scripts read."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds > 0 else "0s"
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{text}s" if minutes else f"{text}s"
