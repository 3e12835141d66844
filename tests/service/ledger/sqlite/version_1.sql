-- A ledger as spanledger 0.1.0 left it (schema version 1) at 2026-11-23 12:00:40 UTC, with a gateway,
-- `alive`, that has holds open and a lease of 30 s; another, `dead`, had one that expired. Budget
-- `moved` was a day and became a month, `reused` was a team's and became a customer's of the same
-- name, `gone` was removed; the first try came before any budget.
BEGIN TRANSACTION;
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
INSERT INTO "attempts" VALUES('req_000000000000000000000001',1,'1000000000000001','alive','settled',1794571200000000000,1794571200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',40000000,30000000,0,'book/gpt-4o-mini',0,0,0,'','[]','',0,10,20,0,0,0,'{}',NULL,NULL,1);
INSERT INTO "attempts" VALUES('req_000000000000000000000002',1,'1000000000000002','alive','settled',1794571200000000000,1794571200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',40000000,40000000,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["gone", "acme", 1793491200], ["moved", "acme", 1794528000], ["each", "acme", 1794528000], ["red", "red", 1794178800], ["reused", "red", 1793491200], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,3);
INSERT INTO "attempts" VALUES('req_000000000000000000000003',1,'1000000000000003','alive','settled',1794571200000000000,1794571200000000000,0,0,'globex','','','d1','openai','gpt-4o-mini','','','',40000000,10000000,0,'book/gpt-4o-mini',0,0,0,'allow','[["each", "globex", 1794528000], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,5);
INSERT INTO "attempts" VALUES('req_000000000000000000000004',1,'1000000000000004','alive','settled',1795348800000000000,1795348800000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',100000000,80000000,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["gone", "acme", 1793491200], ["moved", "acme", 1795305600], ["each", "acme", 1795305600], ["red", "red", 1794783600], ["reused", "red", 1793491200], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,7);
INSERT INTO "attempts" VALUES('req_000000000000000000000005',1,'1000000000000005','alive','held',1795391995000000000,NULL,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',70000000,0,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["gone", "acme", 1793491200], ["moved", "acme", 1795305600], ["each", "acme", 1795305600], ["red", "red", 1795388400], ["reused", "red", 1793491200], ["all", "*", 1793491200]]','',0,0,0,0,0,0,'{}',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES('req_000000000000000000000006',1,'1000000000000006','alive','settled',1795435200000000000,1795435200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',50000000,90000000,40000000,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,9);
INSERT INTO "attempts" VALUES('req_000000000000000000000007',1,'1000000000000007','alive','released',1795435200000000000,1795435200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',50000000,0,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,11);
INSERT INTO "attempts" VALUES('req_000000000000000000000008',1,'1000000000000008','alive','settled',1795435200000000000,1795435200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',30000000,20000000,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,13);
INSERT INTO "attempts" VALUES('req_000000000000000000000008',2,'1000000000000009','alive','settled',1795435200000000000,1795435200000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',20000000,10000000,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','',0,10,20,0,0,0,'{}',NULL,NULL,14);
INSERT INTO "attempts" VALUES('req_00000000000000000000000a',1,'100000000000000a','dead','expired',1795435200000000000,1795435240000000000,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',60000000,60000000,0,'book/gpt-4o-mini',1,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','expired',0,0,0,0,0,0,'{}',NULL,NULL,16);
INSERT INTO "attempts" VALUES('req_00000000000000000000000c',1,'100000000000000c','alive','held',1795435240000000000,NULL,0,0,'acme','red','key_abababababab','d1','openai','gpt-4o-mini','','','',110000000,0,0,'book/gpt-4o-mini',0,0,0,'allow','[["acme", "acme", 1793491200], ["moved", "acme", 1793491200], ["each", "acme", 1795392000], ["red", "red", 1795388400], ["all", "*", 1793491200]]','',0,0,0,0,0,0,'{}',NULL,NULL,NULL);
INSERT INTO "attempts" VALUES('req_00000000000000000000000d',1,'100000000000000d','alive','held',1795435240000000000,NULL,0,0,'globex','','','d1','openai','gpt-4o-mini','','','',20000000,0,0,'book/gpt-4o-mini',0,0,0,'allow','[["each", "globex", 1795392000], ["all", "*", 1793491200]]','',0,0,0,0,0,0,'{}',NULL,NULL,NULL);
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
INSERT INTO "balances" VALUES('acme','acme',1793491200,1796083200,300000000,180000000,40000000);
INSERT INTO "balances" VALUES('all','*',1793491200,1796083200,310000000,200000000,40000000);
INSERT INTO "balances" VALUES('each','acme',1794528000,1794614400,40000000,0,0);
INSERT INTO "balances" VALUES('each','acme',1795305600,1795392000,80000000,70000000,0);
INSERT INTO "balances" VALUES('each','acme',1795392000,1795478400,180000000,110000000,40000000);
INSERT INTO "balances" VALUES('each','globex',1794528000,1794614400,10000000,0,0);
INSERT INTO "balances" VALUES('each','globex',1795392000,1795478400,0,20000000,0);
INSERT INTO "balances" VALUES('gone','acme',1793491200,1796083200,120000000,70000000,0);
INSERT INTO "balances" VALUES('moved','acme',1793491200,1796083200,180000000,110000000,40000000);
INSERT INTO "balances" VALUES('moved','acme',1794528000,1794614400,40000000,0,0);
INSERT INTO "balances" VALUES('moved','acme',1795305600,1795392000,80000000,70000000,0);
INSERT INTO "balances" VALUES('red','red',1794178800,1794783600,40000000,0,0);
INSERT INTO "balances" VALUES('red','red',1794783600,1795388400,80000000,0,0);
INSERT INTO "balances" VALUES('red','red',1795388400,1795993200,180000000,180000000,40000000);
INSERT INTO "balances" VALUES('reused','red',1793491200,1796083200,120000000,70000000,0);
CREATE TABLE budget_history (
    id     INTEGER PRIMARY KEY,
    at_ns  INTEGER NOT NULL,
    change TEXT NOT NULL,
    name   TEXT NOT NULL,
    budget TEXT NOT NULL
);
INSERT INTO "budget_history" VALUES(1,1794571200000000000,'set','acme','{"name": "acme", "scope": "customer", "subject": "acme", "limit_nano": 1000000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(2,1794571200000000000,'set','each','{"name": "each", "scope": "customer", "subject": "*", "limit_nano": 500000000, "period": "day", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(3,1794571200000000000,'set','all','{"name": "all", "scope": "global", "subject": "*", "limit_nano": 5000000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(4,1794571200000000000,'set','moved','{"name": "moved", "scope": "customer", "subject": "acme", "limit_nano": 500000000, "period": "day", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(5,1794571200000000000,'set','reused','{"name": "reused", "scope": "team", "subject": "red", "limit_nano": 9000000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(6,1794571200000000000,'set','gone','{"name": "gone", "scope": "customer", "subject": "acme", "limit_nano": 9000000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(7,1794571200000000000,'set','red','{"name": "red", "scope": "team", "subject": "red", "limit_nano": 9000000000, "period": "week", "timezone": "Europe/Berlin", "action": "warn", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(8,1795435200000000000,'remove','gone','{"name": "gone", "scope": "customer", "subject": "acme", "limit_nano": 9000000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(9,1795435200000000000,'set','moved','{"name": "moved", "scope": "customer", "subject": "acme", "limit_nano": 500000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
INSERT INTO "budget_history" VALUES(10,1795435200000000000,'set','reused','{"name": "reused", "scope": "customer", "subject": "red", "limit_nano": 400000000, "period": "month", "timezone": "UTC", "action": "block", "thresholds": [50, 80, 95], "strict": false}');
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
INSERT INTO "budgets" VALUES('acme','customer','acme',1000000000,'month','UTC','block','[50, 80, 95]',0);
INSERT INTO "budgets" VALUES('all','global','*',5000000000,'month','UTC','block','[50, 80, 95]',0);
INSERT INTO "budgets" VALUES('each','customer','*',500000000,'day','UTC','block','[50, 80, 95]',0);
INSERT INTO "budgets" VALUES('moved','customer','acme',500000000,'month','UTC','block','[50, 80, 95]',0);
INSERT INTO "budgets" VALUES('red','team','red',9000000000,'week','Europe/Berlin','warn','[50, 80, 95]',0);
INSERT INTO "budgets" VALUES('reused','customer','red',400000000,'month','UTC','block','[50, 80, 95]',0);
CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE,
    customer   TEXT NOT NULL,
    team       TEXT NOT NULL,
    routes     TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    revoked_ns INTEGER
) WITHOUT ROWID;
INSERT INTO "keys" VALUES('key_abababababab','2718f9cf1a0ca0a9338d1ebb28ac6f75ec8fc267b8c28d26992d6a29c6d63ecc','acme','red','[]',1794571200000000000,NULL);
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('budgets_version',3);
INSERT INTO "meta" VALUES('keys_version',2);
INSERT INTO "meta" VALUES('seq',18);
CREATE TABLE owners (
    id       TEXT PRIMARY KEY,
    lease_ns INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "owners" VALUES('alive',1795435270000000000);
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
INSERT INTO "requests" VALUES('req_000000000000000000000001','00000000000000000000000000000001','0000000000000001','','alive',1794571200000000000,1794571200000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',1,30000000,'',NULL,2);
INSERT INTO "requests" VALUES('req_000000000000000000000002','00000000000000000000000000000002','0000000000000002','','alive',1794571200000000000,1794571200000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',1,40000000,'allow',NULL,4);
INSERT INTO "requests" VALUES('req_000000000000000000000003','00000000000000000000000000000003','0000000000000003','','alive',1794571200000000000,1794571200000000000,'globex','','','chat','chat',0,'ok','',200,'','',1,10000000,'allow',NULL,6);
INSERT INTO "requests" VALUES('req_000000000000000000000004','00000000000000000000000000000004','0000000000000004','','alive',1795348800000000000,1795348800000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',1,80000000,'allow',NULL,8);
INSERT INTO "requests" VALUES('req_000000000000000000000005','00000000000000000000000000000005','0000000000000005','','alive',1795391995000000000,NULL,'acme','red','key_abababababab','chat','chat',0,NULL,'',0,'','',0,0,'allow',NULL,NULL);
INSERT INTO "requests" VALUES('req_000000000000000000000006','00000000000000000000000000000006','0000000000000006','','alive',1795435200000000000,1795435200000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',1,90000000,'allow',NULL,10);
INSERT INTO "requests" VALUES('req_000000000000000000000007','00000000000000000000000000000007','0000000000000007','','alive',1795435200000000000,1795435200000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',1,0,'allow',NULL,12);
INSERT INTO "requests" VALUES('req_000000000000000000000008','00000000000000000000000000000008','0000000000000008','','alive',1795435200000000000,1795435200000000000,'acme','red','key_abababababab','chat','chat',0,'ok','',200,'','',2,30000000,'allow',NULL,15);
INSERT INTO "requests" VALUES('req_00000000000000000000000a','0000000000000000000000000000000a','000000000000000a','','dead',1795435200000000000,1795435240000000000,'acme','red','key_abababababab','chat','chat',0,'abandoned','abandoned',0,'','',1,60000000,'allow',NULL,17);
INSERT INTO "requests" VALUES('req_00000000000000000000000b','0000000000000000000000000000000b','000000000000000b','','alive',1795435240000000000,1795435240000000000,'acme','red','key_abababababab','chat','chat',0,'refused','budget_exceeded',429,'acme','customer',0,0,'deny',NULL,18);
INSERT INTO "requests" VALUES('req_00000000000000000000000c','0000000000000000000000000000000c','000000000000000c','','alive',1795435240000000000,NULL,'acme','red','key_abababababab','chat','chat',0,NULL,'',0,'','',0,0,'allow',NULL,NULL);
INSERT INTO "requests" VALUES('req_00000000000000000000000d','0000000000000000000000000000000d','000000000000000d','','alive',1795435240000000000,NULL,'globex','','','chat','chat',0,NULL,'',0,'','',0,0,'allow',NULL,NULL);
CREATE TABLE ship_cursor (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
);
INSERT INTO "ship_cursor" VALUES(1,0);
CREATE TABLE ship_points (
    metric     TEXT NOT NULL,
    attributes TEXT NOT NULL,          -- JSON object, keys sorted
    since_ns   INTEGER NOT NULL,       -- start time of the series
    point      TEXT NOT NULL,          -- JSON: the aggregate
    PRIMARY KEY (metric, attributes)
) WITHOUT ROWID;
CREATE UNIQUE INDEX requests_seq ON requests (seq) WHERE seq IS NOT NULL;
CREATE INDEX requests_running ON requests (owner) WHERE seq IS NULL;
CREATE INDEX requests_started ON requests (started_ns);
CREATE UNIQUE INDEX attempts_seq ON attempts (seq) WHERE seq IS NOT NULL;
CREATE INDEX attempts_open ON attempts (owner) WHERE state = 'held';
CREATE INDEX attempts_started ON attempts (started_ns);
COMMIT;
