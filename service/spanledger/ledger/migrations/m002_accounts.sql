-- Version 2: an account belongs to its budget's scope and kind of period too, so that no budget
-- inherits another's spend. Balances follow from the rows and are made anew: the accounts of all
-- budgets are opened when this has run (ledger/opening.py), in the same transaction. The `accounts`
-- of earlier tries have three parts, which mean nothing any more.
--
-- One row an account and period; old periods stay. The subject comes last, so that the accounts
-- of a budget in one period lie side by side.
DROP TABLE balances;
CREATE TABLE balances (
    budget         TEXT NOT NULL,
    scope          TEXT NOT NULL,
    period         TEXT NOT NULL,
    timezone       TEXT NOT NULL,
    period_start_s INTEGER NOT NULL,
    subject        TEXT NOT NULL,
    period_end_s   INTEGER NOT NULL,
    spent_nano     INTEGER NOT NULL DEFAULT 0,
    held_nano      INTEGER NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    overrun_nano   INTEGER NOT NULL DEFAULT 0,
    opened_seq     INTEGER NOT NULL DEFAULT 0,  -- tries settled by then count by what they are,
                                                -- later ones by their `accounts`
    PRIMARY KEY (budget, scope, period, timezone, period_start_s, subject)
) WITHOUT ROWID;

-- Tries that a late cost may still correct.
CREATE INDEX attempts_expired ON attempts (started_ns) WHERE state = 'expired';

-- A gateway of version 1 that still runs would write balances nobody reads. The first thing it
-- does in every transaction is to look into `meta`, and there it finds why it must not.
ALTER TABLE meta RENAME TO state;
CREATE VIEW meta AS
SELECT * FROM "this ledger was upgraded by a newer spanledger; restart the gateway with that one";
