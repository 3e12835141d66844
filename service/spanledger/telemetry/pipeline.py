"""The shipper's loop: rows become spans, the cursor follows, and points go out at intervals.

The cursor moves only past rows the collector has accepted, in the same transaction as the
aggregates, so totals equal the ledger whenever a process is killed. An unavailable collector is
retried forever; a row it rejects while it accepts others is dropped and logged as an error.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from spanledger.errors import LedgerUnavailableError
from spanledger.ledger.lanes import Position
from spanledger.ledger.ports import Outbox
from spanledger.ledger.rows import (
    Advance,
    AttemptRow,
    CursorMovedError,
    EndedRow,
    RequestRow,
)
from spanledger.telemetry.aggregates import Aggregates, Series
from spanledger.telemetry.conventions import Generation
from spanledger.telemetry.delivery import Delivery, MetricSender, SpanSender
from spanledger.telemetry.points import exemplar_ids, metrics_data

log = logging.getLogger("spanledger.shipper")

MUCH_CONTENT = 2**20
"""A batch with this much content (characters) may have been cut off for it."""
MAX_SKIPPED = 8
"""Most metric intervals between two attempts at an unavailable endpoint."""

Step = Literal["more", "idle", "failed"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Sizes and times of the loop."""

    batch_rows: int = 1024
    small_rows: int = 512
    """A smaller batch has everything, because half of `batch_rows` is read of each kind. So the next one
    waits: whatever is in it, a batch takes as long as fifty rows do."""
    idle_s: float = 0.2
    """Between two checks for new rows."""
    backoff_s: float = 0.5
    """After the first failure; doubles up to the maximum."""
    max_backoff_s: float = 15.0
    metric_interval_s: float = 5.0
    """Between two exports of changed series."""
    full_interval_s: float = 60.0
    """Between two exports of all series, so no store treats a quiet one as stale."""
    refusals: int = 3
    """Rejections of a batch before the search for its bad rows begins."""


