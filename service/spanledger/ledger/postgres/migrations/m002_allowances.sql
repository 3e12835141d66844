-- Version 2: what a budget allows each gateway process to spend while the ledger is unavailable.
ALTER TABLE spanledger.budgets ADD COLUMN allow_when_down_nano bigint NOT NULL DEFAULT 0
    CHECK (allow_when_down_nano >= 0);
