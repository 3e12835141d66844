-- Version 3: what budgets can be for besides customer, team, key, model and provider. A route was there.
-- `tags` is a JSON array, or empty.
ALTER TABLE spanledger.requests ADD COLUMN user_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE spanledger.requests ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE spanledger.requests ADD COLUMN tags text COLLATE "C" NOT NULL DEFAULT '';

-- What requests with a key have of these.
ALTER TABLE spanledger.keys ADD COLUMN user_id text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE spanledger.keys ADD COLUMN project text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE spanledger.keys ADD COLUMN tags text COLLATE "C" NOT NULL DEFAULT '';

-- 1: it limits a subject only if no other budget of its scope names the subject.
ALTER TABLE spanledger.budgets ADD COLUMN is_default smallint NOT NULL DEFAULT 0;
