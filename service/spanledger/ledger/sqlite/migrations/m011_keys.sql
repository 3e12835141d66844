-- Version 11: keys that end, that may use some models only, and that keep their id when their secret changes.
CREATE TABLE key_secrets (
    digest   TEXT PRIMARY KEY,
    key_id   TEXT NOT NULL,
    from_ns  INTEGER NOT NULL,
    until_ns INTEGER               -- NULL: as long as its key
) WITHOUT ROWID;
CREATE INDEX key_secrets_of ON key_secrets (key_id);
INSERT INTO key_secrets SELECT digest, id, created_ns, NULL FROM keys;

-- A table cannot lose a column that must be unique.
CREATE TABLE old_keys AS SELECT * FROM keys;
DROP TABLE keys;
CREATE TABLE keys (
    id           TEXT PRIMARY KEY,
    customer     TEXT NOT NULL,
    team         TEXT NOT NULL,
    routes       TEXT NOT NULL,
    created_ns   INTEGER NOT NULL,
    revoked_ns   INTEGER,
    pass_through INTEGER NOT NULL DEFAULT 0,
    user_id      TEXT NOT NULL DEFAULT '',
    project      TEXT NOT NULL DEFAULT '',
    tags         TEXT NOT NULL DEFAULT '',
    name         TEXT NOT NULL DEFAULT '',
    expires_ns   INTEGER,
    models       TEXT NOT NULL DEFAULT '[]',
    default_user TEXT NOT NULL DEFAULT '',
    metadata     TEXT NOT NULL DEFAULT '{}',
    last_used_ns INTEGER
) WITHOUT ROWID;
INSERT INTO keys (id, customer, team, routes, created_ns, revoked_ns, pass_through, user_id, project, tags)
SELECT id, customer, team, routes, created_ns, revoked_ns, pass_through, user_id, project, tags FROM old_keys;
DROP TABLE old_keys;
CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE name != '' AND revoked_ns IS NULL;

CREATE TABLE key_history (
    id     INTEGER PRIMARY KEY,
    at_ns  INTEGER NOT NULL,
    change TEXT NOT NULL,         -- create import set rotate revoke
    key_id TEXT NOT NULL,
    key    TEXT NOT NULL          -- JSON
);
