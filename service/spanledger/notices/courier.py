"""Sends what waits in the outbox, each destination in a thread of its own, and writes what became of it.

A notice is sent first and marked afterwards. So after a crash in between it is sent again, with the same id. A
destination that fails gets one attempt after a pause, which grows; what waits for it waits, and no other destination
does.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from spanledger.clock import NANOS
from spanledger.ledger.notices import DeliveryEnd, Due, NoticeBook
from spanledger.notices.posting import Reply
from spanledger.notices.senders import Sender

log = logging.getLogger("spanledger.notices")

RETRY_PAUSES_S = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 21_600)
"""The pause after the first failure, the second, and so on; then the last one."""
GIVE_UP_S = 3 * 86_400
"""What was found longer ago than this is not sent again after a failure."""
MAX_AGAIN_S = 6 * 3_600.0
"""A receiver's own `Retry-After` counts up to this."""
IN_ONE_GO = 100
"""Notices that a destination gets before the marks are written."""
GO_S = 20.0
"""After this long, no further message of a go is begun."""


class _Sent(NamedTuple):
    dues: Sequence[Due]
    reply: Reply


class _Go(threading.Thread):
    """Sends some notices to one destination, until one fails for a reason that is the destination's."""

    def __init__(self, sender: Sender, dues: Sequence[Due], monotonic: Callable[[], float]) -> None:
        super().__init__(name=f"notices to {sender.name}", daemon=True)
        self.sender = sender
        self._dues = dues
        self._until = monotonic() + GO_S
        self._monotonic = monotonic
        self.sent: list[_Sent] = []

    def run(self) -> None:
        """Send."""
        most = self.sender.most
        for first in range(0, len(self._dues), most):
            some = self._dues[first : first + most]
            try:
                reply = self.sender.send([due.notice for due in some])
            except Exception:
                log.exception("destination %r: a notice cannot be sent", self.sender.name)
                reply = Reply(
                    False, "internal error; the log of the process has it", about="message"
                )
            self.sent.append(_Sent(some, reply))
            if not reply.ok and reply.about == "destination":
                return
            if self._monotonic() > self._until:
                return


class Courier:
    """Sends for one ledger; used by one thread."""

    def __init__(
        self,
        book: NoticeBook,
        senders: Sequence[Sender],
        monotonic: Callable[[], float],
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),
    ) -> None:
        self._book = book
        self._senders = senders
        self._monotonic = monotonic
        self._jitter = jitter
        self._going: dict[str, _Go] = {}
        self._failures: dict[str, int] = {}
        self._paused_ns: dict[str, int] = {}
        self._retries = book.retries()

    def step(self, now_ns: int) -> None:
        """Write what has ended, and send what is due."""
        self._collect(now_ns)
        retries = self._book.retries()
        if retries != self._retries:  # somebody says that it works again
            self._retries = retries
            self._failures.clear()
            self._paused_ns.clear()
        for sender in self._senders:
            if sender.name not in self._going and self._paused_ns.get(sender.name, 0) <= now_ns:
                dues = self._book.due(sender.name, now_ns, IN_ONE_GO)
                if dues:
                    go = self._going[sender.name] = _Go(sender, dues, self._monotonic)
                    go.start()

    def finish(self, now_ns: Callable[[], int], timeout_s: float) -> None:
        """Wait for what is being sent, and write what became of it."""
        until = self._monotonic() + timeout_s
        for go in list(self._going.values()):
            go.join(max(0.0, until - self._monotonic()))
        self._collect(now_ns())

    @property
    def busy(self) -> bool:
        """Whether anything is being sent."""
        return bool(self._going)

    def _collect(self, now_ns: int) -> None:
        for name, go in list(self._going.items()):
            if go.is_alive():
                continue
            outcomes: list[DeliveryEnd] = []
            for dues, reply in go.sent:
                outcomes += self._outcomes(name, dues, reply, now_ns)
            self._book.settle(outcomes)
            del self._going[name]  # only now: while the ledger is unavailable, this is tried again
            if go.sent:
                self._note(name, go.sent[-1].reply, now_ns)

    def _outcomes(
        self, name: str, dues: Sequence[Due], reply: Reply, now_ns: int
    ) -> list[DeliveryEnd]:
        found = []
        for notice, attempts in dues:
            if reply.ok:
                found.append(DeliveryEnd(notice.id, name, "sent", now_ns, reply.error))
            elif reply.about == "for good" or now_ns - notice.at_ns >= GIVE_UP_S * NANOS:
                found.append(DeliveryEnd(notice.id, name, "failed", now_ns, reply.error))
                log.error(
                    "destination %r: gave up on notice %s (%s); `spanledger notices retry %s` sends it again",
                    *(name, notice.id, reply.error, notice.id),
                )
            else:
                due_ns = now_ns + self._pause_ns(attempts, reply)
                found.append(DeliveryEnd(notice.id, name, "waiting", due_ns, reply.error))
        return found

    def _pause_ns(self, failures: int, reply: Reply) -> int:
        pause_s = RETRY_PAUSES_S[min(failures, len(RETRY_PAUSES_S) - 1)] * self._jitter()
        return int(max(pause_s, min(reply.again_s, MAX_AGAIN_S)) * NANOS)

    def _note(self, name: str, reply: Reply, now_ns: int) -> None:
        """Pause a destination after a failure of its own, and log when it changes."""
        if reply.ok or reply.about != "destination":
            if self._failures.pop(name, 0):
                log.info("destination %r accepts notices again", name)
            self._paused_ns.pop(name, None)
            if not reply.ok:
                log.warning("destination %r did not accept a notice: %s", name, reply.error)
            return
        failures = self._failures.get(name, 0)
        pause_ns = self._pause_ns(failures, reply)
        self._failures[name] = failures + 1
        self._paused_ns[name] = now_ns + pause_ns
        if not failures:
            log.warning(
                "destination %r: %s; nothing is lost, retrying", name, reply.error or "not accepted"
            )
        self._book.give_up(name, now_ns - GIVE_UP_S * NANOS, reply.error)
