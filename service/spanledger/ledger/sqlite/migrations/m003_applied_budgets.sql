-- Version 3: each configuration file's budgets as last applied, so that a start applies what has
-- changed in the file and leaves later changes by people alone.
CREATE TABLE applied_budgets (
    source     TEXT NOT NULL,    -- the file's path
    name       TEXT NOT NULL,
    budget     TEXT NOT NULL,    -- JSON, as in budget_history
    applied_ns INTEGER NOT NULL, -- when the file was last read
    listed     INTEGER NOT NULL, -- 0: the file has it no longer
    PRIMARY KEY (source, name)
) WITHOUT ROWID;

-- Changes up to this one predate this table: a file may have made any of them.
INSERT INTO state (key, value)
SELECT 'changes_of_unknown_source', coalesce(max(id), 0) FROM budget_history;
