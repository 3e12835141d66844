-- Version 13: rates, and the shares of them that processes use without asking at each request.

CREATE TABLE rates (
    name       TEXT PRIMARY KEY,
    scope      TEXT NOT NULL,
    subject    TEXT NOT NULL,
    requests   INTEGER,  -- in any minute; NULL: no limit
    tokens     INTEGER,
    nano       INTEGER,
    in_flight  INTEGER,  -- at once
    is_default INTEGER NOT NULL,
    source     TEXT NOT NULL  -- the configuration file; empty: set by command
) STRICT, WITHOUT ROWID;

-- All live shares of an account are together at most its rate's limits.
CREATE TABLE rate_shares (
    rate      TEXT NOT NULL,
    scope     TEXT NOT NULL,
    subject   TEXT NOT NULL,
    owner     TEXT NOT NULL,
    until_ns  INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    tokens    INTEGER NOT NULL,
    nano      INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    PRIMARY KEY (rate, scope, subject, owner)
) STRICT, WITHOUT ROWID;

INSERT INTO state (key, value) VALUES ('rates_version', 1);
