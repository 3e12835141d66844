-- Version 8: rates, and the shares of them that processes use without asking at each request.

CREATE TABLE spanledger.rates (
    name       text COLLATE "C" PRIMARY KEY,
    scope      text NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    requests   bigint,  -- in any minute; NULL: no limit
    tokens     bigint,
    nano       bigint,
    in_flight  bigint,  -- at once
    is_default smallint NOT NULL,
    source     text NOT NULL  -- the configuration file; empty: set by command
);

-- All live shares of an account are together at most its rate's limits.
CREATE TABLE spanledger.rate_shares (
    rate      text COLLATE "C" NOT NULL,
    scope     text COLLATE "C" NOT NULL,
    subject   text COLLATE "C" NOT NULL,
    owner     text COLLATE "C" NOT NULL,
    until_ns  bigint NOT NULL,
    requests  bigint NOT NULL,
    tokens    bigint NOT NULL,
    nano      bigint NOT NULL,
    in_flight bigint NOT NULL,
    PRIMARY KEY (rate, scope, subject, owner)
);

INSERT INTO spanledger.state (key, value) VALUES ('rates_version', 1);
