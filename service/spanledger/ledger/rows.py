"""Rows of the ledger as its readers get them: the shipper's, and those of reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spanledger.budgets.scopes import SCOPE_NAMES
from spanledger.ledger.lanes import Position
from spanledger.ledger.model import UNSAMPLED

RawRow = dict[str, Any]
"""A row of a table by the names of its columns."""


class AttemptRow(NamedTuple):
    """An ended attempt, with the request's fields its span needs."""

    lane: int
    seq: int
    request_id: str
    number: int
    trace_id: str
    span_id: str
    parent_span_id: str
    route: str
    operation: str
    stream: int
    state: str
    started_ns: int
    ended_ns: int
    first_chunk_ns: int
    chunks: int
    customer: str
    team: str
    key_id: str
    deployment: str
    provider: str
    model: str
    response_model: str
    fallback_from: str
    reason: str
    cost_nano: int
    overrun_nano: int
    price_id: str
    estimated: int
    unpriced: int
    corrected: int
    decision: str
    error_type: str
    http_status: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    detail: str
    content: str | None
    shipped_nano: int | None
    caller_span_id: str
    user_id: str = ""
    project: str = ""
    tags: str = ""
    """A JSON array, or empty."""
    charge_rule: str = ""
    list_nano: int | None = None
    charge_nano: int | None = None
    hold_nano: int = 0

    @property
    def sampled(self) -> bool:
        """Whether the trace is sampled: as the caller decided, else yes."""
        return not self.caller_span_id.endswith(UNSAMPLED)


class RequestRow(NamedTuple):
    """An ended request."""

    lane: int
    seq: int
    request_id: str
    trace_id: str
    span_id: str
    parent_span_id: str
    started_ns: int
    ended_ns: int
    customer: str
    team: str
    key_id: str
    route: str
    operation: str
    outcome: str
    error_type: str
    http_status: int
    refused_by: str
    refused_scope: str
    attempts: int
    cost_nano: int
    decision: str
    shipped_nano: int | None
    open: int = 0
    """An attempt of it is still held: its cost is not known yet."""
    user_id: str = ""
    project: str = ""
    tags: str = ""
    """As of an attempt."""

    @property
    def sampled(self) -> bool:
        """As for an attempt."""
        return not self.parent_span_id.endswith(UNSAMPLED)


EndedRow = AttemptRow | RequestRow


class PointRow(NamedTuple):
    """One stored series."""

    metric: str
    attributes: str
    since_ns: int
    point: bytes


@dataclass(frozen=True, slots=True)
class Advance:
    """What one accepted batch changes, in one transaction.

    `remembered` are expired attempts, and requests that were abandoned or have an open attempt: their
    cost may be corrected later.
    """

    from_cursor: Position
    to_cursor: Position
    points: Sequence[PointRow] = ()
    remembered: Sequence[EndedRow] = ()
    with_content: Sequence[AttemptRow] = field(default=())


class CursorMovedError(RuntimeError):
    """Another shipper moved the cursor: one of the two has lost the lock and not noticed it yet."""


SPEND_BY: tuple[str, ...] = (*SCOPE_NAMES, "deployment", "day")
"""What a report of spend can be grouped by."""


@dataclass(slots=True)
class HoldRow:
    """What was held for the attempts of one group that were charged, and how much of it they used.

    Attributes:
        used: how many attempts used so much of their hold, by percent, rounded up; `OVER` is more than
            all of it.
    """

    group: tuple[str, ...]
    attempts: int = 0
    held_nano: int = 0
    cost_nano: int = 0
    overrun_nano: int = 0
    used: dict[int, int] = field(default_factory=dict)

    @property
    def overruns(self) -> int:
        """Attempts that cost more than was held."""
        return self.used.get(OVER, 0)

    def quantile(self, share: float) -> int:
        """The percentage of its hold that this share of attempts does not exceed."""
        wanted, seen = share * self.attempts, 0
        for percent, count in sorted(self.used.items()):
            seen += count
            if seen >= wanted:
                return percent
        return 0


OVER = 101
"""As a percentage: more than all of a hold."""


@dataclass(frozen=True, slots=True)
class SpendRow:
    """Spend of one group; `group` follows the requested order."""

    group: tuple[str, ...]
    cost_nano: int
    attempts: int
    failed: int
    input_tokens: int
    output_tokens: int
    estimated_nano: int
    """The part of `cost_nano` whose tokens we counted ourselves."""
    unpriced: int
    """Attempts at models without a price: their cost is missing here."""
    list_nano: int = 0
    """What `cost_nano` would be without contracts."""
    charge_nano: int = 0
    """What customers are charged."""

    @property
    def figures(self) -> tuple[int, ...]:
        """All but the group."""
        return (
            self.cost_nano,
            self.attempts,
            self.failed,
            self.input_tokens,
            self.output_tokens,
            self.estimated_nano,
            self.unpriced,
            self.list_nano,
            self.charge_nano,
        )


class Totals(NamedTuple):
    """Counts and money of some time.

    Attributes:
        failed: requests with an error, and abandoned ones.
    """

    requests: int
    failed: int
    refused: int
    attempts: int
    fallbacks: int
    cost_nano: int


class CustomerRow(NamedTuple):
    """A customer's requests."""

    customer: str
    requests: int
    failed: int
    refused: int
    cost_nano: int


class Event(NamedTuple):
    """A fallback or a refusal."""

    at_ns: int
    kind: str
    customer: str
    text: str


class EndedRequest(NamedTuple):
    """What a request that ended tells at a glance."""

    span_id: str
    started_ns: int
    ended_ns: int
    customer: str
    route: str
    outcome: str
    refused_by: str
    cost_nano: int


class EndedAttempt(NamedTuple):
    """What an attempt that ended tells at a glance."""

    span_id: str
    started_ns: int
    ended_ns: int
    first_chunk_ns: int
    customer: str
    provider: str
    deployment: str
    model: str
    state: str
    fallback_from: str
    reason: str
    error_type: str
    cost_nano: int
