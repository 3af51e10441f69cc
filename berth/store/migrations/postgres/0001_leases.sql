-- Leases and sessions. The first eight columns of berth_leases are those of skaphos/berth, whose table is taken
-- over where it is found: they hold a lease of one tenure by ttl, or a free one, in full. Text is compared byte
-- by byte; every instant is the database's own.

CREATE TABLE berth_schema (
    version  integer NOT NULL PRIMARY KEY,
    name     text NOT NULL,
    checksum text NOT NULL -- SHA-256 of the migration as it was applied
);

CREATE TABLE IF NOT EXISTS berth_leases (
    namespace     text NOT NULL,
    name          text NOT NULL,
    holder        text NOT NULL, -- empty: free
    ttl_ms        bigint NOT NULL,
    acquired_at   timestamptz NOT NULL,
    renewed_at    timestamptz NOT NULL,
    fencing_token integer NOT NULL,
    version       bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (namespace, name)
);

ALTER TABLE berth_leases
    ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 1,
    ADD COLUMN extra         jsonb, -- what the columns above have no room for
    ADD COLUMN extra_version bigint NOT NULL DEFAULT 0, -- the version it belongs to; another one has none
    ADD COLUMN incarnation   integer NOT NULL DEFAULT 0, -- of the database when the token was issued
    ALTER COLUMN namespace TYPE text COLLATE "C",
    ALTER COLUMN name      TYPE text COLLATE "C",
    SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- What was renewed by other clocks counts as renewed now: so none of it ends early.
UPDATE berth_leases SET renewed_at = statement_timestamp(), version = version + 1 WHERE holder <> '';

CREATE TABLE berth_sessions (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    version    bigint NOT NULL,
    holder     text NOT NULL,
    instance   text NOT NULL,
    ttl_us     bigint NOT NULL,
    opened_at  timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL,
    ended      text, -- clean, expired or forced
    ended_at   timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- One row: which database this is, and how often it turned out to be another than before.
CREATE TABLE berth_meta (
    one         integer NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    identity    text NOT NULL DEFAULT '', -- of the server and its timeline, as last seen
    incarnation integer NOT NULL DEFAULT 0, -- grows by one where writes may have been lost
    changed_at  timestamptz, -- when it last grew
    ttl_max_us  bigint NOT NULL DEFAULT 0, -- no longer ttl, lock delay included, was ever granted
    pinged_at   timestamptz
) WITH (fillfactor = 50);

INSERT INTO berth_meta DEFAULT VALUES;
