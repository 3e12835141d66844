"""The ledger's contract: the records it accepts and returns, whatever database is underneath.

Each attempt at a provider is one durable row. `reserve` holds money on every matching budget before
the request is sent; `finish` ends the attempt (settle or release) and, with the last attempt, the
request. All are idempotent by attempt id. Times are Unix nanoseconds, money is nano-USD.

Records that every request creates are msgspec structs, which cost a third of a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from spanledger.budgets.model import HoldSizes
from spanledger.errors import SpanledgerError

AttemptState = Literal["held", "settled", "released", "expired"]
Outcome = Literal["ok", "error", "refused", "cancelled", "abandoned"]
"""`abandoned`: the gateway died; the sweep ended the request."""

MAX_TAGS = 16
"""Of a request, with those of its key."""
MAX_LEASE_NS = 3_600 * 10**9
"""A lease that ends later than this dates from before the clock was set back."""
UNKNOWN_ROUTE = "unknown"
"""Recorded instead of the name of a model that is not configured: names chosen by callers would
create an unbounded number of series."""


UNSAMPLED = "-00"
"""Suffix of a caller's span id if its `traceparent` says the trace is not sampled."""


class RequestStart(msgspec.Struct, frozen=True):
    """What is known about a request before its first attempt; ids are lower-case hex."""

    request_id: str
    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty if the caller sent no `traceparent`; ends in `UNSAMPLED` if that was not sampled."""
    started_ns: int
    customer: str
    team: str
    key_id: str
    route: str
    operation: str
    """The name of the wire it came in on, such as `chat`."""
    stream: bool
    user: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    """In order, without repeats."""


class Reservation(msgspec.Struct, frozen=True):
    """A request to start an attempt."""

    request: RequestStart
    number: int
    """1 for the first attempt of the request."""
    span_id: str
    now_ns: int
    deployment: str
    provider: str
    model: str
    sizes: HoldSizes
    priced: bool
    price_id: str
    fallback_from: str = ""
    """The route it falls back from; empty within a route."""
    reason: str = ""
    """`error.type` of the previous attempt, or why the first one could not use the route."""
    unbounded: str = ""
    """Why its cost has no bound; it is then refused if a budget blocks."""
    repeat: bool = False
    """A repeat whose first answer was lost: an existing row says what was held."""
    charge_rule: str = ""
    """By which its customer is charged (`ChargeRule.text`); empty: what it costs."""
    only_ledger: bool = False
    """It is never held in a journal: nothing bounds its cost, or what it makes must be found again."""
    route: str = ""
    """The route of the attempt, if that is not the request's."""
    movable: bool = False
    """A budget near its limit may send it to another route."""
    moved_by: tuple[str, ...] = ()
    """Budgets that have sent the request to this route."""

    @property
    def attempt_id(self) -> str:
        """The idempotency key of every event of this attempt."""
        return f"{self.request.request_id}.{self.number}"


class Hold(msgspec.Struct, frozen=True):
    """A granted reservation.

    Attributes:
        hold_nano: the amount held; if below `sizes.full`, the caller must cap the output accordingly.
        decision: `warn` if a budget with action `warn` is over its limit.
        warned: names of those budgets.
        remaining_nano: the least `limit - spent - held` over all blocking budgets after this
            hold, at least zero; None if no blocking budget applies.
        journaled: it is held in this process's journal, because the ledger is unavailable;
            `remaining_nano` is what may still be spent meanwhile.
    """

    attempt_id: str
    hold_nano: int
    decision: Literal["allow", "warn"]
    warned: tuple[str, ...]
    remaining_nano: int | None
    journaled: bool = False


class RequestEnd(msgspec.Struct, frozen=True):
    """How a request ended; sent with the end of its last attempt, or alone if none was made."""

    outcome: Outcome
    error_type: str
    http_status: int
    ended_ns: int
    refused_by: str = ""
    """Name of the budget, if the outcome is `refused`."""
    refused_scope: str = ""


KeptKind = Literal["file", "batch", "answer"]
"""An `answer` is one in the background, until it is charged."""


class Kept(msgspec.Struct, frozen=True):
    """Something that a provider keeps for a caller, found by the request that made it.

    Attributes:
        about: a JSON object of what the gateway has to know of it.
    """

    request_id: str
    kind: KeptKind
    customer: str
    team: str
    deployment: str
    provider_id: str
    created_ns: int
    about: str


