-- The ledger, version 1. Times ending in _ns are Unix nanoseconds, in _s Unix seconds;
-- money ending in _nano is nano-USD. Attempt and request rows are the outbox: `seq` is assigned in
-- commit order when a row ends, and the shipper's cursor follows it.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
-- budgets_version and keys_version increase with each change, so every process notices it;
-- seq is the last number assigned to an ended row.
INSERT INTO meta (key, value) VALUES ('budgets_version', 1), ('keys_version', 1), ('seq', 0);

CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE,
    customer   TEXT NOT NULL,
    team       TEXT NOT NULL,
    routes     TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    revoked_ns INTEGER
) WITHOUT ROWID;

CREATE TABLE budgets (
    name       TEXT PRIMARY KEY,
    scope      TEXT NOT NULL,
    subject    TEXT NOT NULL,
    limit_nano INTEGER NOT NULL CHECK (limit_nano >= 0),
    period     TEXT NOT NULL,
    timezone   TEXT NOT NULL,
    action     TEXT NOT NULL,
    thresholds TEXT NOT NULL,
    strict     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE budget_history (
    id     INTEGER PRIMARY KEY,
    at_ns  INTEGER NOT NULL,
    change TEXT NOT NULL,
    name   TEXT NOT NULL,
    budget TEXT NOT NULL
);

-- One row per account and period; old periods stay.
CREATE TABLE balances (
    budget         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    period_start_s INTEGER NOT NULL,
    period_end_s   INTEGER NOT NULL,
    spent_nano     INTEGER NOT NULL DEFAULT 0,
    held_nano      INTEGER NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    overrun_nano   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, subject, period_start_s)
) WITHOUT ROWID;

-- Gateways with open holds; when the lease of one ends, the sweep expires its holds.
CREATE TABLE owners (
    id       TEXT PRIMARY KEY,
    lease_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE requests (
    request_id     TEXT PRIMARY KEY,
    trace_id       TEXT NOT NULL,
    span_id        TEXT NOT NULL,
    parent_span_id TEXT NOT NULL,
    owner          TEXT NOT NULL,
    started_ns     INTEGER NOT NULL,
    ended_ns       INTEGER,
    customer       TEXT NOT NULL,
    team           TEXT NOT NULL,
    key_id         TEXT NOT NULL,
    route          TEXT NOT NULL,
    operation      TEXT NOT NULL,
    stream         INTEGER NOT NULL,
    outcome        TEXT,               -- ok error refused cancelled abandoned; NULL = running
    error_type     TEXT NOT NULL DEFAULT '',
    http_status    INTEGER NOT NULL DEFAULT 0,
    refused_by     TEXT NOT NULL DEFAULT '',
    refused_scope  TEXT NOT NULL DEFAULT '',
    attempts       INTEGER NOT NULL DEFAULT 0,
    cost_nano      INTEGER NOT NULL DEFAULT 0,
    decision       TEXT NOT NULL DEFAULT '',  -- allow warn deny; '' = no budget was asked
    shipped_nano   INTEGER,            -- what the shipper counted of an abandoned request
    seq            INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX requests_seq ON requests (seq) WHERE seq IS NOT NULL;
CREATE INDEX requests_running ON requests (owner) WHERE seq IS NULL;
CREATE INDEX requests_started ON requests (started_ns);

CREATE TABLE attempts (
    request_id     TEXT NOT NULL,
    number         INTEGER NOT NULL,   -- 1 for the first try
    span_id        TEXT NOT NULL,
    owner          TEXT NOT NULL,
    state          TEXT NOT NULL,      -- held settled released expired
    started_ns     INTEGER NOT NULL,
    ended_ns       INTEGER,
    first_chunk_ns INTEGER NOT NULL DEFAULT 0,
    chunks         INTEGER NOT NULL DEFAULT 0,
    customer       TEXT NOT NULL,
    team           TEXT NOT NULL,
    key_id         TEXT NOT NULL,
    deployment     TEXT NOT NULL,
    provider       TEXT NOT NULL,
    model          TEXT NOT NULL,
    response_model TEXT NOT NULL DEFAULT '',
    fallback_from  TEXT NOT NULL DEFAULT '',
    reason         TEXT NOT NULL DEFAULT '',
    hold_nano      INTEGER NOT NULL,
    cost_nano      INTEGER NOT NULL DEFAULT 0,
    overrun_nano   INTEGER NOT NULL DEFAULT 0,
    price_id       TEXT NOT NULL,
    estimated      INTEGER NOT NULL DEFAULT 0,
    unpriced       INTEGER NOT NULL DEFAULT 0,
    corrected      INTEGER NOT NULL DEFAULT 0,  -- a real cost came after the hold had expired
    decision       TEXT NOT NULL,      -- allow warn; '' = no budget applies
    accounts       TEXT NOT NULL,      -- JSON [[budget, subject, period_start_s], …] it moves
    error_type     TEXT NOT NULL DEFAULT '',
    http_status    INTEGER NOT NULL DEFAULT 0,
    input_tokens   INTEGER NOT NULL DEFAULT 0,
    output_tokens  INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens  INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens   INTEGER NOT NULL DEFAULT 0,
    detail         TEXT NOT NULL DEFAULT '{}',
    content        TEXT,
    shipped_nano   INTEGER,            -- what the shipper counted of an expired try, for a correction
    seq            INTEGER,
    PRIMARY KEY (request_id, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX attempts_seq ON attempts (seq) WHERE seq IS NOT NULL;
CREATE INDEX attempts_open ON attempts (owner) WHERE state = 'held';
CREATE INDEX attempts_started ON attempts (started_ns);

-- The shipper's own: its cursor, and the durable aggregates behind every metric point.
CREATE TABLE ship_cursor (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
);
INSERT INTO ship_cursor (id, seq) VALUES (1, 0);

CREATE TABLE ship_points (
    metric     TEXT NOT NULL,
    attributes TEXT NOT NULL,          -- JSON object, keys sorted
    since_ns   INTEGER NOT NULL,       -- start time of the series
    point      TEXT NOT NULL,          -- JSON: the aggregate
    PRIMARY KEY (metric, attributes)
) WITHOUT ROWID;
