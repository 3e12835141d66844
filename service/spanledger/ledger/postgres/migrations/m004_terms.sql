-- Version 4: what budgets do near their limit, what is noted of their limits, and when accounts near their
-- limit let requests through.
ALTER TABLE spanledger.budgets ADD COLUMN terms text NOT NULL DEFAULT '{}';
ALTER TABLE spanledger.balances ADD COLUMN paced text NOT NULL DEFAULT '';
