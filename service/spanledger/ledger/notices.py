"""The outbox of notices: what was found about budgets, and which destinations have got it.

One process of a ledger finds and sends notices (`spanledger.notices`). Everything it must not forget is
here: that a notice was found, and what is on its way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from spanledger.budgets.accounts import AccountKey
from spanledger.budgets.model import Budget
from spanledger.budgets.scopes import Dimensions
from spanledger.ledger.lanes import Position

if TYPE_CHECKING:
    from spanledger.ledger.reports import Reports

DeliveryState = Literal["waiting", "sent", "failed"]


class Notice(NamedTuple):
    """A fact about an account.

    Attributes:
        id: follows from the other fields that say what it is about, so the same fact has one id.
        step: a percentage, `forecast` or `renewed`.
        until_s: the end of the period, Unix seconds.
        data: its figures as a JSON object.
        open: when its period ends, people are told that the budget renewed.
    """

    id: str
    account: AccountKey
    step: str
    at_ns: int
    until_s: int
    data: str
    open: bool = True


class NewNotice(NamedTuple):
    """A new notice, and where it is to be sent; nowhere if it is only remembered."""

    notice: Notice
    destinations: Sequence[str] = ()


class Due(NamedTuple):
    """A notice on its way."""

    notice: Notice
    attempts: int


class DeliveryEnd(NamedTuple):
    """What became of an attempt to send a notice.

    Attributes:
        due_ns: when it is sent next, if it still waits; else now.
        error: what went wrong.
    """

    id: str
    destination: str
    state: DeliveryState
    due_ns: int
    error: str = ""


class NoticeDelivery(NamedTuple):
    """A notice and a destination, as commands list them; without one if it was only remembered."""

    notice: Notice
    destination: str
    state: str
    attempts: int
    due_ns: int
    error: str


class NoticeFigures(NamedTuple):
    """A destination's figures for `/metrics`.

    Attributes:
        since_ns: when the oldest one that waits was found; 0 if none waits.
    """

    destination: str
    waiting: int
    since_ns: int
    failed: int
    sent: int


class Ended(NamedTuple):
    """An account whose period has ended, its notices, and the destinations that got any."""

    account: AccountKey
    ids: Sequence[str]
    destinations: Sequence[str]


class Refused(NamedTuple):
    """A request that a budget refused; the subjects do not have model and provider."""

    budget: str
    dimensions: Dimensions


class Traffic(NamedTuple):
    """What has ended between two positions.

    Attributes:
        spent: the keys of accounts, as an attempt's row has them, and what it cost.
        upto: the second position.
        more: whether there are further rows.
    """

    spent: Sequence[tuple[str, int]]
    refused: Sequence[Refused]
    upto: Position
    more: bool


class BudgetNews(NamedTuple):
    """Budgets that changed since a moment; `names` is None if these are all budgets."""

    last: int
    names: Sequence[str] | None
    budgets: Sequence[Budget]


class NoticeBook(Protocol):
    """What finds and sends notices needs from a ledger; used by one thread at a time."""

    @property
    def reports(self) -> Reports:
        """Reports on the same connection."""
        ...

    def ledger_id(self) -> str:
        """A UUID of this ledger, which never changes."""
        ...

    def check(self) -> None:
        """Raises LedgerUnavailableError if the ledger is not the one that was opened."""
        ...

    # what happens -------------------------------------------------------------------------

    def ends(self) -> Position:
        """Behind the last row that has ended."""
        ...

    def traffic(self, after: Position, limit: int) -> Traffic:
        """What has ended since then, about `limit` rows of each lane."""
        ...

    def budget_news(self, since: int) -> BudgetNews:
        """Budgets that changed since this number of a change; all with 0."""
        ...

    # notices ------------------------------------------------------------------------------

    def watched_since(self, step: str) -> int:
        """When this step of accounts began to be watched, Unix nanoseconds; 0 if it is not."""
        ...

    def known(self, ids: Collection[str]) -> set[str]:
        """Those of these notices that were found before."""
        ...

    def record(
        self,
        found: Sequence[NewNotice],
        now_ns: int,
        *,
        closed: Sequence[str] = (),
        watched: Sequence[str] = (),
    ) -> None:
        """Remember notices and put them on their way, all or none; one that was found before stays.

        Args:
            closed: notices whose period has ended, and that was dealt with.
            watched: steps that are watched from now on.
        """
        ...

    def ended(self, now_s: int, limit: int) -> list[Ended]:
        """Accounts with open notices of a period that has ended."""
        ...

    def forget(self, before_s: int) -> None:
        """Remove notices of periods that ended before then, unless they still wait."""
        ...

    # deliveries ---------------------------------------------------------------------------

    def due(self, destination: str, now_ns: int, limit: int) -> list[Due]:
        """What is to be sent now, the first one first."""
        ...

    def waiting(self, destination: str) -> int:
        """How many notices have not been sent yet."""
        ...

    def settle(self, outcomes: Sequence[DeliveryEnd]) -> None:
        """Write what became of attempts, all or none."""
        ...

    def give_up(self, destination: str, before_ns: int, error: str) -> None:
        """Fail what was found before then and still waits."""
        ...

    def retries(self) -> int:
        """How often people have asked to send again."""
        ...

    def retry(self, now_ns: int, destination: str = "", id_prefix: str = "") -> int:
        """Send what failed or waits again, now; returns how many that are.

        Args:
            destination: only to this one, unless empty.
            id_prefix: only notices whose ids begin so.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
