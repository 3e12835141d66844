"""Amounts as people write them: read exactly, or refused."""

from __future__ import annotations

import pytest

from spanledger.money import MAX_NANO, parse_price, parse_usd

DOLLAR = 10**9


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("12.50", 12_500_000_000),
        ("$1,200", 1_200 * DOLLAR),
        ("1,234,567.89", 1_234_567_890_000_000),
        ("1_000", 1_000 * DOLLAR),
        ("1e-6", 1_000),
        (0.1, 100_000_000),
        (5, 5 * DOLLAR),
        ("1e3", 1_000 * DOLLAR),
        ("+5", 5 * DOLLAR),
        ("-0", 0),
        ("0.000000001", 1),
        ("12.500000000000", 12_500_000_000),
        ("4611686018.427387904", MAX_NANO),
    ],
)
def test_amounts(text: str | float, nano: int) -> None:
    """Commas are only accepted between thousands."""
    assert parse_usd(text) == nano


@pytest.mark.parametrize("text", ["1,5", "12,50", "1,2345", "1,000,00", ",5", "1,", "1.000,50"])
def test_a_decimal_comma_is_refused(text: str) -> None:
    """`12,50` is twelve and a half for half of Europe; it must not become 1,250 dollars."""
    with pytest.raises(ValueError, match="not an amount"):
        parse_usd(text)


@pytest.mark.parametrize(
    "text", ["\uff11\uff12", "\u0663", "\u221250", "0x10", "5 USD", "", "$", "_"]
)
def test_digits_of_other_scripts_are_refused(text: str) -> None:
    """An amount must be ASCII, so its digits are unambiguous."""
    with pytest.raises(ValueError, match="not an amount"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "finite"),
        ("sNaN", "finite"),
        ("Infinity", "finite"),
        ("-0.01", "negative"),
        ("0.0000000001", "finer than a nano-dollar"),
        ("1e-999999999", "finer than a nano-dollar"),
        ("0." + "1" + "0" * 40 + "1", "finer than a nano-dollar"),
        ("4611686018.427387905", "more than this ledger can hold"),
        ("1e999999999", "more than this ledger can hold"),
        ("9" * 5_000, "more than this ledger can hold"),
    ],
    ids=lambda value: value[:16],
)
def test_amounts_that_cannot_be_booked_say_why(text: str, why: str) -> None:
    """Values just outside the limits are refused, never rounded into them."""
    with pytest.raises(ValueError, match=why):
        parse_usd(text)


@pytest.mark.parametrize(
    ("text", "pico"),
    [("0.0000025", 2_500_000), ("2.5e-6", 2_500_000), ("1e-999999999", 1), ("1", 10**12)],
)
def test_prices(text: str, pico: int) -> None:
    """A price is per token; the smallest is rounded up, not to zero."""
    assert parse_price(text) == pico


@pytest.mark.parametrize("text", ["2.50", "1e20", "1e999999999"])
def test_a_price_of_a_million_tokens_is_noticed(text: str) -> None:
    """`2.50` is a million tokens' price by mistake; no token costs more than a dollar, and costs
    stay within what 64 bits hold."""
    with pytest.raises(ValueError, match="for one token"):
        parse_price(text)
