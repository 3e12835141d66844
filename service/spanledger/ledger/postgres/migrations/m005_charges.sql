-- Version 5: what an attempt would cost at the list price, and what its customer is charged. NULL is what it
-- costs, which it is for every attempt without rules, and so for those before this version.
ALTER TABLE spanledger.attempts ADD COLUMN charge_rule text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE spanledger.attempts ADD COLUMN list_nano bigint;
ALTER TABLE spanledger.attempts ADD COLUMN charge_nano bigint;
