-- Version 12: notices on budgets. A notice is one fact: its id follows from the account, the period and
-- the step, so that it is found once however often it is looked for. A delivery is a notice on its way to one destination.
CREATE TABLE notices (
    id        TEXT PRIMARY KEY,
    account   TEXT NOT NULL,               -- JSON: the key of its balance
    step      TEXT NOT NULL,               -- a percentage, forecast or renewed
    at_ns     INTEGER NOT NULL,
    until_s   INTEGER NOT NULL,            -- the end of the period that it is about
    data      TEXT NOT NULL,               -- JSON: the figures as they were
    is_open   INTEGER NOT NULL DEFAULT 1   -- until its period has ended, and that was dealt with
) WITHOUT ROWID;
CREATE INDEX notices_open ON notices (until_s) WHERE is_open = 1;

CREATE TABLE notice_deliveries (
    id          TEXT NOT NULL,
    destination TEXT NOT NULL,
    state       TEXT NOT NULL,             -- waiting sent failed
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_ns      INTEGER NOT NULL,          -- when it is sent next, or was sent last
    error       TEXT NOT NULL DEFAULT '',  -- what went wrong the last time
    PRIMARY KEY (id, destination)
) WITHOUT ROWID;
CREATE INDEX notice_deliveries_due ON notice_deliveries (destination, due_ns) WHERE state = 'waiting';
CREATE INDEX notice_deliveries_failed ON notice_deliveries (destination) WHERE state = 'failed';

-- How many each destination has got. Notices are forgotten, this is not.
CREATE TABLE notice_totals (
    destination TEXT PRIMARY KEY,
    sent        INTEGER NOT NULL
) WITHOUT ROWID;
