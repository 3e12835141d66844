-- Version 2: an account now also belongs to its budget's scope and kind of period, so no budget
-- inherits another's spend. Balances follow from the rows and are recreated: the accounts of all
-- budgets are opened after this script (`opening.py`), in the same transaction. The `accounts`
-- of earlier attempts have three parts and are ignored.
--
-- One row per account and period; old periods stay. The subject comes last, so the accounts of a
-- budget in one period are stored next to each other.
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

-- Attempts that a late cost may still correct.
CREATE INDEX attempts_expired ON attempts (started_ns) WHERE state = 'expired';

-- A gateway of version 1 that is still running would write balances nobody reads. It begins every
-- transaction by reading `meta`, where it now gets an error that says why it must stop.
ALTER TABLE meta RENAME TO state;
CREATE VIEW meta AS
SELECT * FROM "this ledger was upgraded by a newer spanledger; restart the gateway with that one";
