"""What rates ask of a ledger's database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spanledger.rates.model import Rate
from spanledger.rates.shares import Claim, SharesNow


class RateRows(Protocol):
    """Rates, and the shares that processes have of them, on one connection.

    Every method may raise LedgerUnavailableError.
    """

    def version(self) -> int:
        """Increases when a rate changes."""
        ...

    def rates(self) -> list[Rate]:
        """All rates, by name."""
        ...

    def set_rate(self, rate: Rate) -> Rate | None:
        """Create or replace a rate; returns what it was before."""
        ...

    def remove_rate(self, name: str) -> Rate | None:
        """Remove a rate; None if there is none."""
        ...

    def apply_file(self, source: str, rates: Sequence[Rate]) -> list[Rate]:
        """Set a file's rates, and remove those that it had before and has no more; returns those that
        changed. What was set by command stays.

        Raises:
            UsageError: a rate of the file has the name of one that was set by command.
        """
        ...

    def exchange(
        self, owner: str, asks: Sequence[Claim], now_ns: int, until_ns: int
    ) -> list[SharesNow]:
        """Replace a process's shares by what it asks for now, as far as others leave as much; in one
        transaction, and alone."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
