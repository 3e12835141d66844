-- Version 7: notices on budgets. A notice is one fact: its id follows from the account, the period and
-- the step, so that it is found once however often it is looked for. A delivery is a notice on its way to one destination.
CREATE TABLE spanledger.notices (
    id        text COLLATE "C" PRIMARY KEY,
    account   text COLLATE "C" NOT NULL,   -- JSON: the key of its balance
    step      text COLLATE "C" NOT NULL,   -- a percentage, forecast or renewed
    at_ns     bigint NOT NULL,
    until_s   bigint NOT NULL,             -- the end of the period that it is about
    data      text NOT NULL,               -- JSON: the figures as they were
    is_open   smallint NOT NULL DEFAULT 1  -- until its period has ended, and that was dealt with
);
CREATE INDEX notices_open ON spanledger.notices (until_s) WHERE is_open = 1;

CREATE TABLE spanledger.notice_deliveries (
    id          text COLLATE "C" NOT NULL,
    destination text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL, -- waiting sent failed
    attempts    integer NOT NULL DEFAULT 0,
    due_ns      bigint NOT NULL,           -- when it is sent next, or was sent last
    error       text NOT NULL DEFAULT '',  -- what went wrong the last time
    PRIMARY KEY (id, destination)
);
CREATE INDEX notice_deliveries_due ON spanledger.notice_deliveries (destination, due_ns)
    WHERE state = 'waiting';
CREATE INDEX notice_deliveries_failed ON spanledger.notice_deliveries (destination)
    WHERE state = 'failed';

-- How many each destination has got. Notices are forgotten, this is not.
CREATE TABLE spanledger.notice_totals (
    destination text COLLATE "C" PRIMARY KEY,
    sent        bigint NOT NULL
);
