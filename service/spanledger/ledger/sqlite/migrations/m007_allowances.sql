-- Version 7: what a budget allows each gateway process to spend while the ledger is unavailable.
ALTER TABLE budgets ADD COLUMN allow_when_down_nano INTEGER NOT NULL DEFAULT 0
    CHECK (allow_when_down_nano >= 0);