class Later(msgspec.Struct, frozen=True):
    """A hold that outlives its request, because what it pays for is still to be written.

    Attributes:
        until_ns: when it expires, if nobody has learned the cost by then.
        expected_nano: what is charged in that case, as an estimate; never more than the hold.
        detail: what is known of the attempt by now, as in its end.
    """

    until_ns: int
    expected_nano: int
    detail: str = "{}"


class Unread(NamedTuple):
    """A result that was not seen yet, whose attempt is held or has expired.

    Attributes:
        until_ns: when its hold expires.
    """

    request_id: str
    kind: KeptKind
    deployment: str
    started_ns: int
    until_ns: int


class AttemptEnd(msgspec.Struct, frozen=True):
    """How an attempt ended. `cost_nano` None releases the hold (nothing billed); a number settles it."""

    attempt_id: str
    ended_ns: int
    cost_nano: int | None
    estimated: bool = False
    """We counted the tokens: the provider reported none, or reported them ambiguously."""
    unpriced: bool = False
    error_type: str = ""
    http_status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    first_chunk_ns: int = 0
    """When the first content of a stream arrived; 0 if there was none."""
    chunks: int = 0
    """Events with content in the stream."""
    response_model: str = ""
    detail: str = "{}"
    """JSON object of further span attributes, by their final names."""
    content: str | None = None
    """JSON object of captured content attributes (telemetry.content); dropped once shipped."""
    request: RequestEnd | None = None
    """Set on the last attempt: the request ends in the same transaction."""
    list_nano: int | None = None
    """What it would cost without any contract; None: the same, as far as anybody knows."""
    late: bool = False
    """Its request has ended before (`Later`), and gets the cost now."""


class Settled(msgspec.Struct, frozen=True):
    """The result of a finish."""

    cost_nano: int
    overrun_nano: int
    remaining_nano: int | None


@dataclass(frozen=True, slots=True)
class EndRequest:
    """End a request outside an attempt; with `later`, its attempt stays held."""

    start: RequestStart
    end: RequestEnd
    kept: Kept | None = None
    later: Later | None = None


@dataclass(frozen=True, slots=True)
class ChangeKept:
    """Replace what is known of something that a provider keeps, or forget it."""

    request_id: str
    about: str | None


class Journaled(msgspec.Struct, frozen=True):
    """Record an attempt that was held in a journal while the ledger was unavailable, whatever room
    its budgets have; one that is recorded already stays as it is.

    Attributes:
        owner: the process that began it, if that is dead and its end is unknown; else empty.
    """

    reservation: Reservation
    hold_nano: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Renew this process's lease, and expire the holds of owners whose lease has ended."""

    now_ns: int
    max_hold_ns: int
    """No hold lives longer than this, even if its owner is alive."""
    used: tuple[tuple[str, int], ...] = ()
    """Ids of keys that were used, with the time of their last use."""


LedgerOperation = Reservation | AttemptEnd | EndRequest | ChangeKept | Sweep | Journaled
LedgerResult = Hold | Settled | int | None | SpanledgerError


@dataclass(slots=True)
class Verification:
    """What `ledger verify` found; empty `problems` means every figure follows from the rows."""

    attempts: int = 0
    requests: int = 0
    balances: int = 0
    pruned_balances: int = 0
    """Balances of periods with pruned rows: at least what the remaining rows add up to."""
    spent_nano: int = 0
    held_nano: int = 0
    open_attempts: int = 0
    problems: list[str] = field(default_factory=list)


class KeptAnswer(NamedTuple):
    """An answer that its provider may keep.

    Attributes:
        tokens: of its input and output, which a request that continues it has as well; 0 where
            the provider has not counted them.
        number: of the attempt that made it.
        model: as the attempt's row has it.
        open: its cost is not known yet: it is held, or expired.
        expected_nano: what its cost is expected to be, while it is open.
        detail: what was known of the attempt when its request ended, as in an attempt's end.
        began_ns: when its request began.
    """

    customer: str
    team: str
    deployment: str
    tokens: int
    number: int = 1
    model: str = ""
    open: bool = False
    expected_nano: int = 0
    detail: str = "{}"
    began_ns: int = 0
