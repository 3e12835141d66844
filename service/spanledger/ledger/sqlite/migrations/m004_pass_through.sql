-- Version 4: keys that may use what the gateway hands through to providers unpriced, whatever
-- budgets apply.
ALTER TABLE keys ADD COLUMN pass_through INTEGER NOT NULL DEFAULT 0;