class Pipeline:
    """One shipper's work on one ledger; used by one thread.

    `spans` or `metrics` is None if that signal is switched off: rows are then skipped as if they had
    been sent, and the aggregates continue.
    """

    def __init__(
        self,
        outbox: Outbox,
        spans: SpanSender | None,
        metrics: MetricSender | None,
        *,
        max_customers: int,
        pace: Pace,
        form: Generation = Generation.OLD,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._spans = spans
        self._metrics = metrics
        self._max_customers = max_customers
        self._pace = pace
        self._form = form
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._cursor: Position
        self._aggregates: Aggregates
        self._read_state()
        self._small = True
        self._failures = 0
        self._refusals = 0
        self._retry_at = 0.0
        self._metrics_at = 0.0
        self._metric_failures = 0
        self._full_at = 0.0
        self._away: dict[str, str] = {}
        self._dismissed = False

    def dismiss(self) -> None:
        """Stop as soon as possible, from another thread: the rows are somebody else's now."""
        self._dismissed = True

    def run(self, stop: threading.Event) -> None:
        """Ship until stopped, then ship what remains."""
        while not (stop.is_set() or self._dismissed):
            try:
                step = self.step()
                self.export_metrics_if_due()
            except LedgerUnavailableError as error:
                self._ledger_away(str(error))
                step = "failed"
            if step != "more" or self._small:  # waiting lets a larger batch build up
                stop.wait(self._pace.idle_s)
        self.drain()

    def drain(self) -> bool:
        """Ship everything; return whether the collector accepted it all, including metrics."""
        self._retry_at, self._pending = 0.0, True
        try:
            step: Step = "more"
            while step == "more" and not self._dismissed:
                step = self.step()
            return step == "idle" and self.export_metrics(full=True)
        except LedgerUnavailableError as error:
            self._ledger_away(str(error))
            return False

    def step(self) -> Step:
        """Ship one batch. Raises LedgerUnavailableError."""
        if self._in_doubt:
            self._read_state()
        if self._outbox.changed():
            self._pending = True
        if not self._pending:
            return "idle"
        if self._monotonic() < self._retry_at:
            return "failed"
        rows = self._outbox.read_after(self._cursor, self._pace.batch_rows)
        self._back("the ledger")
        if not rows:
            self._pending = False
            return "idle"
        self._small = len(rows) < self._pace.small_rows and _content(rows) < MUCH_CONTENT
        try:
            return "more" if self._ship(rows) else "failed"
        except CursorMovedError:
            log.warning("another shipper was still at work; going on from where it stopped")
            self._cursor = self._outbox.cursor()
            return "more"

    # spans --------------------------------------------------------------------------------

    def _ship(self, rows: Sequence[EndedRow]) -> bool:
        delivery = self._send(rows)
        if delivery.verdict == "accepted":
            self._advance(rows, delivery)
        elif delivery.verdict == "away":
            return self._failed(delivery.reason)
        elif delivery.verdict == "refused" and self._refusals + 1 < self._pace.refusals:
            self._refusals += 1
            return self._failed(delivery.reason, "the collector rejected a batch")
        elif self._spans is None or not self._spans.takes_anything():
            return self._failed(delivery.reason, "the collector rejects everything")
        elif not self._isolate(rows, delivery):
            return False
        self._failures = self._refusals = 0
        if self._back("the collector"):
            self._metrics_at = 0.0
        return True

    def _send(self, rows: Sequence[EndedRow], *, with_content: bool = True) -> Delivery:
        if self._spans is None:
            return Delivery("accepted")
        return self._spans.send(rows, with_content=with_content)

    def _isolate(self, rows: Sequence[EndedRow], delivery: Delivery) -> bool:
        """Send a rejected batch in halves, down to the rows at fault."""
        if len(rows) == 1:
            return self._send_alone(rows[0], delivery)
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            answer = self._send(half)
            if answer.verdict == "accepted":
                self._advance(half, answer)
            elif answer.verdict == "away":
                return self._failed(answer.reason)
            elif not self._isolate(half, answer):
                return False
        return True

    def _send_alone(self, row: EndedRow, delivery: Delivery) -> bool:
        """Handle a row rejected on its own: resend it without its content, else drop it."""
        assert self._spans is not None
        if isinstance(row, AttemptRow) and row.content is not None:
            answer = self._send([row], with_content=False)
            if answer.verdict == "accepted":
                log.warning("the content of request %s was rejected and left out", row.request_id)
                self._advance([row], answer)
                return True
            if answer.verdict == "away":
                return self._failed(answer.reason)
        if not self._spans.takes_anything():
            return self._failed(delivery.reason, "the collector rejects everything")
        log.error(
            "dropped a span of request %s because the collector rejects it (%s); its row stays in"
            " the ledger",
            row.request_id,
            delivery.reason,
        )
        self._advance([row], Delivery("accepted"), dropped=delivery.verdict)
        return True

    def _advance(self, rows: Sequence[EndedRow], delivery: Delivery, dropped: str = "") -> None:
        """Count rows and move the cursor past them, in one transaction."""
        now_ns = self._now_ns()
        self._aggregates.apply(rows, now_ns)
        if dropped:
            self._aggregates.count_dropped(dropped, 1, now_ns)
        if delivery.rejected:
            log.error("the collector discarded %d spans of a batch it accepted", delivery.rejected)
            self._aggregates.count_dropped("refused", delivery.rejected, now_ns)
        advance = Advance(
            from_cursor=self._cursor,
            to_cursor=self._cursor.past(rows),
            points=self._aggregates.take_changed(),
            remembered=[row for row in rows if _may_be_corrected(row)],
            with_content=[r for r in rows if isinstance(r, AttemptRow) and r.content is not None],
        )
        self._in_doubt = True
        self._outbox.advance(advance)
        self._in_doubt = False
        self._cursor = advance.to_cursor

    def _read_state(self) -> None:
        """Go on from what the ledger has. After a failure it alone knows whether the batch was counted:
        a commit whose answer was lost may have been made."""
        self._cursor = self._outbox.cursor()
        self._aggregates = Aggregates(
            self._outbox.points(),
            max_customers=self._max_customers,
            series_lead_ns=self._interval_ns,
        )
        self._in_doubt, self._pending = False, True

    # metrics ------------------------------------------------------------------------------

    @property
    def _interval_ns(self) -> int:
        return int(self._pace.metric_interval_s * 1e9)

    def export_metrics_if_due(self) -> None:
        """Export changed series every interval, and all series every full interval."""
        now = self._monotonic()
        if now < self._metrics_at:
            return
        full = now >= self._full_at
        if self.export_metrics(full=full):
            self._metric_failures = 0
            self._metrics_at = now + self._pace.metric_interval_s
            if full:
                self._full_at = now + self._pace.full_interval_s
        else:  # the exporter's own retries took seconds: give the spans a turn
            self._metric_failures = min(self._metric_failures + 1, MAX_SKIPPED)
            pause = self._pace.metric_interval_s * self._metric_failures
            self._metrics_at = self._monotonic() + pause

    def export_metrics(self, *, full: bool) -> bool:
        """Export points: first the zeros of new series, then the values."""
        if self._metrics is None:
            return True
        if self._in_doubt:
            self._read_state()
        new = [series for series in self._aggregates.series if not series.zero_sent]
        # One interval back: the value follows at once, and no timestamp is in the future.
        if new and not self._send_points(new, self._now_ns() - self._interval_ns, zero=True):
            return False
        for series in new:
            series.zero_sent = True
        due = [series for series in self._aggregates.series if full or series.dirty]
        if due and not self._send_points(due, self._now_ns(), zero=False):
            return False
        for series in due:
            series.dirty = False
            series.exemplars_sent = exemplar_ids(series)
        return True

    def _send_points(self, series: Sequence[Series], at_ns: int, *, zero: bool) -> bool:
        assert self._metrics is not None
        resource, form = self._metrics.resource, self._form
        data = metrics_data(series, resource, at_ns, zero=zero, form=form)
        delivery = self._metrics.send(data)
        if delivery.verdict != "accepted":
            who = "the metrics endpoint"
            self._gone(who, f"cannot reach {who}", delivery.reason)
            return False
        self._back("the metrics endpoint")
        return True

    # state --------------------------------------------------------------------------------

    def _failed(self, reason: str, problem: str = "cannot reach the collector") -> bool:
        """Record a failure and schedule the retry."""
        self._gone("the collector", problem, reason)
        pause = min(self._pace.max_backoff_s, self._pace.backoff_s * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at = self._monotonic() + pause * random.uniform(0.5, 1.0)
        return False

    def _ledger_away(self, reason: str) -> None:
        self._gone("the ledger", "cannot use the ledger", reason)
        self._retry_at = self._monotonic() + self._pace.backoff_s
        self._pending = True

    def _gone(self, who: str, problem: str, reason: str) -> None:
        """Log a problem once, and again when it or its reason changes."""
        text = f"{problem} ({reason})"
        if self._away.get(who) != text:
            self._away[who] = text
            log.warning("%s; nothing is lost, retrying", text)

    def _back(self, who: str) -> bool:
        """Log a recovery; return whether there was an outage."""
        was_away = self._away.pop(who, None) is not None
        if was_away:
            log.info("%s is back", who)
        return was_away


def _content(rows: Sequence[EndedRow]) -> int:
    """How much content is in a batch, in characters."""
    return sum(len(row.content or "") for row in rows if isinstance(row, AttemptRow))


def _may_be_corrected(row: EndedRow) -> bool:
    """Whether the ledger may deliver this row again with another cost."""
    if row.shipped_nano is not None:
        return True
    if isinstance(row, RequestRow):
        return row.outcome == "abandoned" or bool(row.open)
    return row.state == "expired"
