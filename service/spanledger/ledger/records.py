"""Budgets, keys and what callers look up by command or request, on one connection."""

from __future__ import annotations

from abc import abstractmethod

from spanledger.ledger.key_records import KeyRecords
from spanledger.ledger.model import Kept, KeptAnswer, KeptKind, Unread

LATEST_REQUESTS = 10_000
"""Read for the names of customers that are offered."""


class Records(KeyRecords):
    """Reads and writes of budgets and virtual keys, and reads for callers.

    Every method may raise LedgerUnavailableError.
    """

    # telemetry ----------------------------------------------------------------------------

    @abstractmethod
    def set_ships(self, *, ships: bool) -> None:
        """Record whether a shipper is used: if so, unshipped rows are not pruned."""

    # callers ------------------------------------------------------------------------------

    @abstractmethod
    def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """The last attempt of a request that came in on this wire, by its primary key."""

    @abstractmethod
    def find_kept(self, request_id: str) -> Kept | None:
        """What a provider keeps from a request."""

    @abstractmethod
    def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """A page of what providers keep for a customer's team."""

    @abstractmethod
    def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """See `Ledger`."""

    @abstractmethod
    def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """See `Ledger`."""

    @abstractmethod
    def customers(self) -> set[str]:
        """Customers of keys, of budgets and of the latest requests."""
