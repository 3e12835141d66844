"""A ledger of each kind, somebody who watches it, and destinations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanledger.config.notices import AnyDestination, WebhookDestination
from spanledger.errors import BudgetExceededError
from spanledger.ledger.model import RequestEnd
from spanledger.ledger.notices import NoticeBook
from spanledger.notices.watch import Watcher
from tests.service.ledger.conftest import Book, book, store

__all__ = ["Rig", "book", "rig", "store"]

CENT = 10**7
SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
URL = "http://127.0.0.1:9/"


def hook(name: str = "hook", **settings: Any) -> WebhookDestination:
    """A destination of webhooks."""
    return WebhookDestination.model_validate(
        {"name": name, "kind": "webhook", "url": URL, "secrets": [SECRET], **settings}
    )


class Rig:
    """A ledger, and what is found in it."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.notices: NoticeBook = book.store.notices()
        self._watchers: list[Watcher] = []

    def watch(self, *destinations: AnyDestination) -> Watcher:
        """Begin to watch, as a process that starts."""
        watcher = Watcher(self.notices, destinations or [hook()])
        watcher.begin(self.book.time.now)
        self._watchers = [watcher]
        return watcher

    def look(self) -> None:
        """Look once, two seconds later: far enough apart for everything but a sweep."""
        self.book.time.now += 2 * SECOND
        while self._watchers[0].look(self.book.time.now):
            pass

    def sweep(self) -> None:
        """Look a minute later, so that all budgets are looked at."""
        self.book.time.now += 60 * SECOND
        self.look()

    async def spend(self, cents: float, **who: Any) -> None:
        """A request that costs so much."""
        nano = int(cents * CENT)
        reservation = self.book.reservation(nano, **who)
        await self.book.ledger.reserve(reservation)
        await self.book.ledger.finish(self.book.end(reservation, nano))

    async def refused(self, cents: float, **who: Any) -> None:
        """A request that a budget refuses."""
        reservation = self.book.reservation(int(cents * CENT), **who)
        with pytest.raises(BudgetExceededError) as caught:
            await self.book.ledger.reserve(reservation)
        end = RequestEnd(
            "refused",
            "budget_exceeded",
            429,
            self.book.time.now,
            caught.value.refusal.budget,
            caught.value.refusal.scope,
        )
        await self.book.ledger.end_request(reservation.request, end)

    def told(self, destination: str = "hook") -> list[str]:
        """What is on its way to a destination, oldest first: budget, subject and step."""
        return self._texts(lambda found: found == destination)

    def silent(self) -> list[str]:
        """What is only remembered."""
        return self._texts(lambda found: not found)

    def _texts(self, wanted: Callable[[str], bool]) -> list[str]:
        with self.book.store.reports() as reports:
            found = reports.notices(10_000)
        rows = [(d.notice.at_ns, d.notice) for d in found if wanted(d.destination)]
        return [
            f"{notice.account.budget} {notice.account.subject} {notice.step}"
            for _, notice in sorted(
                rows, key=lambda row: (row[0], row[1].account, _order(row[1].step))
            )
        ]

    def data(self, step: str) -> dict[str, Any]:
        """The figures of the newest notice of a step."""
        with self.book.store.reports() as reports:
            found = reports.notices(10_000)
        texts = [d.notice.data for d in found if d.notice.step == step]
        data: dict[str, Any] = json.loads(texts[0])
        return data

    def close(self) -> None:
        """Close the connection."""
        self.notices.close()


def _order(step: str) -> int:
    return int(step) if step.isdecimal() else 1_000


@pytest.fixture
def rig(book: Book) -> Iterator[Rig]:
    """A ledger of each kind, and nobody watching yet."""
    rig = Rig(book)
    yield rig
    rig.close()
