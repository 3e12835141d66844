"""Money as integers.

Amounts are nano-USD (1e-9 USD) and prices are pico-USD (1e-12 USD) per token, both `int`; an
amount is rounded up once per attempt. Money is never a float: text is parsed to an integer with
`decimal`, and printed as a decimal string.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil

NANO_PER_USD = 1_000_000_000
_NANO_DIGITS = 9
PICO_PER_NANO = 1_000
PICO_PER_USD = NANO_PER_USD * PICO_PER_NANO
MAX_NANO = 2**62
"""The largest amount we book (4.6 billion USD); leaves headroom in SQLite's 64-bit integers."""
WHOLE_SHARE = 1_000_000
"""A share of one, in millionths."""
MAX_PRICE_PICO = PICO_PER_USD
"""One dollar per token is over a thousand times the most expensive model; anything higher is a
per-million price entered by mistake."""

_MAX_DIGITS = 60
"""Digits before and after the decimal point within which amounts are exact."""
_MAX_SHOWN = 60
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")


def parse_usd(text: str | int | float | Decimal) -> int:
    """Read an amount such as `12.50`, `$1,200` or `1e-6` as nano-USD.

    A float is read by its shortest decimal form, so `0.1` from YAML is exactly a tenth.

    Raises:
        ValueError: not a number, negative, finer than a nano-dollar, or beyond `MAX_NANO`.
    """
    nano = _scaled(text, NANO_PER_USD)
    if nano > MAX_NANO:
        raise ValueError(f"{_short(text)} is more than this ledger can hold")
    if nano.denominator != 1:
        raise ValueError(f"{_short(text)} is finer than a nano-dollar (9 decimals)")
    return int(nano)


def parse_price(text: str | int | float | Decimal) -> int:
    """Read a price in USD per token (LiteLLM's `input_cost_per_token`) as pico-USD per token.

    A price finer than a pico-dollar is rounded up, never to zero.

    Raises:
        ValueError: not a number, negative, or beyond `MAX_PRICE_PICO`.
    """
    pico = _scaled(text, PICO_PER_USD)
    if pico > MAX_PRICE_PICO:
        raise ValueError(
            f"{_short(text)} is too high for one token; write USD per token, like 2.5e-6"
        )
    return ceil(pico)


def parse_percent(text: object) -> int:
    """Read a percentage such as `12.5%` as a share in millionths.

    Raises:
        ValueError: it has no percent sign, is not a number, negative, or finer than 0.0001 %.
    """
    written = str(text).strip()
    if not isinstance(text, str) or not written.endswith("%"):
        raise ValueError(f"{_short(text)} is not a percentage; write it like 12.5%")
    share = _scaled(written[:-1].rstrip(), WHOLE_SHARE // 100)
    if share.denominator != 1:
        raise ValueError(f"{_short(text)} is finer than 0.0001%")
    return int(share)


def format_share(share: int) -> str:
    """Write a share in millionths as a plain decimal: `0.875`, `1.2`, `1`."""
    whole, rest = divmod(share, WHOLE_SHARE)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def format_usd(nano: int) -> str:
    """Write nano-USD as a plain decimal string, at least two decimals: `12.50`, `0.000000123`."""
    digits = str(abs(nano)).rjust(_NANO_DIGITS + 1, "0")
    decimals = digits[-_NANO_DIGITS:].rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{digits[:-_NANO_DIGITS]}.{decimals}"


def nano_from_pico(pico: int) -> int:
    """Round an amount in pico-USD up to nano-USD: the only rounding of an attempt's cost."""
    return -(-pico // PICO_PER_NANO)


def share_of(nano: int, share: int) -> int:
    """A share (in millionths) of an amount, rounded up to nano-USD; at most what we book."""
    return min(-(-nano * share // WHOLE_SHARE), MAX_NANO)


def _scaled(text: str | int | float | Decimal, units: int) -> Fraction:
    """An amount in fractions of a dollar, exactly; clamped if it is far out of range."""
    cleaned = str(text).strip().removeprefix("$").replace("_", "")
    if _THOUSANDS.fullmatch(cleaned):  # any other comma may be a decimal comma: `1,5` is not 15
        cleaned = cleaned.replace(",", "")
    try:
        value = Decimal(cleaned if cleaned.isascii() else "")
    except InvalidOperation:
        raise ValueError(f"{_short(text)} is not an amount; write it like 12.50") from None
    if not value.is_finite():
        raise ValueError(f"{_short(text)} is not a finite amount")
    if value < 0:
        raise ValueError(f"{_short(text)} is negative")
    if value and not -_MAX_DIGITS < value.adjusted() < _MAX_DIGITS:
        # Far outside the range only the magnitude matters: do not compute thousands of digits.
        value = Decimal((0, (1,), _MAX_DIGITS if value.adjusted() > 0 else -_MAX_DIGITS))
    return Fraction(value) * units


def _short(text: object) -> str:
    """The input as written, shortened to fit a one-line message."""
    shown = repr(text)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
