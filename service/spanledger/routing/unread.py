"""Batches and answers in the background that nobody reads: a gateway reads them, so that they cost what
they are billed and not an estimate, and their holds end soon.

One gateway of a ledger does it at a time. It asks each provider a few questions at once, the more
rarely the older a result is, and none where a deployment cools down. A result is charged once, by
the first one that reads it. After a failure its hold stays as it is; what its provider does not have any
more, and what no deployment of the configuration can ask for, is left to the estimate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from spanledger.clock import NANOS, Clock
from spanledger.errors import LedgerUnavailableError, ProviderError, SpanledgerError
from spanledger.ledger.model import Unread
from spanledger.ledger.ports import Ledger, Lock
from spanledger.routing.batches import Batches
from spanledger.routing.health import Health, sensible_retry_after
from spanledger.routing.kept import KeptCalls
from spanledger.routing.late import LateAnswers, LateState
from spanledger.routing.stores import is_gone
from spanledger.wires import RESPONSES

ROUND_S = 30.0
"""Between two looks at what is unread, give or take a quarter."""
MAX_UNREAD = 10_000
"""Results that one look sees; those whose hold ends first."""
MAX_ASKED = 200
"""Questions of one look; the rest is asked at the next."""
AT_ONCE = 4
"""Questions that are open at the same time."""
FIRST_S = {"answer": 120.0, "batch": 600.0}
"""A result of this age is asked for. Callers mostly read it before."""
SHARE = 4
"""Then it is asked for again when it is older by this fraction of its age,"""
MOST_S = 3_600.0
"""or after an hour at the latest,"""
LAST_S = 600.0
"""and this long before its hold ends."""
SPREAD_S = 60.0
"""After a start, what is due is asked for within this time."""
PAUSE_S = 60.0
"""After a failure nothing is asked at that deployment, unless its provider says for how long."""
EXPIRED_S = 4 * 24 * 3_600
"""Results of older requests are not asked for. A hold expires after two days or one, if no gateway was
running, and its estimate may still be corrected."""

log = logging.getLogger(__name__)


def wait_s(kind: str, age_s: float, left_s: float) -> float:
    """How long to wait after a question about a result that was not there, by its age and the time
    that is left of its hold, negative if that has expired."""
    wait = min(MOST_S, max(FIRST_S[kind], age_s / SHARE))
    return min(wait, left_s - LAST_S) if left_s > LAST_S else wait


class UnreadResults:
    """Reads them."""

    def __init__(
        self,
        ledger: Ledger,
        kept: KeptCalls,
        late: LateAnswers,
        batches: Batches,
        health: Health,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._kept = kept
        self._late = late
        self._batches = batches
        self._health = health
        self._clock = clock
        self._due: dict[str, float] = {}  # by request, monotonic seconds
        self._paused: dict[str, float] = {}  # until when, by deployment

    async def run(self, exclusive: Callable[[], Lock]) -> None:
        """Read until cancelled, while no other gateway of the ledger does."""
        clock, told = self._clock, ""
        lock: Lock | None = None
        try:
            while True:
                await clock.sleep(ROUND_S * clock.rng.uniform(0.75, 1.25))
                try:
                    if lock is None:
                        lock = await asyncio.to_thread(exclusive)
                    if await asyncio.to_thread(lock.acquire):
                        await self.look()
                    told = ""
                except LedgerUnavailableError as error:
                    if told != str(error):
                        told = str(error)
                        log.warning("batches and answers that nobody reads are not read: %s", error)
                    if lock is not None:  # its connection may be lost
                        lock.close()
                        lock = None
        finally:
            if lock is not None:
                lock.close()

    async def look(self) -> int:
        """Ask for what is due now, and return how many were charged.

        Raises:
            LedgerUnavailableError: it is unknown what that is.
        """
        since_ns = self._clock.now_ns() - EXPIRED_S * NANOS
        listed = await self._ledger.list_unread(since_ns, MAX_UNREAD)
        now = self._clock.monotonic()
        self._due = {each.request_id: self._when(each, now) for each in listed}
        due = [each for each in listed if self._due[each.request_id] <= now and self._asks(each)]
        charged, waiting = 0, iter(due[:MAX_ASKED])

        async def ask() -> None:
            nonlocal charged
            for each in waiting:
                if self._available(each.deployment) and await self._ask(each):
                    charged += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(due))):
                group.create_task(ask())
        return charged

    def _when(self, each: Unread, now: float) -> float:
        """When a result is due. What this process has not seen before may long have been."""
        known = self._due.get(each.request_id)
        if known is not None:
            return known
        age_s, left_s = self._times(each)
        if left_s <= LAST_S and left_s > 0:
            return now
        return now + max(FIRST_S[each.kind] - age_s, self._clock.rng.uniform(0, SPREAD_S))

    def _times(self, each: Unread) -> tuple[float, float]:
        """The age of a result, and what is left of its hold, in seconds."""
        now_ns = self._clock.now_ns()
        return (now_ns - each.started_ns) / NANOS, (each.until_ns - now_ns) / NANOS

    def _asks(self, each: Unread) -> bool:
        """Whether the configuration has the deployment of a result."""
        return self._kept.deployment(each.deployment) is not None

    def _available(self, deployment: str) -> bool:
        now = self._clock.monotonic()
        return self._health.states[deployment].available(now, 0) and (
            now >= self._paused.get(deployment, now)
        )

    async def _ask(self, each: Unread) -> bool:
        """Whether a result was there and is charged."""
        seen: LateState = "open"
        try:
            seen = await (self._answer(each) if each.kind == "answer" else self._batch(each))
            wait = wait_s(each.kind, *self._times(each))
        except SpanledgerError as error:
            wait = PAUSE_S
            if isinstance(error, ProviderError):
                wait = max(PAUSE_S, sensible_retry_after(error.retry_after_s) or 0.0)
                self._paused[each.deployment] = self._clock.monotonic() + wait
            log.info("%s %s could not be read: %s", each.kind, each.request_id, error)
        self._due[each.request_id] = self._clock.monotonic() + wait
        if seen == "charged":
            log.info(
                "%s %s was read, as nobody else did, and is charged", each.kind, each.request_id
            )
        elif seen == "gone":
            self._due[each.request_id] = float("inf")
            log.info(
                "%s %s is not at its provider any more; it is charged as estimated",
                each.kind,
                each.request_id,
            )
        return seen == "charged"

    async def _answer(self, each: Unread) -> LateState:
        kept = await self._ledger.find_kept(each.request_id)
        answer = await self._ledger.find_answer(each.request_id, RESPONSES.name)
        if kept is None or answer is None or not answer.open:
            return "open"  # somebody has read it meanwhile
        seen = await self._late.read(each.request_id, kept.provider_id, answer)
        if seen == "gone":
            await self._ledger.change_kept(each.request_id, None)
        return seen

    async def _batch(self, each: Unread) -> LateState:
        kept = await self._ledger.find_kept(each.request_id)
        deployment = self._batches.stores.find(each.deployment)
        if kept is None or deployment is None:
            return "open"
        try:
            known, _ = await self._batches.refreshed(kept, deployment, must_settle=True)
        except ProviderError as error:
            if not is_gone(error):
                raise
            return "gone"
        return "charged" if known.settled else "open"
