-- Leases, sessions and the file's own time. Durations and instants are integer microseconds.
-- Text is compared byte by byte (BINARY, the default collation).

PRAGMA application_id = 0x42525448; -- "BRTH"

CREATE TABLE berth_schema (
    version  INTEGER NOT NULL PRIMARY KEY,
    name     TEXT NOT NULL,
    checksum TEXT NOT NULL -- SHA-256 of the migration as it was applied
) STRICT;

CREATE TABLE berth_leases (
    namespace            TEXT NOT NULL,
    name                 TEXT NOT NULL,
    version              INTEGER NOT NULL CHECK (version >= 1),
    token                INTEGER NOT NULL CHECK (token BETWEEN 1 AND 2147483647),
    semantics            TEXT NOT NULL CHECK (semantics IN ('at-most-once', 'at-least-once')),
    max_holders          INTEGER CHECK (max_holders >= 1), -- NULL: no limit
    lock_delay_us        INTEGER NOT NULL CHECK (lock_delay_us >= 0),
    tenures              TEXT NOT NULL, -- JSON, an array of objects, oldest token first; "mark" is store time
    ended_acquired_at_us INTEGER, -- the last tenure that ended: all three, or none
    ended_at_us          INTEGER,
    ended_clean          INTEGER CHECK (ended_clean IN (0, 1)),
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE berth_sessions (
    id           TEXT NOT NULL,
    version      INTEGER NOT NULL CHECK (version >= 1),
    holder       TEXT NOT NULL,
    instance     TEXT NOT NULL,
    ttl_us       INTEGER NOT NULL CHECK (ttl_us > 0),
    opened_at_us INTEGER NOT NULL,
    mark         INTEGER NOT NULL, -- store time
    ended        TEXT CHECK (ended IN ('clean', 'expired', 'forced')),
    ended_at_us  INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

-- One row: how far store time has come, and what the machine's clocks showed then.
CREATE TABLE berth_clock (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    boot_id  TEXT NOT NULL,
    boot_us  INTEGER NOT NULL,
    wall_us  INTEGER NOT NULL,
    store_us INTEGER NOT NULL
) STRICT;
