-- Version 9: what budgets do near their limit, what is noted of their limits, and when accounts near their
-- limit let requests through.
ALTER TABLE budgets ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
ALTER TABLE balances ADD COLUMN paced TEXT NOT NULL DEFAULT '';
