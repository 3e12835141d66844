"""The shipper's rows in SQL: what a batch is read from, and what an accepted one changes."""

from __future__ import annotations

from spanledger.ledger.rows import Advance, AttemptRow, RequestRow
from spanledger.ledger.sql.port import Sql

MAX_BATCH_BYTES = 4 * 2**20
"""Content in one batch; a collector accepts 20 MiB by default, and memory is not free."""

SHIPPED_ATTEMPT = """
a.seq, a.request_id, a.number, r.trace_id, a.span_id, r.span_id, r.route, r.operation,
r.stream, a.state, a.started_ns, a.ended_ns, a.first_chunk_ns, a.chunks, a.customer, a.team,
a.key_id, a.deployment, a.provider, a.model, a.response_model, a.fallback_from, a.reason,
a.cost_nano, a.overrun_nano, a.price_id, a.estimated, a.unpriced, a.corrected, a.decision,
a.error_type, a.http_status, a.input_tokens, a.output_tokens, a.cache_read_tokens,
a.cache_write_tokens, a.reasoning_tokens, a.detail, a.content, a.shipped_nano,
r.parent_span_id, r.user_id, r.project, r.tags, a.charge_rule, a.list_nano, a.charge_nano,
a.hold_nano"""
"""Of an `AttemptRow`, behind its lane; the attempt is `a`, its request `r`."""

SHIPPED_REQUEST = """
r.seq, r.request_id, r.trace_id, r.span_id, r.parent_span_id, r.started_ns, r.ended_ns, r.customer,
r.team, r.key_id, r.route, r.operation, r.outcome, r.error_type, r.http_status, r.refused_by,
r.refused_scope, r.attempts, r.cost_nano, r.decision, r.shipped_nano,
CASE WHEN EXISTS (SELECT 1 FROM attempts a WHERE a.request_id = r.request_id AND a.seq IS NULL)
    THEN 1 ELSE 0 END, r.user_id, r.project, r.tags"""
"""Of a `RequestRow`, behind its lane; the request is `r`."""

POINTS = "SELECT metric, attributes, since_ns, point FROM ship_points"

_WRITE_POINT = """
INSERT INTO ship_points (metric, attributes, since_ns, point)
VALUES (:metric, :attributes, :since_ns, :point)
ON CONFLICT (metric, attributes) DO UPDATE SET since_ns = excluded.since_ns, point = excluded.point"""
_REMEMBER_ATTEMPT = """
UPDATE attempts SET shipped_nano = :cost WHERE request_id = :request AND number = :number"""
_REMEMBER_REQUEST = "UPDATE requests SET shipped_nano = :cost WHERE request_id = :request"
_DROP_CONTENT = """
UPDATE attempts SET content = NULL
WHERE request_id = :request AND number = :number AND seq = :seq"""


def write_shipped(sql: Sql, advance: Advance) -> None:
    """Write what an accepted batch changes, besides the cursor."""
    attempts = [row for row in advance.remembered if isinstance(row, AttemptRow)]
    requests = [row for row in advance.remembered if isinstance(row, RequestRow)]
    sql.many(
        _WRITE_POINT,
        [{**point._asdict(), "point": point.point.decode()} for point in advance.points],
    )
    sql.many(
        _REMEMBER_ATTEMPT,
        [{"cost": r.cost_nano, "request": r.request_id, "number": r.number} for r in attempts],
    )
    sql.many(_REMEMBER_REQUEST, [{"cost": r.cost_nano, "request": r.request_id} for r in requests])
    # A row corrected in the meantime has new content, which is not shipped yet.
    sql.many(
        _DROP_CONTENT,
        [{"request": r.request_id, "number": r.number, "seq": r.seq} for r in advance.with_content],
    )
