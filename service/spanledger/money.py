"""Money as integers, and nothing else.

Amounts are nano-USD (1e-9 USD) and prices are pico-USD (1e-12 USD) per token, both `int`; an
amount is rounded up once per attempt. No float touches money: text becomes an integer through
`decimal`, and leaves as a decimal string.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000
PICO_PER_USD = NANO_PER_USD * PICO_PER_NANO
MAX_NANO = 2**62
"""The largest amount we book (4.6 billion USD): it leaves SQLite's 64-bit integers headroom."""
MAX_PRICE_PICO = PICO_PER_USD
"""A dollar for one token, over a thousand times the dearest; more is the price of a million."""

_MAX_DIGITS = 60
"""Decimal places before and after the point within which amounts are told apart."""
_MAX_SHOWN = 60
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")


def parse_usd(text: str | int | float | Decimal) -> int:
    """Read an amount such as `12.50`, `$1,200` or `1e-6` as nano-USD.

    A float is read by its shortest decimal form, so that `0.1` from YAML means a tenth.

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
        raise ValueError(f"{_short(text)} is no price of one token: write USD a token, like 2.5e-6")
    return ceil(pico)


def format_usd(nano: int) -> str:
    """Write nano-USD as a plain decimal string, at least two decimals: `12.50`, `0.000000123`."""
    sign = "-" if nano < 0 else ""
    whole, part = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def nano_from_pico(pico: int) -> int:
    """Round an amount in pico-USD up to nano-USD: the one rounding an attempt's cost gets."""
    return -(-pico // PICO_PER_NANO)


def _scaled(text: str | int | float | Decimal, units: int) -> Fraction:
    """An amount in units of a dollar, exactly; what is far out of range as the nearest that is."""
    cleaned = str(text).strip().removeprefix("$").replace("_", "")
    if _THOUSANDS.fullmatch(cleaned):  # any other comma may be a decimal one: `1,5` is not 15
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
        # Digits without end are not worked out to learn what is known by their number.
        value = Decimal((0, (1,), _MAX_DIGITS if value.adjusted() > 0 else -_MAX_DIGITS))
    return Fraction(value) * units


def _short(text: object) -> str:
    """What was written, for a message of one line."""
    shown = repr(text)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
