"""What others ask of a ledger, and what a ledger asks of its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spanledger.ledger.model import (
    AttemptEnd,
    Hold,
    Kept,
    KeptAnswer,
    KeptKind,
    Key,
    Later,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
)
from spanledger.ledger.rows import Advance, EndedRow, PointRow


class Ledger(Protocol):
    """The hot path: what routing calls. Implementations group concurrent calls into one commit."""

    async def reserve(self, reservation: Reservation) -> Hold:
        """Hold money on every matching budget, or on none.

        Raises:
            BudgetExceededError: a blocking budget has no room.
            UnpricedModelError: a budget blocks and the model has no price.
            UnboundedCostError: a budget blocks and the request's cost has no bound.
            LedgerUnavailableError: the commit failed; nothing is held.
        """
        ...

    async def finish(self, end: AttemptEnd) -> Settled:
        """Settle or release a hold; a second call with the same attempt id changes nothing.

        Raises:
            LedgerUnavailableError: the commit failed; the sweep will expire the hold.
        """
        ...

    async def end_request(
        self,
        start: RequestStart,
        end: RequestEnd,
        *,
        kept: Kept | None = None,
        later: Later | None = None,
    ) -> None:
        """End a request outside an attempt: refused, invalid, or given up between attempts.

        With `later`, its attempt stays held. With `kept`, its provider keeps something from it.
        """
        ...

    async def find_key(self, digest: str) -> Key | None:
        """Look a key up by its full digest; revoked keys are returned as such."""
        ...

    async def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None:
        """The last attempt of a request that came in on this wire; None if there is no such row."""
        ...

    async def find_kept(self, request_id: str) -> Kept | None:
        """What a provider keeps from a request; None if there is no such row."""
        ...

    async def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]:
        """A page of what providers keep for a customer's team, oldest first if `rising`; `after` is
        the request before its first, or empty."""
        ...

    async def change_kept(self, request_id: str, about: str | None) -> None:
        """Replace what is known of something kept; None forgets it."""
        ...

    async def check(self) -> None:
        """Raises LedgerUnavailableError if it cannot be read or its last commit failed."""
        ...

    async def has_keys(self) -> bool:
        """Whether any key was ever created; until then the gateway accepts local callers without one."""
        ...


class LedgerWriter(Protocol):
    """The writing connection of one process: it commits batches."""

    def commit(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class KeyReader(Protocol):
    """Reads of virtual keys that need no transaction."""

    def find_key(self, digest: str) -> Key | None: ...
    def find_answer(self, request_id: str, operation: str) -> KeptAnswer | None: ...
    def find_kept(self, request_id: str) -> Kept | None: ...
    def list_kept(
        self, owner: tuple[str, str], kind: KeptKind, *, after: str, rising: bool, limit: int
    ) -> list[Kept]: ...
    def has_keys(self) -> bool: ...
    def close(self) -> None: ...


class Outbox(Protocol):
    """What the shipper needs from a ledger."""

    def cursor(self) -> int:
        """`seq` of the last row the collector has accepted."""
        ...

    def ledger_id(self) -> str:
        """A UUID of this ledger, which never changes."""
        ...

    def points(self) -> list[PointRow]:
        """All series."""
        ...

    def changed(self) -> bool:
        """Whether another connection has committed since the last call; cheap."""
        ...

    def read_after(self, seq: int, limit: int) -> list[EndedRow]:
        """Ended rows after a cursor, in order; fewer than `limit` if they carry a lot of content."""
        ...

    def advance(self, advance: Advance) -> None:
        """Commit a shipped batch, or raise and change nothing."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
