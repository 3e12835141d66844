"""What others ask of a ledger, and what a ledger asks of its database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import time_ns
from typing import Literal, Protocol

from spanledger.budgets.matching import BudgetIndex
from spanledger.ledger.copying import Tables
from spanledger.ledger.keys import FoundKey
from spanledger.ledger.lanes import Position
from spanledger.ledger.model import (
    AttemptEnd,
    Hold,
    Kept,
    KeptAnswer,
    KeptKind,
    Later,
    LedgerOperation,
    LedgerResult,
    RequestEnd,
    RequestStart,
    Reservation,
    Settled,
    Unread,
    Verification,
)
from spanledger.ledger.notices import NoticeBook
from spanledger.ledger.pruning import Pruning
from spanledger.ledger.rating.ports import RateRows
from spanledger.ledger.records import Records
from spanledger.ledger.reports import Reports
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

    async def find_key(self, digest: str) -> FoundKey | None:
        """Look a key up by the digest of a secret; revoked and expired keys are returned as such."""
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

    async def owners_of_file(self, provider_id: str) -> list[tuple[str, str]]:
        """Customer and team of those that uploaded files which a provider calls so; empty if nobody
        did."""
        ...

    async def list_unread(self, since_ns: int, limit: int) -> list[Unread]:
        """Batches and answers in the background whose cost nobody has learned, of requests since then;
        those whose hold ends first come first."""
        ...

    async def change_kept(self, request_id: str, about: str | None) -> None:
        """Replace what is known of something kept; None forgets it."""
        ...

    async def check(self) -> None:
        """Raises LedgerUnavailableError if it cannot be read or its last commit failed."""
        ...

    @property
    def journaling(self) -> bool:
        """Whether the ledger is unavailable, and attempts of some callers are held in a journal."""
        ...

    @property
    def journal_has_room(self) -> bool:
        """Whether attempts of some callers would be held in a journal, should the next commit fail."""
        ...

    async def has_keys(self) -> bool:
        """Whether any key was ever created; until then the gateway accepts local callers without one."""
        ...


class LedgerWriter(Protocol):
    """The writing connection of one process, which is an owner of holds."""

    @property
    def budgets(self) -> BudgetIndex:
        """All budgets as of the last commit; another object once one of them has changed."""
        ...

    def commit(self, operations: Sequence[LedgerOperation]) -> list[LedgerResult]:
        """Run all operations in one durable transaction; a refused one returns its error.

        Raises:
            LedgerUnavailableError: nothing was done.
            Exception: nothing was done, and one of the operations is at fault.
        """
        ...

    def check(self) -> None:
        """Raises LedgerUnavailableError if the ledger is not the one that was opened."""
        ...

    def close(self) -> None:
        """Give up the lease if nothing is held, and close the connection."""
        ...


class Outbox(Protocol):
    """What the shipper needs from a ledger."""

    def cursor(self) -> Position:
        """Behind the last row of each lane that the collector has accepted."""
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

    def read_after(self, cursor: Position, limit: int) -> list[EndedRow]:
        """Ended rows after a cursor, in order within each lane; fewer than `limit` if they carry a lot
        of content."""
        ...

    def advance(self, advance: Advance) -> None:
        """Commit a shipped batch, or raise and change nothing."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Lock(Protocol):
    """The right to do something alone on a ledger, of all processes on all machines."""

    def acquire(self) -> bool:
        """Take it if it is free, or say whether it is still ours. It is kept until it is closed, or until
        the process ends."""
        ...

    def held(self) -> bool:
        """Whether it is still ours. A lock on another machine is lost with the connection to it."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


Access = Literal["create", "change", "read"]
"""`create` makes a ledger if there is none; `change` needs one, and brings it up to date; `read`
changes nothing."""
Progress = Callable[[int, int], None]
"""Called with what has been done and the total."""


class Store(Protocol):
    """A ledger's database, by its URL. Each method opens a connection, which the caller closes.

    The errors of its driver become LedgerUnavailableError, here and in everything it returns.
    """

    url: str

    def exists(self) -> bool:
        """Whether there is a ledger."""
        ...

    def require(self) -> None:
        """Raises LedgerUnavailableError if there is none: only what writes new rows creates one."""
        ...

    def migrate(self, now_ns: Callable[[], int] = time_ns) -> None:
        """Create the ledger, or bring it up to date."""
        ...

    def writer(self, owner: str, lease_ns: int, now_ns: Callable[[], int]) -> LedgerWriter:
        """The connection of the request path; creates the ledger."""
        ...

    def records(self, access: Access) -> Records:
        """Budgets and keys."""
        ...

    def rates(self, access: Access) -> RateRows:
        """Rates, and the shares that processes have of them."""
        ...

    def reports(self, *, incomplete: bool = False) -> Reports:
        """What people ask; of an incomplete copy only if `incomplete`, because its sums are too low."""
        ...

    def outbox(self) -> Outbox:
        """What the shipper ships; creates the ledger."""
        ...

    def notices(self) -> NoticeBook:
        """Notices on budgets, and who has got them; creates the ledger."""
        ...

    def exclusive(self, name: str) -> Lock:
        """A lock that nobody holds yet."""
        ...

    def ledger_id(self) -> str:
        """A UUID of this ledger, which never changes."""
        ...

    def prune(self, before_ns: int, now_ns: int, *, unshipped: bool = False) -> Pruning:
        """A removal of the requests that ended before a given time.

        Args:
            unshipped: also remove unshipped requests; implied if no shipper is used.

        Raises:
            UsageError: budgets may still count requests that ended by then.
        """
        ...

    def tables(self) -> Tables:
        """All rows, for a copy; of a ledger that is up to date."""
        ...

    def backup(self, destination: Path, progress: Progress) -> Verification:
        """Copy the ledger into a new file and verify the copy; gateways can run meanwhile.

        Raises:
            UsageError: the destination exists or cannot be written.
            SpanledgerError: the copy failed or does not add up; it is deleted.
        """
        ...
