-- Version 10: what an attempt would cost at the list price, and what its customer is charged. NULL is what it
-- costs, which it is for every attempt without rules, and so for those before this version.
ALTER TABLE attempts ADD COLUMN charge_rule TEXT NOT NULL DEFAULT '';  -- JSON [name, share, of]
ALTER TABLE attempts ADD COLUMN list_nano INTEGER;
ALTER TABLE attempts ADD COLUMN charge_nano INTEGER;
