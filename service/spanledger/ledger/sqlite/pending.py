"""Rows of one transaction, collected and written at its end with one statement per table."""

from __future__ import annotations

import sqlite3

from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation

_INSERT_REQUEST = """
INSERT OR IGNORE INTO requests (request_id, trace_id, span_id, parent_span_id, owner, started_ns,
    customer, team, key_id, route, operation, stream, decision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_INSERT_ATTEMPT = """
INSERT INTO attempts (request_id, number, span_id, owner, state, started_ns, customer, team,
    key_id, deployment, provider, model, fallback_from, reason, hold_nano, price_id, decision,
    accounts)
VALUES (?, ?, ?, ?, 'held', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_END_ATTEMPT = """
UPDATE attempts SET state = ?4, ended_ns = ?5, first_chunk_ns = ?6, chunks = ?7,
    response_model = ?8, cost_nano = ?9, overrun_nano = ?10, estimated = ?11, unpriced = ?12,
    error_type = ?13, http_status = ?14, input_tokens = ?15, output_tokens = ?16,
    cache_read_tokens = ?17, cache_write_tokens = ?18, reasoning_tokens = ?19, detail = ?20,
    content = ?21, corrected = ?22, seq = ?23
WHERE request_id = ?1 AND number = ?2 AND state = ?3"""

_END_REQUEST = """
UPDATE requests SET outcome = ?2, error_type = ?3, http_status = ?4, ended_ns = ?5,
    refused_by = ?6, refused_scope = ?7,
    decision = CASE ?2 WHEN 'refused' THEN 'deny' ELSE decision END, seq = ?8,
    (attempts, cost_nano) = (SELECT count(*), coalesce(sum(a.cost_nano), 0) FROM attempts a
                             WHERE a.request_id = requests.request_id)
WHERE request_id = ?1 AND (seq IS NULL OR outcome = 'abandoned')"""


class StaleError(Exception):
    """Another process ended an attempt that this one believed held: reread the rows and retry."""


class Pending:
    """Rows that belong to the open transaction, in order of arrival."""

    def __init__(self) -> None:
        self._requests: list[tuple[object, ...]] = []
        self._attempts: list[tuple[object, ...]] = []
        self._attempt_ends: list[tuple[object, ...]] = []
        self._request_ends: list[tuple[object, ...]] = []

    def clear(self) -> None:
        """Forget everything: the transaction is over."""
        for rows in (self._requests, self._attempts, self._attempt_ends, self._request_ends):
            rows.clear()

    def add_request(self, start: RequestStart, owner: str, decision: str) -> None:
        """A request begins; an existing row is left unchanged."""
        self._requests.append(
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
            )
        )

    def add_attempt(
        self, r: Reservation, owner: str, hold_nano: int, decision: str, accounts: str
    ) -> None:
        """An attempt is held; `accounts` is the JSON of the balances it changes."""
        request = r.request
        self._attempts.append(
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
            )
        )

    def end_attempt(
        self, end: AttemptEnd, request_id: str, number: int, was: str, overrun_nano: int, seq: int
    ) -> None:
        """An attempt in state `was` ends."""
        self._attempt_ends.append(
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
                seq,
            )
        )

    def end_request(self, request_id: str, end: RequestEnd, seq: int) -> None:
        """A request ends, unless it has already."""
        self._request_ends.append(
            (
                request_id,
                end.outcome,
                end.error_type,
                end.http_status,
                end.ended_ns,
                end.refused_by,
                end.refused_scope,
                seq,
            )
        )

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write the rows.

        Raises:
            StaleError: an attempt to be ended was not in its expected state.
        """
        if self._requests:
            connection.executemany(_INSERT_REQUEST, self._requests)
            self._requests.clear()
        if self._attempts:
            connection.executemany(_INSERT_ATTEMPT, self._attempts)
            self._attempts.clear()
        if self._attempt_ends:
            done = connection.executemany(_END_ATTEMPT, self._attempt_ends)
            if done.rowcount != len(self._attempt_ends):
                raise StaleError
            self._attempt_ends.clear()
        if self._request_ends:
            connection.executemany(_END_REQUEST, self._request_ends)
            self._request_ends.clear()
