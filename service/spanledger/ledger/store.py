"""The ledger's contract: the records it takes and gives, whatever database is below.

Each attempt at a provider is one durable row. `reserve` holds money on every matching budget before
the request leaves, `finish` ends the attempt (settle or release) and, with its last attempt, the
request. All are idempotent by attempt id. Times are Unix nanoseconds, money is nano-USD.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Scope = Literal["customer", "key", "team", "model", "provider", "global"]
SCOPES: tuple[Scope, ...] = ("customer", "key", "team", "model", "provider", "global")
PeriodKind = Literal["day", "week", "month"]
Action = Literal["block", "warn"]
AttemptState = Literal["held", "settled", "released", "expired"]
Outcome = Literal["ok", "error", "refused", "cancelled", "abandoned"]
"""`abandoned`: the gateway died; the sweep ended the request."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on what a subject may spend in each period.

    `subject` is a name, or `*`: each subject of the scope has the limit for itself. For scope
    `global` it is always `*` and means everybody together.
    """

    name: str
    scope: Scope
    subject: str
    limit_nano: int
    period: PeriodKind
    timezone: str = "UTC"
    action: Action = "block"
    thresholds: tuple[int, ...] = (50, 80, 95)
    strict: bool = False
    """Lower `max_tokens` to what the money buys instead of refusing."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget's account in its current period: what people and `/metrics` look at."""

    budget: Budget
    subject: str
    """The account's own subject; differs from the budget's when that is `*`."""
    spent_nano: int
    held_nano: int
    overrun_nano: int
    period_start_s: int
    period_end_s: int


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One line of a budget's history: who changed what, when."""

    at_ns: int
    change: Literal["set", "remove"]
    budget: Budget


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as stored: its digest identifies it, the key itself is not kept."""

    id: str
    """Short public name of the key (`key_` and 12 hex digits), safe to log."""
    digest: str
    """SHA-256 of the whole key, hex."""
    customer: str
    team: str
    routes: tuple[str, ...]
    """Routes the key may use; empty = all."""
    created_ns: int
    revoked_ns: int | None


UNSAMPLED = "-00"
"""After a caller's span id: its `traceparent` says that it does not sample the trace."""


@dataclass(frozen=True, slots=True)
class RequestStart:
    """What is known of a request before its first attempt; ids are lower-case hex."""

    request_id: str
    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty when the caller sent no `traceparent`; ends in `UNSAMPLED` if it said `-00`."""
    started_ns: int
    customer: str
    team: str
    key_id: str
    route: str
    operation: str
    """The name of the wire it came in on, such as `chat`."""
    stream: bool


class HoldSizes(NamedTuple):
    """How much an attempt wants held, nano-USD, largest first.

    `full` is the bound on its cost (own cap, or all the model can answer). `usual` is what the
    route's history says; equal to `full` when the caller set a cap. `least` is the smallest
    useful hold and is used on blocking `strict` budgets only. See docs/budgets.md for the ladder.
    """

    full: int
    usual: int
    least: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """An attempt that wants to leave."""

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
    """Route left behind; empty within a route."""
    reason: str = ""
    """`error.type` of the attempt before, or what kept the route from a first one."""
    unbounded: str = ""
    """Why nothing bounds its cost; it is then refused where a budget blocks."""
    repeat: bool = False
    """Asked before, and the answer was lost: the row, where there is one, says what was held."""

    @property
    def attempt_id(self) -> str:
        """The idempotency key of every event of this attempt."""
        return f"{self.request.request_id}.{self.number}"


@dataclass(frozen=True, slots=True)
class Hold:
    """A granted reservation.

    Attributes:
        hold_nano: what is held; below `sizes.full` the caller must cap the output accordingly.
        decision: `warn` when a budget with action warn is over its limit.
        warned: names of those budgets.
        remaining_nano: the least `limit - spent - held` over all blocking budgets after this
            hold, never less than zero; None when no blocking budget applies.
    """

    attempt_id: str
    hold_nano: int
    decision: Literal["allow", "warn"]
    warned: tuple[str, ...]
    remaining_nano: int | None


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How a request ended; rides on the finish of its last attempt, or alone when none was made."""

    outcome: Outcome
    error_type: str
    http_status: int
    ended_ns: int
    refused_by: str = ""
    """Name of the budget, when outcome is `refused`."""
    refused_scope: str = ""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended. `cost_nano` None releases the hold (nothing billed), else settles."""

    attempt_id: str
    ended_ns: int
    cost_nano: int | None
    estimated: bool = False
    """Tokens were counted by us: the provider reported none."""
    unpriced: bool = False
    error_type: str = ""
    http_status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    first_chunk_ns: int = 0
    """When the first content of a stream came; 0 when there was none."""
    chunks: int = 0
    """Events with content in the stream."""
    response_model: str = ""
    detail: str = "{}"
    """JSON object of further span attributes, by their final names."""
    content: str | None = None
    """JSON object of captured content attributes (telemetry.content); dropped once shipped."""
    request: RequestEnd | None = None
    """Set on the last try: the request ends in the same transaction."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a finish did."""

    cost_nano: int
    overrun_nano: int
    remaining_nano: int | None


@dataclass(slots=True)
class Verification:
    """What `ledger verify` found; `problems` empty means every figure follows from the rows."""

    attempts: int = 0
    requests: int = 0
    balances: int = 0
    pruned_balances: int = 0
    """Those of periods from which rows were pruned: no less than the rows say."""
    spent_nano: int = 0
    held_nano: int = 0
    open_attempts: int = 0
    problems: list[str] = field(default_factory=list)


class Ledger(Protocol):
    """The hot path: what routing calls. Implementations group concurrent calls into one commit."""

    async def reserve(self, reservation: Reservation) -> Hold:
        """Hold money on every matching budget, or on none.

        Raises:
            BudgetExceededError: a blocking budget has no room.
            UnpricedModelError: a budget blocks and the model has no price.
            UnboundedCostError: a budget blocks and nothing bounds what the request costs.
            LedgerUnavailableError: the commit failed; nothing is held.
        """
        ...

    async def finish(self, end: AttemptEnd) -> Settled:
        """Settle or release a hold; a second call with the same attempt id changes nothing.

        Raises:
            LedgerUnavailableError: the commit failed; the sweep will expire the hold.
        """
        ...

    async def end_request(self, start: RequestStart, end: RequestEnd) -> None:
        """End a request outside a try: refused, invalid, or given up between two attempts."""
        ...

    async def find_key(self, digest: str) -> Key | None:
        """Look a key up by its full digest; revoked keys are returned as such."""
        ...

    async def check(self) -> None:
        """Raises LedgerUnavailableError when it cannot be read, or its last commit failed."""
        ...

    async def has_keys(self) -> bool:
        """Whether any key was ever made; until then the gateway is open to its own machine."""
        ...
