"""Money as integers, and nothing else.

Amounts are nano-USD (1e-9 USD) and prices are pico-USD (1e-12 USD) per token, both `int`; an
amount is rounded up once per attempt. No float touches money: text becomes an integer through
`decimal`, and leaves as a decimal string.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000
PICO_PER_USD = NANO_PER_USD * PICO_PER_NANO
MAX_NANO = 2**62
"""The largest amount we book (4.6 billion USD): it leaves SQLite's 64-bit integers headroom."""

_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?")


def parse_usd(text: str | int | float | Decimal) -> int:
    """Read an amount such as `12.50`, `$1,200` or `1e-6` as nano-USD.

    A float is read by its shortest decimal form, so that `0.1` from YAML means a tenth.

    Raises:
        ValueError: not a number, negative, finer than a nano-dollar, or beyond `MAX_NANO`.
    """
    nano = _decimal(text) * NANO_PER_USD
    if nano != nano.to_integral_value():
        raise ValueError(f"{text!r} is finer than a nano-dollar (9 decimals)")
    if nano > MAX_NANO:
        raise ValueError(f"{text!r} is more than this ledger can hold")
    return int(nano)


def parse_price(text: str | int | float | Decimal) -> int:
    """Read a price in USD per token (LiteLLM's `input_cost_per_token`) as pico-USD per token.

    A price finer than a pico-dollar is rounded up, never to zero.

    Raises:
        ValueError: not a number, or negative.
    """
    pico = _decimal(text) * PICO_PER_USD
    return int(pico.to_integral_value(rounding=ROUND_CEILING))


def format_usd(nano: int) -> str:
    """Write nano-USD as a plain decimal string, at least two decimals: `12.50`, `0.000000123`."""
    sign = "-" if nano < 0 else ""
    whole, part = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def nano_from_pico(pico: int) -> int:
    """Round an amount in pico-USD up to nano-USD: the one rounding an attempt's cost gets."""
    return -(-pico // PICO_PER_NANO)


def _decimal(text: str | int | float | Decimal) -> Decimal:
    cleaned = str(text).strip().removeprefix("$").replace("_", "")
    if _THOUSANDS.fullmatch(cleaned):  # any other comma may be a decimal one: `1,5` is not 15
        cleaned = cleaned.replace(",", "")
    try:
        value = Decimal(cleaned)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount; write it like 12.50") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite amount")
    if value < 0:
        raise ValueError(f"{text!r} is negative")
    return value
