"""Amounts as people write them: read exactly, or refused."""

from __future__ import annotations

import pytest

from spanledger.money import parse_usd

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
    ],
)
def test_amounts(text: str | float, nano: int) -> None:
    """Commas stand between thousands, and nowhere else."""
    assert parse_usd(text) == nano


@pytest.mark.parametrize("text", ["1,5", "12,50", "1,2345", "1,000,00", ",5", "1,", "1.000,50"])
def test_a_decimal_comma_is_refused(text: str) -> None:
    """`12,50` is twelve and a half for half of Europe; it must not become 1,250 dollars."""
    with pytest.raises(ValueError, match="not an amount"):
        parse_usd(text)
