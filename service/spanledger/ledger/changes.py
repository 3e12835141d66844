"""What one transaction writes: rows in the order of the columns that are named here.

The engine decides them, and a store writes them, table by table in the order of the fields of
`Changes`, with one statement each. Nothing here decides or writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spanledger.budgets.accounts import Balance
from spanledger.budgets.scopes import tags_text
from spanledger.ledger.model import (
    AttemptEnd,
    ChangeKept,
    Kept,
    Later,
    RequestEnd,
    RequestStart,
    Reservation,
    Sweep,
)

REQUEST_COLUMNS = (
    *("request_id", "trace_id", "span_id", "parent_span_id", "owner", "started_ns", "customer"),
    *("team", "key_id", "route", "operation", "stream", "decision", "user_id", "project", "tags"),
)
ATTEMPT_COLUMNS = (
    *("request_id", "number", "span_id", "owner", "started_ns", "customer", "team", "key_id"),
    *("deployment", "provider", "model", "fallback_from", "reason", "hold_nano", "price_id"),
    *("decision", "accounts", "charge_rule"),
)
"""Of an attempt that is held."""
ATTEMPT_END_COLUMNS = (
    *("state", "ended_ns", "first_chunk_ns", "chunks", "response_model", "cost_nano"),
    *("overrun_nano", "estimated", "unpriced", "error_type", "http_status", "input_tokens"),
    *("output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "detail"),
    *("content", "corrected", "list_nano", "charge_nano", "seq"),
)
"""What the end of an attempt sets; before them stand its key and the state it must be in."""
REQUEST_END_COLUMNS = (
    *("outcome", "error_type", "http_status", "ended_ns", "refused_by", "refused_scope"),
    "seq",
)
"""What the end of a request sets, besides its totals; before them stands its key."""

Row = tuple[object, ...]


class StaleError(Exception):
    """Another process ended an attempt that this one believed held: read the rows and decide again."""


class Expired(NamedTuple):
    """An attempt whose hold has expired; its cost is an estimate."""

    request_id: str
    number: int
    ended_ns: int
    cost_nano: int
    charge_nano: int | None
    seq: int


class Changes:
    """The rows of one transaction, in order of arrival.

    Attributes:
        requests: begun requests (`REQUEST_COLUMNS`); an existing row is left unchanged.
        attempts: held attempts (`ATTEMPT_COLUMNS`).
        decisions: (decision, request) for further attempts; a `warn` that is there stays.
        put_off: (request, terms) of requests whose held attempt outlives them.
        expired: held attempts that expire.
        attempt_ends: (request, number, state before), then `ATTEMPT_END_COLUMNS`. If an attempt is
            not in that state, `StaleError`.
        corrected: (number of the row, request) of requests whose cost is summed again, if they have
            ended.
        request_ends: (request), then `REQUEST_END_COLUMNS`; ends a request that has not ended or was
            abandoned. Its totals are those of its attempts.
        kept: what providers keep, and changes of that, in order.
        balances: changed balances, with their new values.
        seq: the last number that a row has got.
        lease_until_ns: our new lease; 0 if it stays.
        sweep: ended leases are forgotten.
    """

    def __init__(self, seq: int) -> None:
        self.requests: list[Row] = []
        self.attempts: list[Row] = []
        self.decisions: list[tuple[str, str]] = []
        self.put_off: list[tuple[str, Later]] = []
        self.expired: list[Expired] = []
        self.attempt_ends: list[Row] = []
        self.corrected: list[tuple[int, str]] = []
        self.request_ends: list[Row] = []
        self.kept: list[Kept | ChangeKept] = []
        self.balances: Sequence[Balance] = ()
        self.seq = seq
        self.lease_until_ns = 0
        self.sweep: Sweep | None = None

    def begin_request(self, start: RequestStart, owner: str, decision: str) -> None:
        """A request begins."""
        self.requests.append(
            (
                start.request_id,
                start.trace_id,
                start.span_id,
                start.parent_span_id,
                owner,
                start.started_ns,
                start.customer,
                start.team,
                start.key_id,
                start.route,
                start.operation,
                int(start.stream),
                decision,
                start.user,
                start.project,
                tags_text(start.tags) if start.tags else "",
            )
        )

    def hold(
        self, r: Reservation, owner: str, hold_nano: int, decision: str, accounts: str
    ) -> None:
        """An attempt is held; `accounts` is the JSON of the balances it changes."""
        request = r.request
        self.attempts.append(
            (
                request.request_id,
                r.number,
                r.span_id,
                owner,
                r.now_ns,
                request.customer,
                request.team,
                request.key_id,
                r.deployment,
                r.provider,
                r.model,
                r.fallback_from,
                r.reason,
                hold_nano,
                r.price_id,
                decision,
                accounts,
                r.charge_rule,
            )
        )

    def end_attempt(
        self,
        end: AttemptEnd,
        request_id: str,
        number: int,
        was: str,
        overrun_nano: int,
        charge_nano: int | None,
    ) -> None:
        """An attempt in state `was` ends."""
        self.seq += 1
        self.attempt_ends.append(
            (
                request_id,
                number,
                was,
                "released" if end.cost_nano is None else "settled",
                end.ended_ns,
                end.first_chunk_ns,
                end.chunks,
                end.response_model,
                end.cost_nano or 0,
                overrun_nano,
                int(end.estimated),
                int(end.unpriced),
                end.error_type,
                end.http_status,
                end.input_tokens,
                end.output_tokens,
                end.cache_read_tokens,
                end.cache_write_tokens,
                end.reasoning_tokens,
                end.detail,
                end.content,
                int(was == "expired"),
                end.list_nano,
                charge_nano,
                self.seq,
            )
        )

    def expire(
        self,
        request_id: str,
        number: int,
        ended_ns: int,
        cost_nano: int,
        charge_nano: int | None,
    ) -> None:
        """A hold expires."""
        self.seq += 1
        expired = Expired(request_id, number, ended_ns, cost_nano, charge_nano, self.seq)
        self.expired.append(expired)

    def correct_request(self, request_id: str) -> None:
        """An attempt's cost came after its request may have ended: its total is shipped again."""
        self.seq += 1
        self.corrected.append((self.seq, request_id))

    def end_request(self, request_id: str, end: RequestEnd) -> None:
        """A request ends, unless it has already."""
        self.seq += 1
        self.request_ends.append(
            (
                request_id,
                end.outcome,
                end.error_type,
                end.http_status,
                end.ended_ns,
                end.refused_by,
                end.refused_scope,
                self.seq,
            )
        )
