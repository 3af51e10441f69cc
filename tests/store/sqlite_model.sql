-- The schema as all migrations together must leave it.

CREATE TABLE berth_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL
) STRICT;

CREATE TABLE berth_leases (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    token INTEGER NOT NULL CHECK (token BETWEEN 1 AND 2147483647),
    semantics TEXT NOT NULL CHECK (semantics IN ('at-most-once', 'at-least-once')),
    max_holders INTEGER CHECK (max_holders >= 1),
    lock_delay_us INTEGER NOT NULL CHECK (lock_delay_us >= 0),
    tenures TEXT NOT NULL,
    ended_acquired_at_us INTEGER,
    ended_at_us INTEGER,
    ended_clean INTEGER CHECK (ended_clean IN (0, 1)),
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE berth_sessions (
    id TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    holder TEXT NOT NULL,
    instance TEXT NOT NULL,
    ttl_us INTEGER NOT NULL CHECK (ttl_us > 0),
    opened_at_us INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    ended TEXT CHECK (ended IN ('clean', 'expired', 'forced')),
    ended_at_us INTEGER,
    PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE berth_clock (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    boot_id TEXT NOT NULL,
    boot_us INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    store_us INTEGER NOT NULL
) STRICT;

CREATE TABLE berth_fence (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    token_floor INTEGER NOT NULL CHECK (token_floor BETWEEN 0 AND 2147483647),
    closed_until_us INTEGER NOT NULL,
    ttl_max_us INTEGER NOT NULL
) STRICT;
