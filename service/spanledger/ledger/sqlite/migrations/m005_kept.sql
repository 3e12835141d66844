-- Version 5: holds that outlive their request and their gateway, and what providers keep for callers.
--
-- An attempt whose answer is still to be written is held until a time of its own. If nobody has
-- learned its cost by then, it expires and is charged what was expected.
ALTER TABLE attempts ADD COLUMN held_until_ns INTEGER NOT NULL DEFAULT 0;  -- 0: while its owner lives
ALTER TABLE attempts ADD COLUMN expected_nano INTEGER NOT NULL DEFAULT 0;  -- only with `held_until_ns`

-- Files and batches. The key is the request that made them, which the ids of callers name.
CREATE TABLE kept (
    request_id  TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,     -- file batch
    customer    TEXT NOT NULL,
    team        TEXT NOT NULL,
    deployment  TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    created_ns  INTEGER NOT NULL,
    about       TEXT NOT NULL      -- JSON: what the gateway knows of it
) WITHOUT ROWID;
CREATE INDEX kept_by_owner ON kept (customer, team, kind, request_id);
