-- Version 8: what budgets can be for besides customer, team, key, model and provider. A route was there.
-- `tags` is a JSON array, or empty.
ALTER TABLE requests ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN tags TEXT NOT NULL DEFAULT '';

-- What requests with a key have of these.
ALTER TABLE keys ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN tags TEXT NOT NULL DEFAULT '';

-- 1: it limits a subject only if no other budget of its scope names the subject.
ALTER TABLE budgets ADD COLUMN is_default INTEGER NOT NULL DEFAULT 0;
